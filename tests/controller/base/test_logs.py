"""Log lines: their formats, control characters in them, and repeated warnings."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import threading
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.base import logs
from controller.base.log_ring import LogRing
from controller.base.log_writer import MAX_LINE_BYTES, MAX_QUEUED_LINES, LineStream
from controller.base.logs import MAX_REMEMBERED, QUIET_LIBRARIES, RepeatFilter, configure_logging, dropped, flush


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_both_kinds_of_loggers_end_in_json() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    structlog.get_logger("a").info("port bound", pod="x/y", ofport=3)
    logging.getLogger("b").warning("odd %s", "thing", extra={"node": "n1"})
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["message"], first["pod"], first["ofport"], first["level"]) == ("port bound", "x/y", 3, "info")
    assert (second["message"], second["node"], second["logger"]) == ("odd thing", "n1", "b")
    assert first["timestamp"].endswith("Z")


def test_human_lines_have_no_colour_off_terminals_and_no_control_characters() -> None:
    stream = io.StringIO()
    configure_logging("info", "human", stream)
    structlog.get_logger("a").info("seen", name="evil\x1b[2J\nname")
    logging.getLogger("b").info("also %s", "evil\x1b[2J\nname")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all("\x1b" not in line and "evil" in line for line in lines)


def test_an_exception_keeps_its_lines() -> None:
    for style in ("human", "json"):
        stream = io.StringIO()
        configure_logging("info", style, stream)
        try:
            raise ValueError("inside")
        except ValueError:
            logging.getLogger("a").exception("went wrong")
        assert "ValueError: inside" in stream.getvalue()


def test_libraries_are_quiet_unless_debugging() -> None:
    stream = io.StringIO()
    configure_logging("info", "human", stream)
    logging.getLogger("os_ken.base").info("loading app")
    logging.getLogger("a").debug("detail")
    assert stream.getvalue() == ""
    configure_logging("debug", "human", stream)
    logging.getLogger("os_ken.base").info("loading app")
    assert "loading app" in stream.getvalue()


def test_identical_warnings_are_said_once_a_minute_with_their_number() -> None:
    now = [0.0]
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RepeatFilter(60.0, lambda: now[0]))
    logger = logging.Logger("x")
    logger.addHandler(handler)
    for _ in range(5):
        logger.warning("switch %s away", "n1")
    logger.warning("switch %s away", "n2")
    logger.info("fine")
    logger.info("fine")
    now[0] = 61.0
    logger.warning("switch %s away", "n1")
    assert stream.getvalue().splitlines() == [
        "switch n1 away", "switch n2 away", "fine", "fine", "switch n1 away (repeated 4 times)",
    ]  # fmt: skip


def test_the_memory_for_repetitions_is_bounded() -> None:
    repeats = RepeatFilter(60.0, lambda: 0.0)
    for number in range(3 * MAX_REMEMBERED):
        repeats.filter(logging.LogRecord("x", logging.WARNING, "f", 1, f"w {number}", (), None))
    assert len(repeats._seen) == MAX_REMEMBERED


def test_a_human_line_begins_with_its_date_and_a_traceback_is_marked() -> None:
    stream = io.StringIO()
    configure_logging("info", "human", stream)
    try:
        raise ValueError("inside\n2026-01-01 00:00:00 [info     ] a line that never was\x1b[2J")
    except ValueError:
        logging.getLogger("a").exception("went\nwrong")
    first, *others = stream.getvalue().splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[error", first)
    assert others
    assert all(line.startswith("  | ") and line.isprintable() for line in others)


DROPPED = re.compile(r"(\d+) lines of this log were dropped")


def dropped_lines(report: str) -> int:
    """How many lines a report speaks of."""
    found = DROPPED.search(report)
    assert found
    return int(found[1])


@pytest.mark.slow
@pytest.mark.parametrize("style", ["human", "json"])
def test_lines_that_find_no_place_are_counted_and_said(style: str) -> None:
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "w") as stream:
            configure_logging("info", style, stream)
            for number in range(MAX_QUEUED_LINES + 5000):
                logging.getLogger("a").info("line %d", number)
            assert dropped() > 0
            with os.fdopen(reading, "rb") as pipe:
                found = pipe.read(1)
                reader = threading.Thread(target=lambda: collected.extend(iter(lambda: pipe.read(1 << 16), b"")))
                collected: list[bytes] = [found]
                reader.start()
                flush(30)
                logging.getLogger("a").info("after")
                flush(30)
                configure_logging("info", style, io.StringIO())  # ends the writer
                stream.close()
                reader.join(30)
        lines = b"".join(collected).decode().splitlines()
        assert "after" in lines[-1]
        # Lines may find a place again while others are logged: there is a report before each line that does.
        reports = [line for line in lines if DROPPED.search(line)]
        assert reports
        assert len(lines) - len(reports) + sum(map(dropped_lines, reports)) == MAX_QUEUED_LINES + 5000 + 1
        if style == "json":
            assert all(json.loads(line)["dropped"] == dropped_lines(line) for line in reports)
    finally:
        logging.getLogger().handlers[:] = []


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    with open("/dev/full", "w") as stream:
        configure_logging("info", "human", stream)
        for number in range(10):
            logging.getLogger("a").info("line %d", number)
        flush(10)
        assert dropped() == 10
        configure_logging("info", "human", io.StringIO())


def test_a_line_is_no_longer_than_a_bound() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as pipe, os.fdopen(writing, "w") as stream:
        configure_logging("info", "human", stream)
        collected: list[str] = []
        reader = threading.Thread(target=lambda: collected.append(pipe.readline()))
        reader.start()
        logging.getLogger("a").info("x" * 1_000_000)
        reader.join(10)
        configure_logging("info", "human", io.StringIO())
    assert len(collected[0]) == MAX_LINE_BYTES
    assert collected[0].endswith("... (cut)\n")


@settings(deadline=None, max_examples=50)
@given(parts=st.lists(st.text(st.sampled_from("ab\n"), max_size=5), max_size=8))
def test_what_is_printed_is_handed_on_by_lines(parts: list[str]) -> None:
    lines: list[str] = []
    stream = LineStream(lines.append, 2)
    for part in parts:
        assert stream.write(part) == len(part)
    whole, _, rest = "".join(parts).rpartition("\n")
    assert "".join(lines) == (f"{whole}\n" if "\n" in "".join(parts) else "")
    assert stream._rest == rest


@pytest.mark.parametrize("style", ["human", "json"])
def test_the_ring_has_what_the_log_has(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_listeners", [])
    ring, stream = LogRing(3), io.StringIO()
    configure_logging("info", style, stream)
    logs.add_log_listener(ring.take)
    logs.add_log_listener(ring.take)
    logger = logging.getLogger("somebody")
    logger.warning("%d", "x")
    for _ in range(5):
        logger.warning("again")  # said once
    logger.info("after")
    written = stream.getvalue().splitlines()
    assert list(ring.lines()) == written and len(written) == 3
