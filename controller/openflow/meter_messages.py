"""OpenFlow 1.4 messages about meters: requests, meter-mods, and replies as values.

Bytes only; which meters are desired must not live here: see `controller.reconcile.meters`. Source: OpenFlow 1.4.1
sections 7.3.4.4 (meter-mod), 7.3.5.13 to 7.3.5.15 (multipart), 7.4.4 (errors).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controller.reconcile.meters import MeterChanges, MeterCounters, MeterReport
from flows.pipeline.pod_limits import MeterBand, read_meter
from flows.wire.errors import CodecError

_VERSION, _MOD, _MULTIPART_REQUEST, _BARRIER_REQUEST, BARRIER_REPLY = 5, 29, 18, 20, 21
_HEADER = struct.Struct("!BBHI")
_ADD, _MODIFY, _DELETE = 0, 1, 2
_PACKETS_A_SECOND, _BURST, _STATS = 2, 4, 8
_FLAGS = _PACKETS_A_SECOND | _BURST | _STATS
_DROP = 1
_ALL = 0xFFFFFFFF
_CHANGE = struct.Struct("!BBHIHHI")
_BAND = struct.Struct("!HHII4x")
_ASK = struct.Struct("!BBHIHH4x")
_FEATURES = struct.Struct("!I")
_CONFIG = struct.Struct("!HHI")
_COUNTERS = struct.Struct("!IH6xIQQII")
_BODY = 16  # offset of the body in a multipart reply
# Headgate's meters that one switch may report: four for each possible ofport.
_MOST = 1 << 18
METER_MOD_FAILED = 12
# The meter exists already, or does not exist: another controller changed it. The next dump shows the meters.
_TRANSIENT = frozenset({1, 3})


class MeterMultipart(enum.IntEnum):
    """Kinds of multipart messages about meters."""

    COUNTERS = 9
    CONFIG = 10
    FEATURES = 11


def meter_requests(first_xid: int) -> bytes:
    """Requests for features, configuration and counters of all meters, with METER_REQUESTS xids from `first_xid` on."""
    parts = []
    for xid, kind in enumerate((MeterMultipart.FEATURES, MeterMultipart.CONFIG, MeterMultipart.COUNTERS), first_xid):
        body = b"" if kind is MeterMultipart.FEATURES else struct.pack("!I4x", _ALL)
        length = _ASK.size + len(body)
        parts.append(_ASK.pack(_VERSION, _MULTIPART_REQUEST, length, xid, kind, 0) + body)
    return b"".join(parts)


METER_REQUESTS = 3


def meter_mods_before(changes: MeterChanges, first_xid: int) -> bytes:
    """Meter-mods that add and modify meters, and a barrier, with `count_meter_mods_before` xids from `first_xid` on."""
    parts = [_change(_ADD, number, band, xid) for xid, (number, band) in enumerate(changes.adds.items(), first_xid)]
    first_xid += len(parts)
    parts += [_change(_MODIFY, n, band, xid) for xid, (n, band) in enumerate(changes.modifies.items(), first_xid)]
    barrier = first_xid + len(changes.modifies)
    return b"".join(parts) + _HEADER.pack(_VERSION, _BARRIER_REQUEST, _HEADER.size, barrier)


def count_meter_mods_before(changes: MeterChanges) -> int:
    """The number of messages of `meter_mods_before`, the barrier included; 0 when no meter changes."""
    count = len(changes.adds) + len(changes.modifies)
    return count + 1 if count else 0


def meter_deletes(changes: MeterChanges, first_xid: int) -> bytes:
    """Requests for the counters of the meters that go, meter-mods that delete them, and a barrier, with
    `count_meter_deletes` xids from `first_xid` on.

    What a meter has counted since the last dump is lost with it. A meter that is not there is an error, and no harm.
    """
    ask, gone = _ASK.size + 8, changes.deletes
    parts = [
        _ASK.pack(_VERSION, _MULTIPART_REQUEST, ask, xid, MeterMultipart.COUNTERS, 0) + struct.pack("!I4x", number)
        for xid, number in enumerate(gone, first_xid)
    ]
    parts += [
        _CHANGE.pack(_VERSION, _MOD, _CHANGE.size, xid, _DELETE, 0, number)
        for xid, number in enumerate(gone, first_xid + len(gone))
    ]
    return b"".join(parts) + _HEADER.pack(_VERSION, _BARRIER_REQUEST, _HEADER.size, first_xid + 2 * len(gone))


def count_meter_deletes(changes: MeterChanges) -> int:
    """The number of messages of `meter_deletes`, the barrier included."""
    return 2 * len(changes.deletes) + 1


def _change(command: int, number: int, band: MeterBand, xid: int) -> bytes:
    length = _CHANGE.size + _BAND.size
    head = _CHANGE.pack(_VERSION, _MOD, length, xid, command, _FLAGS, number)
    return head + _BAND.pack(_DROP, _BAND.size, band.rate, band.burst)


def is_meter_unsupported(message: bytes) -> bool:
    """Whether an error means that the switch does not support the meter. `message` has its header."""
    kind, code = struct.unpack_from("!HH", message, _HEADER.size) if len(message) >= _HEADER.size + 4 else (0, 0)
    return kind != METER_MOD_FAILED or code not in _TRANSIENT


@dataclass(slots=True)
class MeterDump:
    """The replies of a switch about its meters, as they arrive."""

    most: int = 0  # meters that the switch supports
    there: dict[int, MeterBand | None] = field(default_factory=dict)
    dropped: dict[int, MeterCounters] = field(default_factory=dict)

    def add(self, kind: int, message: bytes) -> None:
        """Add one reply. Raises CodecError."""
        try:
            if kind == MeterMultipart.FEATURES:
                self.most = _FEATURES.unpack_from(message, _BODY)[0]
            elif kind == MeterMultipart.CONFIG:
                self.there.update(_configured(message))
            elif kind == MeterMultipart.COUNTERS:
                self.dropped.update(_counted(message))
        except struct.error as error:
            raise CodecError(f"a reply about meters is truncated: {error}") from None
        if max(len(self.there), len(self.dropped)) > _MOST:
            raise CodecError("the switch reports more of Headgate's meters than it can have ports")

    def report(self) -> MeterReport:
        """All replies together."""
        return MeterReport(self.most, self.there, self.dropped)


def _configured(message: bytes) -> Iterator[tuple[int, MeterBand | None]]:
    offset = _BODY
    while offset < len(message):
        length, flags, number = _CONFIG.unpack_from(message, offset)
        bands = message[offset + _CONFIG.size : offset + length]
        offset += length
        if length < _CONFIG.size or offset > len(message):
            raise CodecError(f"a meter of {length} bytes")
        if read_meter(number) is not None:
            yield number, _band(flags, bands)


def _band(flags: int, bands: bytes) -> MeterBand | None:
    if flags != _FLAGS or len(bands) != _BAND.size:
        return None
    kind, length, rate, burst = _BAND.unpack(bands)
    return MeterBand(rate, burst) if (kind, length) == (_DROP, _BAND.size) else None


def _counted(message: bytes) -> Iterator[tuple[int, MeterCounters]]:
    offset = _BODY
    while offset < len(message):
        number, length, _, _, _, seconds, _ = _COUNTERS.unpack_from(message, offset)
        bands = offset + _COUNTERS.size
        offset += length
        if length < _COUNTERS.size or offset > len(message):
            raise CodecError(f"counters of a meter of {length} bytes")
        if read_meter(number) is not None and offset - bands >= 8:
            yield number, MeterCounters(struct.unpack_from("!Q", message, bands)[0], seconds)


def describe_meter_mod(changes: MeterChanges, index: int) -> str:
    """The meter of message number `index` of `meter_mods_before`, in words."""
    some: Mapping[int, MeterBand] = {**changes.adds, **changes.modifies}
    number = list(some)[index] if index < len(some) else 0
    found = read_meter(number)
    if found is None:
        return "the barrier after its meters"
    rate, burst = some[number]
    return f"meter {number:#x} ({found[0].word} of port {found[1]}: {rate} per second, burst {burst})"
