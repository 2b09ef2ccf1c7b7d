"""How the client commands draw: tables for terminals, whole lines for pipes, JSON for programs. No command's content
stands here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import click

from controller.printable import printable

PIPED_WIDTH = 1_000_000  # nothing is cut or folded where no terminal is
GOOD, BAD, DIM = "green", "bold red", "dim"


class Styled(NamedTuple):
    """Text in a style of rich."""

    text: str
    style: str


Cell = str | Styled
Row = tuple[Cell, ...]


def output_option(function: Any) -> Any:
    """The option `-o json` that all client commands share."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["human", "json"]),
        default="human",
        show_default=True,
        help="Tables for people, or JSON for programs.",
    )(function)


def print_json(value: Any) -> None:
    """A dataclass, or a list of them, as indented JSON."""
    plain = [asdict(one) for one in value] if isinstance(value, list) else asdict(value)
    click.echo(json.dumps(plain, indent=2))


def mark(good: bool, yes: str = "yes", no: str = "no") -> Styled:
    """`yes` in green or `no` in red."""
    return Styled(yes, GOOD) if good else Styled(no, BAD)


def dim(text: str) -> Styled:
    """Text that matters less."""
    return Styled(text, DIM)


class Page:
    """Collects headed tables and lines, and prints them as fits where standard output leads to."""

    def __init__(self) -> None:
        from rich.console import Console

        # NO_COLOR and TERM are rich's to honour; the width is only known, and only matters, on a terminal.
        self._terminal = sys.stdout.isatty()
        self._console = Console(width=None if self._terminal else PIPED_WIDTH, highlight=False, soft_wrap=False)

    def line(self, text: str) -> None:
        """One line."""
        self._console.out(printable(text), highlight=False)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Row], right: str = "") -> None:
        """A headed table; columns named in `right` (separated by spaces) are set flush right.

        Nothing at all for no rows.
        """
        from rich.table import Table
        from rich.text import Text

        rows = list(rows)
        if not rows:
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold", justify="right" if column in right.split() else "left")
        for row in rows:
            styled = (cell if isinstance(cell, Styled) else Styled(cell, "") for cell in row)
            table.add_row(*(Text(printable(text), style=style) for text, style in styled))
        self._console.print()
        self._console.out(printable(title), style="bold cyan", highlight=False)
        self._print_trimmed(table)

    def _print_trimmed(self, table: Any) -> None:
        """Print without the blanks that fill up the last column: a wide one would make every line of a pipe as wide."""
        if self._terminal:
            self._console.print(table)
            return
        with self._console.capture() as captured:
            self._console.print(table)
        for line in captured.get().splitlines():
            self._console.out(line.rstrip(), highlight=False)


def seconds(value: float | None) -> str:
    """A duration in words that fit a column: milliseconds below a second, then seconds, minutes, hours, days."""
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
