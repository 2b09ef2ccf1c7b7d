"""Writes log lines to a file descriptor that may block or fail: a pipe that is not read, a full or broken disk.

A thread that logs never waits: lines go through a bounded queue to a native thread, which writes them. Lines that find
the queue full are dropped and counted, and the next line has their number. How lines look: see `logs`.
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
MAX_LINE_BYTES = 64 << 10  # longer lines are cut
WRITE_RETRY_SECONDS = 0.05  # after EAGAIN of a non-blocking descriptor
_CUT = b"... (cut)\n"


class LogWriter:
    """Writes to one descriptor. `put` is for threads of the hub; `report` formats the line on dropped lines."""

    def __init__(self, descriptor: int, report: Callable[[int], str], lines: int = MAX_QUEUED_LINES) -> None:
        self._descriptor = descriptor
        self._report = report
        self._most = lines
        self._os = unpatched("os")
        self._sleep = unpatched("time").sleep
        # The unpatched SimpleQueue's put never blocks, and any thread may call it.
        self._queue: Any = unpatched("queue").SimpleQueue()
        # One side only writes each of these, so that they need no lock.
        self._put_lines = self._put_bytes = 0
        self._done_lines = self._done_bytes = 0
        self._dropped = self._failed = self._reported = 0
        self._torn = False  # the last line was written in part, so the next must begin on a new line
        self._thread = watched("log", self._run, native=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were not written: the queue was full, or the descriptor refused them."""
        return self._dropped + self._failed

    def put(self, line: str) -> None:
        """Queue one line, with its newline. Never waits."""
        if self._is_full():
            self._dropped += 1
            return
        unreported = self.dropped - self._reported
        if unreported:
            self._reported += unreported
            self._enqueue(self._report(unreported))
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
        """Wait until all lines are written, for at most `seconds`; returns whether they are."""
        deadline = time.monotonic() + seconds
        while self._done_lines < self._put_lines:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def close(self, seconds: float) -> None:
        """Write the queued lines and end the thread, within `seconds`; a write that hangs is abandoned."""
        self.flush(seconds)
        self._thread.release()
        self._queue.put(None)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                self._write(b"\n" + data if self._torn else data)
                self._torn = False
            except OSError:
                self._failed += 1  # the disk is full or the reader closed the pipe; the next line may succeed
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
    """A text stream that passes whole lines to `put`: for what libraries and the interpreter print."""

    def __init__(self, put: Callable[[str], None], descriptor: int) -> None:
        super().__init__()
        self._put = put
        self._descriptor = descriptor
        self._rest = ""

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor that the lines are written to."""
        return self._descriptor

    def isatty(self) -> bool:
        """False: no colours."""
        return False

    def write(self, text: str) -> int:
        """Pass on all complete lines. Never waits."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._put(line + "\n")
        if len(self._rest) > MAX_LINE_BYTES:
            self._put(self._rest + "\n")
            self._rest = ""
        return len(text)
