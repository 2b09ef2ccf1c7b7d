"""Output of the client commands: tables for terminals, whole lines for pipes, JSON for programs.

The contents of a command's output do not belong here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import click

from controller.base.printable import printable

PIPED_WIDTH = 1_000_000  # nothing is broken when the output is no terminal
SCREEN_LINES = 24
GOOD, BAD, DIM, TITLE = "green", "bold red", "dim", "bold cyan"
HUMAN, WIDE, JSON = "human", "wide", "json"


class Styled(NamedTuple):
    """Text with a style of rich."""

    text: str
    style: str


Cell = str | Styled
Row = tuple[Cell, ...]


def output_option(function: Any) -> Any:
    """The option -o of commands that print tables or JSON."""
    return _output(function, [HUMAN, JSON], "Tables for people, or JSON for programs.")


def wide_output_option(function: Any) -> Any:
    """The option -o of commands that also have wide tables."""
    return _output(
        function, [HUMAN, WIDE, JSON], "Tables for people, the same with all columns (wide), or JSON for programs."
    )


def _output(function: Any, choices: list[str], text: str) -> Any:
    choice = click.Choice(choices)
    return click.option("-o", "--output", type=choice, default=HUMAN, show_default=True, help=text)(function)


def print_json(value: Any) -> None:
    """Print a dataclass, or a list of them, as indented JSON."""
    plain = [asdict(one) for one in value] if isinstance(value, list) else asdict(value)
    click.echo(json.dumps(plain, indent=2))


def print_json_line(value: Any) -> None:
    """Print plain values as one line of JSON, at once."""
    click.echo(json.dumps(value))
    sys.stdout.flush()


def mark(good: bool, yes: str = "yes", no: str = "no") -> Styled:
    """`yes` in green or `no` in red."""
    return Styled(yes, GOOD) if good else Styled(no, BAD)


def dim(text: str) -> Styled:
    """Text that matters less."""
    return Styled(text, DIM)


class OutputPage:
    """Prints tables and lines to standard output, as wide as the terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        # rich honours NO_COLOR and TERM. A width exists, and matters, on a terminal only.
        self._terminal = sys.stdout.isatty()
        self._console = Console(width=None if self._terminal else PIPED_WIDTH, highlight=False, soft_wrap=True)
        self._quiet = False
        self.written = 0  # terminal lines so far

    @property
    def width(self) -> int:
        """The terminal's columns; PIPED_WIDTH without a terminal."""
        return self._console.width

    @property
    def height(self) -> int:
        """The terminal's lines, at least SCREEN_LINES."""
        return max(SCREEN_LINES, self._console.height) if self._terminal else SCREEN_LINES

    def begin(self) -> None:
        """Begin again: clear the terminal, or print a blank line if there is none."""
        if self._terminal:
            from rich.control import Control

            self._console.control(Control.home(), Control.clear())
        elif self.written:
            self._out([])
        self.written = 0

    def sketch(self) -> OutputPage:
        """A page of the same size that prints nothing, to measure how long something is."""
        found = OutputPage()
        found._quiet = True
        return found

    def unbroken_line(self, text: str) -> None:
        """Print a line as it is: it fits already."""
        self._out([Styled(text, "")])

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line, broken between words if it is too long."""
        from controller.cli.layout import wrap

        text = printable(text)
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        first, *rest = wrap(text, self.width) if text else [""]
        if rest:
            rest = [indent + more for more in wrap(" ".join(line.strip() for line in rest), self.width - len(indent))]
        for one in (first, *rest):
            self._out([Styled(one, style)])

    def table(
        self, title: str, columns: Sequence[str], rows: Iterable[Row], right: str = "", whole: str = "", terms: str = ""
    ) -> None:
        """Print a table with a title, nothing for no rows. Headers are capitals, as in kubectl.

        `right`, `whole` and `terms` name columns, separated by spaces: flush right, never broken, also broken after
        commas between terms. Other values break between words if they are too long.
        """
        from controller.cli.layout import Column, fit_columns, header, row_lines

        cells = [[cell if isinstance(cell, Styled) else Styled(cell, "") for cell in row] for row in rows]
        if not cells:
            return
        options = {name: set(names.split()) for name, names in (("right", right), ("whole", whole), ("terms", terms))}
        made = [
            Column(
                name.upper(),
                name in options["right"],
                "" if name in options["whole"] | options["right"] else "terms" if name in options["terms"] else "words",
            )
            for name in columns
        ]
        texts = [[printable(cell.text) for cell in row] for row in cells]
        found = fit_columns(made, texts, self.width)
        if self.written:
            self._out([])
        self.line(title, TITLE)
        self._out([Styled(header(made, found), "bold")])
        for row, text in zip(cells, texts, strict=True):
            for line in row_lines(made, text, found, self.width):
                self._out([Styled(piece.text, "" if piece.cell is None else row[piece.cell].style) for piece in line])

    def _out(self, parts: Sequence[Styled]) -> None:
        """Print one line without trailing blanks; only the terminal may break it."""
        from rich.text import Text

        from controller.cli.layout import rows_of

        plain = "".join(part.text for part in parts).rstrip()
        self.written += rows_of([plain], self.width)
        if self._quiet:
            return
        if self._console.color_system is None:
            self._console.out(plain, highlight=False)
            return
        line = Text.assemble(*parts)
        line.rstrip()
        self._console.print(line, soft_wrap=True)


def seconds(value: float | None) -> str:
    """A duration (in seconds) as text for a column: `250 ms`, `3.2 s`, `5m12s`, `2h3m`, `4d7h`; "-" for None."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 10:
        return f"{value:.1f} s"
    whole = int(value)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            smaller = {"d": ("h", 3600), "h": ("m", 60), "m": ("s", 1)}[unit]
            return f"{whole // size}{unit} {whole % size // smaller[1]}{smaller[0]}"
    return f"{whole} s"
