"""Logging for the whole process: structlog and the standard library's loggers end in one handler on standard error.

An event is a line that begins with its date; a traceback's lines follow it, each marked. No control character of a name
or a message gets through. Nobody who logs ever waits for whoever reads (see `log_writer`).

Modules say `logging.getLogger(__name__)` or `structlog.get_logger(__name__)`; how lines look, which libraries are kept
quiet and what is not repeated is decided here alone.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

from controller.base.log_writer import LineStream, LogWriter
from controller.base.printable import printable

# Libraries whose INFO is about themselves and not about the operator's network.
QUIET_LIBRARIES = (
    "os_ken",
    "ovs",
    "werkzeug",
    "eventlet",
    "watchfiles",
    "asyncio",
    "concurrent",
    "urllib3",
    "pyroute2",
)
REPEAT_AFTER = 60.0  # seconds for which an identical warning stays unsaid
MAX_REMEMBERED = 1000
HUMAN_TIME = "%Y-%m-%d %H:%M:%S"

TRACE_MARK = "  | "  # before each line of a traceback

EventDict = MutableMapping[str, Any]
_writer: LogWriter | None = None
_listeners: list[Callable[[str], object]] = []


class RepeatFilter(logging.Filter):
    """Lets an identical warning or error through once in `period` seconds and then says how often it was held back.

    Identical means: same logger, level and content, numbers included; so whoever warns puts what varies in the event's
    fields only when it matters. `clock` gives seconds.
    """

    def __init__(self, period: float = REPEAT_AFTER, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._period = period
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repetition within the period; a later one gets `repeated` with the number of those held back."""
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, record.levelno, self._content(record))
        now = self._clock()
        last, held_back = self._seen.pop(key, (now - self._period, 0))
        if now - last < self._period:
            self._seen[key] = (last, held_back + 1)
            return False
        self._remember(key, now)
        if held_back:
            self._say(record, held_back)
        return True

    @staticmethod
    def _content(record: logging.LogRecord) -> str:
        try:
            return str(record.msg) if isinstance(record.msg, dict) else record.getMessage()
        except Exception:  # noqa: BLE001 - as in `_Handler`: arguments that do not fit the message
            return str(record.msg)

    def _remember(self, key: tuple[str, int, str], now: float) -> None:
        # Text from outside can vary without end, so the oldest are forgotten; at worst a warning is said once more.
        while len(self._seen) >= MAX_REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        self._seen[key] = (now, 0)

    @staticmethod
    def _say(record: logging.LogRecord, held_back: int) -> None:
        if isinstance(record.msg, dict):
            record.msg = {**record.msg, "repeated": held_back}
        else:
            record.msg, record.args = f"{RepeatFilter._content(record)} (repeated {held_back} times)", ()


def _escape_controls(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _marked(value) if name in {"exception", "stack"} else printable(value)
    return event


class _Handler(logging.Handler):
    """Formats a record and hands the line on."""

    def __init__(self, put: Callable[[str], object]) -> None:
        super().__init__()
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        """One event."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - what cannot be formatted must not stop whoever says it
            line = f"a log line of {record.name} could not be formatted: {type(error).__name__}"
        self._put(line + "\n")
        for listener in _listeners:
            listener(line)


def _where_lines_go(stream: TextIO, style: str) -> Callable[[str], object]:
    """A call that never waits where `stream` is a real file, and writes at once where it is not."""
    global _writer
    if _writer is not None:
        _writer.close(0.0)
        _writer = None
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return stream.write
    stream.flush()
    _writer = LogWriter(descriptor, lambda number: _dropped_line(number, style))
    return _writer.put


def _dropped_line(number: int, style: str) -> str:
    text = f"{number} lines of this log were dropped: nobody read it fast enough, or it could not be written"
    stamp = time.time()
    if style == "json":
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp))
        return f'{{"message": "{text}", "level": "warning", "dropped": {number}, "timestamp": "{when}"}}\n'
    return f"{time.strftime(HUMAN_TIME, time.localtime(stamp))} [warning  ] {text}\n"


def take_stderr() -> None:
    """Have what libraries and the interpreter print on standard error take the same way as the log."""
    if _writer is not None:
        sys.stderr = LineStream(_writer.put, sys.stderr.fileno())


def give_back_stderr(seconds: float) -> None:
    """Undo that, once what was logged is written, or after a bounded time."""
    flush(seconds)
    if isinstance(sys.stderr, LineStream):
        sys.stderr = sys.__stderr__


def add_log_listener(listener: Callable[[str], object]) -> None:
    """Have every event handed to `listener` too, as it is formatted, also where it finds no place on its way out."""
    if listener not in _listeners:
        _listeners.append(listener)


def dropped() -> int:
    """How many lines were not written."""
    return _writer.dropped if _writer is not None else 0


def flush(seconds: float) -> None:
    """Wait until what was logged is written, for a bounded time."""
    if _writer is not None:
        _writer.flush(seconds)


def configure_logging(level: str, style: str, stream: TextIO | None = None) -> None:
    """Set up logging: `level` as in Config.log_level, `style` "human" or "json".

    May be called again; the last call holds.
    """
    stream = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _Handler(_where_lines_go(stream, style))
    handler.setFormatter(_formatter(style, stream, shared))
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in QUIET_LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.NOTSET if level == "debug" else max(logging.WARNING, root.level))


def _formatter(style: str, stream: TextIO, shared: list[structlog.typing.Processor]) -> logging.Formatter:
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if style == "json":
        last += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        last += [
            structlog.processors.TimeStamper(fmt=HUMAN_TIME, utc=False),
            _escape_controls,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=0, exception_formatter=_plain_exception),
        ]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)


def _plain_exception(stream: TextIO, exc_info: Any) -> None:
    stream.write("\n" + _marked("".join(traceback.format_exception(*exc_info))))


def _marked(text: str) -> str:
    """Lines that belong to the event before them, which nobody can take for events of their own."""
    return "\n".join(TRACE_MARK + printable(line) for line in text.rstrip().split("\n"))
