"""Log lines: for people, for programs, safe against what names contain, and not the same warning over and over."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from controller.logs import MAX_REMEMBERED, QUIET, RepeatFilter, configure


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_both_kinds_of_loggers_end_in_json() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    structlog.get_logger("a").info("port bound", pod="x/y", ofport=3)
    logging.getLogger("b").warning("odd %s", "thing", extra={"node": "n1"})
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["message"], first["pod"], first["ofport"], first["level"]) == ("port bound", "x/y", 3, "info")
    assert (second["message"], second["node"], second["logger"]) == ("odd thing", "n1", "b")
    assert first["timestamp"].endswith("Z")


def test_human_lines_have_no_colour_off_terminals_and_no_control_characters() -> None:
    stream = io.StringIO()
    configure("info", "human", stream)
    structlog.get_logger("a").info("seen", name="evil\x1b[2J\nname")
    logging.getLogger("b").info("also %s", "evil\x1b[2J\nname")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all("\x1b" not in line and "evil" in line for line in lines)


def test_an_exception_keeps_its_lines() -> None:
    for style in ("human", "json"):
        stream = io.StringIO()
        configure("info", style, stream)
        try:
            raise ValueError("inside")
        except ValueError:
            logging.getLogger("a").exception("went wrong")
        assert "ValueError: inside" in stream.getvalue()


def test_libraries_are_quiet_unless_debugging() -> None:
    stream = io.StringIO()
    configure("info", "human", stream)
    logging.getLogger("os_ken.base").info("loading app")
    logging.getLogger("a").debug("detail")
    assert stream.getvalue() == ""
    configure("debug", "human", stream)
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
