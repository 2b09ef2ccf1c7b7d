"""Reading the frames that came out of a port, from the capture file that the switch writes (options:tx_pcap)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_FILE_HEADER = 24
_FRAME_HEADER = struct.Struct("=IIII")


class Capture:
    """A growing pcap file, read from where the last reading ended. The file may not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._unread = b""
        self._skip = _FILE_HEADER

    def new_frames(self) -> list[bytes]:
        """The frames that were written since the last call."""
        if self._file is None:
            if not self._path.exists():
                return []
            self._file = self._path.open("rb", buffering=0)
        self._unread += self._file.read()
        if self._skip:
            if len(self._unread) < self._skip:
                return []
            self._unread, self._skip = self._unread[self._skip :], 0
        frames = []
        start = 0
        while len(self._unread) - start >= _FRAME_HEADER.size:
            length = _FRAME_HEADER.unpack_from(self._unread, start)[2]
            end = start + _FRAME_HEADER.size + length
            if end > len(self._unread):
                break
            frames.append(self._unread[start + _FRAME_HEADER.size : end])
            start = end
        self._unread = self._unread[start:]
        return frames

    def close(self) -> None:
        """Close the file; reading starts anew after that."""
        if self._file is not None:
            self._file.close()
        self._file, self._unread, self._skip = None, b"", _FILE_HEADER
