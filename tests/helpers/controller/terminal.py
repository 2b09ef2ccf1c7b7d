"""A terminal of some columns and lines around the commands' output, without one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """Runs what draws as if standard output were a terminal, and returns the lines that came out."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, height: int
    ) -> None:
        self.width = width
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        for name, value in (("COLUMNS", width), ("LINES", height), ("TERM", "xterm"), ("NO_COLOR", "1")):
            monkeypatch.setenv(name, str(value))

    def lines(self, draw: Callable[[], object]) -> list[str]:
        """The lines, without their styles."""
        self._capsys.readouterr()
        with self._monkeypatch.context() as patch:
            patch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
            draw()
        return _STYLE.sub("", self._capsys.readouterr().out).splitlines()

    def rows(self, lines: list[str]) -> int:
        """How many lines of the screen they take."""
        return sum(max(1, -(-len(line) // self.width)) for line in lines)


def words(text: str) -> list[str]:
    """The words of a text, without brackets and trailing punctuation."""
    return [word.strip(",;:()") for word in text.split()]
