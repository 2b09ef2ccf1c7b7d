"""What a switch says of roles and bundles, read from the bytes of an OpenFlow session on their way. Pure.

Source: OpenFlow 1.4.1, sections 7.1 (header), 7.3.8 (roles), 7.3.9 (bundles), 7.4.4 (role status).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = struct.Struct("!BBHI")
_ROLE = struct.Struct("!I4xQ")
_CONTROL = struct.Struct("!IH")
_ROLE_REPLY, _ROLE_STATUS, _BUNDLE_CONTROL = 25, 30, 33
_PRIMARY, _COMMIT_REPLY = 2, 5


class Said(enum.Enum):
    """What a switch said to a session."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    COMMITTED = "committed"  # it has carried out a bundle of this session


@dataclass(frozen=True)
class Word:
    """One thing that a switch said; `generation` is 0 for COMMITTED."""

    said: Said
    generation: int = 0


class SwitchReader:
    """Reads the stream from a switch to one session; `feed` takes it in any pieces."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> Iterator[Word]:
        """What the switch said with these bytes."""
        rest = memoryview(self._left + data)
        while len(rest) >= _HEADER.size:
            _, kind, length, _ = _HEADER.unpack_from(rest)
            if length < _HEADER.size or len(rest) < length:
                break
            if (word := _word(kind, rest[_HEADER.size : length])) is not None:
                yield word
            rest = rest[length:]
        self._left = bytes(rest)


def _word(kind: int, body: memoryview) -> Word | None:
    if kind in (_ROLE_REPLY, _ROLE_STATUS) and len(body) >= _ROLE.size:
        role, generation = _ROLE.unpack_from(body)
        return Word(Said.PRIMARY if role == _PRIMARY else Said.SECONDARY, generation)
    if kind == _BUNDLE_CONTROL and len(body) >= _CONTROL.size and _CONTROL.unpack_from(body)[1] == _COMMIT_REPLY:
        return Word(Said.COMMITTED)
    return None
