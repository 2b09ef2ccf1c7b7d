"""Log lines on their way to a file descriptor that may not take them: a pipe nobody reads, a full or a dead disk.

Whoever logs never waits: lines stand in a bounded queue, a real thread writes them, and those that find no place are
counted and the count is said. Nothing of what lines look like may live here.
"""

from __future__ import annotations

import errno
import io
import time
from collections.abc import Callable
from typing import Any

from controller.base.native_threads import unpatched
from controller.base.threads import watched

MAX_QUEUED_LINES = 10_000
MAX_QUEUED_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 10  # bytes; what is longer is cut
WRITE_RETRY_SECONDS = 0.05  # where the descriptor does not block and takes no more now
_CUT = b"... (cut)\n"


class LogWriter:
    """Writes to one descriptor. `put` is for threads of the hub, `report` makes the line that says how many were
    dropped.
    """

    def __init__(self, descriptor: int, report: Callable[[int], str], lines: int = MAX_QUEUED_LINES) -> None:
        self._descriptor = descriptor
        self._report = report
        self._most = lines
        self._os = unpatched("os")
        self._sleep = unpatched("time").sleep
        # The original's put never blocks and may be called from any thread.
        self._queue: Any = unpatched("queue").SimpleQueue()
        # Each of these is changed by one side only.
        self._put_lines = self._put_bytes = 0
        self._done_lines = self._done_bytes = 0
        self._dropped = self._failed = self._told = 0
        self._torn = False  # a line was written in part, and the next one must not go on behind it
        self._thread = watched("log", self._run, native=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were not written: they found no place, or the descriptor refused them."""
        return self._dropped + self._failed

    def put(self, line: str) -> None:
        """Take one line, with its end. Never waits."""
        if self._is_full():
            self._dropped += 1
            return
        untold = self.dropped - self._told
        if untold:
            self._told += untold
            self._enqueue(self._report(untold))
        self._enqueue(line)

    def _is_full(self) -> bool:
        lines, size = self._put_lines - self._done_lines, self._put_bytes - self._done_bytes
        return lines >= self._most or size >= MAX_QUEUED_BYTES

    def _enqueue(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        if len(data) > MAX_LINE_BYTES:
            data = data[: MAX_LINE_BYTES - len(_CUT)] + _CUT
        self._put_lines += 1
        self._put_bytes += len(data)
        self._queue.put(data)

    def flush(self, seconds: float) -> bool:
        """Wait until all lines are written, for a bounded time; returns whether they are."""
        deadline = time.monotonic() + seconds
        while self._done_lines < self._put_lines:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def close(self, seconds: float) -> None:
        """Write what is there and end, within a bounded time; a write that hangs is left behind."""
        self.flush(seconds)
        self._thread.release()
        self._queue.put(None)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                self._write(b"\n" + data if self._torn else data)
                self._torn = False
            except OSError:
                self._failed += 1  # the disk is full, or the reader is gone: the next line may find it otherwise
            self._done_bytes += len(data)
            self._done_lines += 1

    def _write(self, data: bytes) -> None:
        while data:
            try:
                written = self._os.write(self._descriptor, data)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EINTR):
                    raise
                self._sleep(WRITE_RETRY_SECONDS)
                continue
            data = data[written:]
            self._torn = bool(data)


class LineStream(io.TextIOBase):
    """A text stream that hands whole lines on: for what libraries and the interpreter print."""

    def __init__(self, put: Callable[[str], None], descriptor: int) -> None:
        super().__init__()
        self._put = put
        self._descriptor = descriptor
        self._rest = ""

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor that the lines end at."""
        return self._descriptor

    def isatty(self) -> bool:
        """Not for whoever asks here."""
        return False

    def write(self, text: str) -> int:
        """Never waits."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._put(line + "\n")
        if len(self._rest) > MAX_LINE_BYTES:
            self._put(self._rest + "\n")
            self._rest = ""
        return len(text)
