"""Writes audit events as JSON lines to a file that is rotated, and to syslog.

Both are handlers of Python's logging, without its locks. The file is written by a native thread, so that a slow disk
stops nothing: events that find its queue full are counted and not written. Syslog is sent by the calling thread.
"""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler, SysLogHandler
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from controller.base.errors import StartError
from controller.base.native_threads import unpatched
from controller.base.threads import watched
from controller.status.audit_model import AuditEvent

MAX_QUEUED_EVENTS = 10_000
KEPT_FILES = 5  # beside the one that is written
_JSON = TypeAdapter(AuditEvent)


def json_line(event: AuditEvent) -> str:
    """One event as JSON, without a newline."""
    return _JSON.dump_json(event).decode()


class _File(RotatingFileHandler):
    """Counts what cannot be written."""

    failed = 0

    def createLock(self) -> None:
        """None: one thread writes."""
        self.lock = None

    def handleError(self, record: logging.LogRecord) -> None:
        """The disk refused a line; the next may succeed."""
        self.failed += 1


class _Syslog(SysLogHandler):
    """Drops what syslog does not take."""

    def createLock(self) -> None:
        """None: one thread writes."""
        self.lock = None

    def handleError(self, record: logging.LogRecord) -> None:
        """The next event is tried again."""


class AuditWriters:
    """Made once. `file` has at most `most_bytes`; KEPT_FILES older ones stay. `syslog` is a socket's path, or host and
    port of UDP. Raises StartError where the file cannot be opened."""

    def __init__(self, file: Path | None, most_bytes: int, syslog: str | tuple[str, int] | None) -> None:
        self._dropped = 0
        self._put = self._done = 0  # one side only writes each
        self._file: _File | None = None
        self._syslog: _Syslog | None = None
        self._queue: Any = unpatched("queue").SimpleQueue()
        self._thread = watched("audit file", self._run, native=True)
        try:
            if file is not None:
                self._file = _File(file, maxBytes=most_bytes, backupCount=KEPT_FILES, encoding="utf-8")
            if syslog is not None:
                self._syslog = _Syslog(syslog)
                self._syslog.ident = "headgate: "
        except OSError as error:
            where = f"file {file}" if self._file is None and file is not None else f"syslog {syslog}"
            raise StartError(f"cannot write audit events to {where}: {error.strerror or error}") from None

    @property
    def dropped(self) -> int:
        """Events that the file does not have."""
        return self._dropped + (self._file.failed if self._file is not None else 0)

    def start(self) -> None:
        """Start the thread that writes the file."""
        if self._file is not None:
            self._thread.start()

    def stop(self) -> None:
        """Write what is queued, and end."""
        self._thread.release()
        self._queue.put(None)
        self._thread.join(1.0)

    def write(self, events: list[AuditEvent]) -> None:
        """Queue events for the file, and send them to syslog."""
        for event in events:
            if self._file is not None:
                if self._put - self._done >= MAX_QUEUED_EVENTS:
                    self._dropped += 1
                else:
                    self._put += 1
                    self._queue.put(json_line(event))
            if self._syslog is not None:
                self._syslog.emit(_record(json_line(event)))

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            if self._file is not None:
                self._file.emit(_record(line))
            self._done += 1


def _record(line: str) -> logging.LogRecord:
    return logging.LogRecord("headgate.audit", logging.INFO, "", 0, line, (), None)
