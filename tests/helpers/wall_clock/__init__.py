"""A wall clock of its own for a process of a test, which the test can set while the process runs.

A small library is built with the machine's C compiler and loaded into the process (LD_PRELOAD). Only the wall clock is
shifted: CLOCK_MONOTONIC and all waits are the machine's. (Debian's libfaketime 0.9.10 cannot do that: with it, Python's
`time.sleep` fails.)
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "wall_clock.c"
_SECONDS = struct.Struct("=q")


def can_build() -> bool:
    """Whether there is a C compiler."""
    return shutil.which("cc") is not None


class WallClock:
    """A clock whose file and library are in `folder`. Raises CalledProcessError where it cannot be built."""

    def __init__(self, folder: Path) -> None:
        self._library, self._file = folder / "wall_clock.so", folder / "wall_clock"
        self.set(0)
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)

    @property
    def environment(self) -> dict[str, str]:
        """What the environment of the process has in addition."""
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK_FILE": str(self._file)}

    def set(self, ahead: int) -> None:
        """Let the clock jump to so many seconds after (or, negative, before) the machine's. It does so at once."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(_SECONDS.pack(ahead))
