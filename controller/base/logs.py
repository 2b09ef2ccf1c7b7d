"""Logging for the whole process: structlog and the standard library's loggers end in one handler on standard error.

An event is a line that begins with its date; the lines of a traceback follow, each with TRACE_MARK. Control characters
are escaped. A thread that logs never waits for the reader of the log (see `log_writer`).

Modules use `logging.getLogger(__name__)` or `structlog.get_logger(__name__)`. Format, quiet libraries and repeated
warnings are decided here only.
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

# Libraries whose INFO events do not help an operator.
QUIET_LIBRARIES = (
    "os_ken",
    "ovs",
    "werkzeug",
    "eventlet",
    "asyncio",
    "concurrent",
    "urllib3",
    "pyroute2",
)
REPEAT_AFTER = 60.0  # seconds for which an identical warning is not logged again
MAX_REMEMBERED = 1000
HUMAN_TIME = "%Y-%m-%d %H:%M:%S"

TRACE_MARK = "  | "  # before each line of a traceback

EventDict = MutableMapping[str, Any]
_writer: LogWriter | None = None
_listeners: list[Callable[[str], object]] = []


class RepeatFilter(logging.Filter):
    """Passes an identical warning or error once in `period` seconds, with the number of those held back meanwhile.

    Identical: same logger, level and content, numbers included. So an event with a varying field is always logged.
    `clock` is in seconds.
    """

    def __init__(self, period: float = REPEAT_AFTER, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._period = period
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repetition within the period; the next one passed gets the number held back in `repeated`."""
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
            self._add_count(record, held_back)
        return True

    @staticmethod
    def _content(record: logging.LogRecord) -> str:
        try:
            return str(record.msg) if isinstance(record.msg, dict) else record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit the message, as in `_Handler`
            return str(record.msg)

    def _remember(self, key: tuple[str, int, str], now: float) -> None:
        # Untrusted text varies without end, so the oldest are forgotten; at worst a warning is logged once more.
        while len(self._seen) >= MAX_REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        self._seen[key] = (now, 0)

    @staticmethod
    def _add_count(record: logging.LogRecord, held_back: int) -> None:
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
    """Formats a record and passes the line to `put` and the listeners."""

    def __init__(self, put: Callable[[str], object]) -> None:
        super().__init__()
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        """Format and write one event."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - logging must never raise
            line = f"a log line of {record.name} could not be formatted: {type(error).__name__}"
        self._put(line + "\n")
        for listener in _listeners:
            listener(line)


def _line_writer(stream: TextIO, style: str) -> Callable[[str], object]:
    """A function that writes lines: by a LogWriter, which never waits, if `stream` has a descriptor; else directly."""
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
    text = f"{number} lines of this log were dropped: it was read too slowly, or could not be written"
    stamp = time.time()
    if style == "json":
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp))
        return f'{{"message": "{text}", "level": "warning", "dropped": {number}, "timestamp": "{when}"}}\n'
    return f"{time.strftime(HUMAN_TIME, time.localtime(stamp))} [warning  ] {text}\n"


def take_stderr() -> None:
    """Redirect what libraries and the interpreter print on standard error to the log's writer."""
    if _writer is not None:
        sys.stderr = LineStream(_writer.put, sys.stderr.fileno())


def give_back_stderr(seconds: float) -> None:
    """Undo `take_stderr`, once the queued lines are written or after `seconds`."""
    flush(seconds)
    if isinstance(sys.stderr, LineStream):
        sys.stderr = sys.__stderr__


def add_log_listener(listener: Callable[[str], object]) -> None:
    """Pass every formatted event to `listener` too, also those that the writer drops."""
    if listener not in _listeners:
        _listeners.append(listener)


def dropped() -> int:
    """How many lines were dropped."""
    return _writer.dropped if _writer is not None else 0


def flush(seconds: float) -> None:
    """Wait until the queued lines are written, for at most `seconds`."""
    if _writer is not None:
        _writer.flush(seconds)


def configure_logging(level: str, style: str, stream: TextIO | None = None) -> None:
    """Set up logging: `level` as in RunConfig.log_level, `style` "human" or "json".

    May be called again; the last call counts.
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
    handler = _Handler(_line_writer(stream, style))
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
    """The lines of a traceback, each marked so that it does not look like an event of its own."""
    return "\n".join(TRACE_MARK + printable(line) for line in text.rstrip().split("\n"))
