"""The meters of one switch: which the flows that it shall have refer to, which are there, and what that leaves to do.

Meters are compared like flows, with what the switch says of itself. Only those whose numbers are ours are looked at.
How they are asked for and sent stands in `controller.openflow.meter_messages`. No input or output here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flows.pipeline.pod_limits import NO_RATES, Limit, MeterBand, Rates, read_meter

# A meter is the first instruction of a flow (OpenFlow 1.4.1 section 7.2.4): type 6, 8 bytes, the meter's number.
_METER = struct.Struct("!HHI")
_HEAD = struct.pack("!HH", 6, _METER.size)


class MeterCounters(NamedTuple):
    """What a meter dropped. `duration` is in seconds since it was made."""

    packets: int
    duration: int


class MeterReport(NamedTuple):
    """What a switch says of its meters: how many there can be, and of ours what they let pass (None: something that we
    would not make) and what they dropped."""

    most: int
    there: Mapping[int, MeterBand | None]
    dropped: Mapping[int, MeterCounters]


class MeterChanges(NamedTuple):
    """What to do about meters: before the bundle whose flows refer to them, and (`deletes`) after it."""

    adds: Mapping[int, MeterBand]
    modifies: Mapping[int, MeterBand]
    deletes: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.adds or self.modifies or self.deletes)


NO_METER_CHANGES = MeterChanges({}, {}, ())


def meter_of(instructions: bytes) -> int | None:
    """The number of the meter that a flow's packets pass, if there is one."""
    return int(_METER.unpack_from(instructions)[2]) if instructions[:4] == _HEAD else None


@dataclass(slots=True)
class MeterLedger:
    """`references` counts the desired flows that refer to a meter. `refused` says why the switch has to do without."""

    rates: Rates = NO_RATES
    references: dict[int, int] = field(default_factory=dict)
    there: dict[int, MeterBand | None] = field(default_factory=dict)
    dropped: Mapping[int, MeterCounters] = field(default_factory=dict)
    most: int | None = None  # None before the switch has said it
    refused: str = ""
    _open: set[int] = field(default_factory=set)  # meters that may not be as they shall be

    def restart(self, bodies: Iterable[bytes]) -> None:
        """The desired flows are all others now: these are their instructions."""
        self._open.update(self.references)
        self.references.clear()
        self.follow((instructions, 1) for instructions in bodies)

    def forget(self) -> None:
        """A new session: what the switch refused it may take now."""
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
                self._open.add(number)

    def dumped(self, report: MeterReport | None) -> None:
        """The switch has said what it has; None where it would not say, which is as good as no meters."""
        report = report or MeterReport(0, {}, {})
        self.most = report.most
        self.there = dict(report.there)
        self.dropped = report.dropped
        self._open = self.references.keys() | self.there.keys()

    @property
    def kinds(self) -> tuple[Limit, ...]:
        """The limits for which the switch has meters."""
        return (*self.rates.metered, Limit.COPIES) if self.most and not self.refused else ()

    @property
    def problem(self) -> str:
        """Why limits do not hold that should; "" when they do, or before it is known."""
        if not self.rates.metered or self.most is None or self.kinds:
            return ""
        why = self.refused or "the switch has no meters"
        return f"{why}: new connections and fragments of pods are not limited here"

    def changes(self) -> MeterChanges:
        """What is missing, different, or of no use any more."""
        adds: dict[int, MeterBand] = {}
        modifies: dict[int, MeterBand] = {}
        deletes: list[int] = []
        for number in sorted(self._open):
            band = self._wanted(number)
            if band is None:
                if number in self.there:
                    deletes.append(number)
                    continue
            elif number not in self.there or self.there[number] != band:
                (modifies if number in self.there else adds)[number] = band
                continue
            self._open.discard(number)
        return MeterChanges(adds, modifies, tuple(deletes)) if adds or modifies or deletes else NO_METER_CHANGES

    def _wanted(self, number: int) -> MeterBand | None:
        found = read_meter(number)
        return self.rates.band(found[0]) if found and number in self.references else None

    def done(self, changes: MeterChanges) -> None:
        """The switch has taken these."""
        self.there.update(changes.adds)
        self.there.update(changes.modifies)
        for number in changes.deletes:
            self.there.pop(number, None)
