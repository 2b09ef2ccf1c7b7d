"""The meters of one switch: those that its desired flows refer to, those that it has, and the difference.

Meters are compared like flows, with what the switch reports. Meters with numbers that are not Headgate's are left
alone. The messages are in `controller.openflow.meter_messages`. No input or output here.

Example. The first desired flow with meter 9 comes: `references` has 9, and `changes` adds the meter before the bundle.
When the last such flow goes, `changes` deletes it after the bundle.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flows.pipeline.pod_limits import NO_RATES, Limit, MeterBand, Rates, read_meter

# A meter is the first instruction of a flow (OpenFlow 1.4.1 section 7.2.4): type 6, 8 bytes, the meter's number.
_METER = struct.Struct("!HHI")
_HEAD = struct.pack("!HH", 6, _METER.size)
MAX_ENDED = 4096  # meters of a switch that are deleted before somebody takes their last counters


class MeterCounters(NamedTuple):
    """How many packets a meter dropped. `duration` is the age of the meter in seconds."""

    packets: int
    duration: int


class MeterReport(NamedTuple):
    """The meters of a switch: how many it can have, and of Headgate's the band (None for one that Headgate would not
    make) and the packets dropped, by number."""

    most: int
    there: Mapping[int, MeterBand | None]
    dropped: Mapping[int, MeterCounters]


class MeterChanges(NamedTuple):
    """Changes of meters: adds and modifies before the bundle whose flows refer to them, deletes after it."""

    adds: Mapping[int, MeterBand]
    modifies: Mapping[int, MeterBand]
    deletes: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.adds or self.modifies or self.deletes)


NO_METER_CHANGES = MeterChanges({}, {}, ())


def meter_of(instructions: bytes) -> int | None:
    """The number of the meter in a flow's encoded instructions; None without one."""
    return int(_METER.unpack_from(instructions)[2]) if instructions[:4] == _HEAD else None


@dataclass(slots=True)
class MeterLedger:
    """`references` counts the desired flows by meter. `refused` is why the switch cannot have meters, else "".

    `most` is how many it can have, None before the first dump. `ended` has the last counters of meters that were
    deleted, until they are taken; of more than MAX_ENDED the oldest are forgotten.
    """

    rates: Rates = NO_RATES
    references: dict[int, int] = field(default_factory=dict)
    there: dict[int, MeterBand | None] = field(default_factory=dict)
    dropped: Mapping[int, MeterCounters] = field(default_factory=dict)
    ended: deque[tuple[int, MeterCounters]] = field(default_factory=lambda: deque(maxlen=MAX_ENDED))
    most: int | None = None
    refused: str = ""
    _dirty: set[int] = field(default_factory=set)  # meters that may differ from the desired ones

    def restart(self, bodies: Iterable[bytes]) -> None:
        """All desired flows are new: these are their instructions."""
        self._dirty.update(self.references)
        self.references.clear()
        self.follow((instructions, 1) for instructions in bodies)

    def forget(self) -> None:
        """A new session: the switch may accept meters now."""
        self.refused = ""

    def follow(self, bodies: Iterable[tuple[bytes, int]]) -> None:
        """Flows with these instructions came (1) or went (-1)."""
        for instructions, change in bodies:
            number = meter_of(instructions)
            if number is not None:
                count = self.references.get(number, 0) + change
                if count > 0:
                    self.references[number] = count
                else:
                    self.references.pop(number, None)
                self._dirty.add(number)

    def dumped(self, report: MeterReport | None) -> None:
        """The switch has these meters; None where it refuses to report meters, which counts as none."""
        report = report or MeterReport(0, {}, {})
        self.most = report.most
        self.there = dict(report.there)
        self.dropped = report.dropped
        self._dirty = self.references.keys() | self.there.keys()

    @property
    def kinds(self) -> tuple[Limit, ...]:
        """The limits for which the switch has meters."""
        return (*self.rates.metered, Limit.COPIES, Limit.DNS) if self.most and not self.refused else ()

    @property
    def problem(self) -> str:
        """Why the configured limits are not enforced; "" when they are, or before the first dump."""
        if not self.rates.metered or self.most is None or self.kinds:
            return ""
        why = self.refused or "the switch has no meters"
        return f"{why}: new connections and fragments of pods are not limited here"

    def changes(self) -> MeterChanges:
        """What makes the meters the desired ones."""
        adds: dict[int, MeterBand] = {}
        modifies: dict[int, MeterBand] = {}
        deletes: list[int] = []
        for number in sorted(self._dirty):
            band = self._desired_band(number)
            if band is None:
                if number in self.there:
                    deletes.append(number)
                    continue
            elif number not in self.there or self.there[number] != band:
                (modifies if number in self.there else adds)[number] = band
                continue
            self._dirty.discard(number)
        return MeterChanges(adds, modifies, tuple(deletes)) if adds or modifies or deletes else NO_METER_CHANGES

    def _desired_band(self, number: int) -> MeterBand | None:
        found = read_meter(number)
        return self.rates.band(*found) if found and number in self.references else None

    def note_ended(self, ended: Mapping[int, MeterCounters]) -> None:
        """The switch has deleted these meters, which had counted so much."""
        self.ended.extend(ended.items())
        if ended:
            self.dropped = {number: one for number, one in self.dropped.items() if number not in ended}

    def done(self, changes: MeterChanges) -> None:
        """The switch has made these changes."""
        self.there.update(changes.adds)
        self.there.update(changes.modifies)
        for number in changes.deletes:
            self.there.pop(number, None)
