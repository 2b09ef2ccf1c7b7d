"""Lays out tables and lines in a given width. Text breaks between words, or between the terms of a match, only.

A name, an address or a term that is wider than its column stays whole; what follows it goes to the next line. Pure
functions over plain text; see `output` for colours and the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.cells import cell_len

GAP = 2  # blanks between columns
BELOW_INDENT = 4  # of columns that are printed below their row
MIN_TEXT_WIDTH = 24  # a text column that would be narrower is printed below its row
_WORDS = re.compile(r"^ *[^ ]* *|[^ ]+ *")
_OPEN, _CLOSE = "([{", ")]}"
MAX_CELL_LINES = 4  # a text cell that would need more is printed below its row
EMPTY_CELL = "-"
FITTED_SHARE = 0.9  # of the rows whose longest part fits into the column


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `breaks` says where values may break: "words", "terms" (also after commas), or "" for nowhere."""

    name: str
    right: bool = False
    breaks: str = "words"


class Segment(NamedTuple):
    """A part of a line, with the index of its cell in the row (None for blanks and labels)."""

    text: str
    cell: int | None = None


Line = tuple[Segment, ...]


class ColumnWidths(NamedTuple):
    """The widths of the columns beside each other; further columns are printed below their row."""

    widths: tuple[int, ...]

    def starts(self) -> list[int]:
        """Where each column begins."""
        return [sum(self.widths[:n]) + GAP * n for n in range(len(self.widths))]


def unbreakable_parts(text: str, breaks: str) -> list[str]:
    """The parts between which a text may break, each with its trailing blank. Joined they are the text."""
    if not breaks:
        return [text]
    if breaks == "words":
        return _WORDS.findall(text) or [""]
    found: list[str] = []
    start = depth = 0
    for at, letter in enumerate(text, 1):
        depth += (letter in _OPEN) - (letter in _CLOSE)
        if letter == " " or (letter == "," and depth <= 0):
            if text[start:at].strip() or not found:
                found.append(text[start:at])
            else:
                found[-1] += text[start:at]
            start = at
    if text[start:]:
        found.append(text[start:])
    return found or [""]


def wrap(text: str, width: int, breaks: str = "words") -> list[str]:
    """Break a text into lines of `width`; only an unbreakable part is longer."""
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for atom in unbreakable_parts(text, breaks):
        if lines[-1] and cell_len(lines[-1] + atom.rstrip()) > width:
            lines.append("")
        lines[-1] += atom
    return [line.rstrip() for line in lines]


def rows_of(lines: Sequence[str], width: int) -> int:
    """The number of terminal lines that these lines take: one that is too long takes several."""
    return sum(max(1, -(-cell_len(line) // width)) for line in lines)


def fit_columns(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> ColumnWidths:
    """The widths in which the table fits, or else as much of it as possible."""
    natural = [max([len(column.name), *(cell_len(row[n]) for row in rows)]) for n, column in enumerate(columns)]
    for kept in range(len(columns), 0, -1):
        room = width - GAP * (kept - 1)
        if sum(natural[:kept]) <= room:
            return ColumnWidths(tuple(natural[:kept]))
        floors = [_floor(column, n, rows, natural[n]) for n, column in enumerate(columns[:kept])]
        if sum(floors) <= room:
            found = _share(natural[:kept], floors, room)
            if kept > 1 and columns[kept - 1].breaks and natural[kept - 1] > MAX_CELL_LINES * found[-1]:
                continue
            return ColumnWidths(tuple(found))
        if kept <= 2 or not any(column.breaks for column in columns[kept - 1 :]):
            # Only unbreakable values: the longest exceed their column, and what follows goes to the next line.
            least = [len(column.name) for column in columns[:kept]]
            return ColumnWidths(tuple(_share(natural[:kept], least, max(room, sum(least)))))
    raise ValueError("a table has at least one column")


def _floor(column: Column, n: int, rows: Sequence[Sequence[str]], natural: int) -> int:
    """The least width in which FITTED_SHARE of the values fit: a few long names must not widen the column."""
    longest = sorted(max(cell_len(atom.rstrip()) for atom in unbreakable_parts(row[n], column.breaks)) for row in rows)
    usual = longest[int(FITTED_SHARE * (len(longest) - 1))]
    return min(natural, max(usual, len(column.name), MIN_TEXT_WIDTH if column.breaks else 0))


def _share(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths between `least` and `natural` that fill `room`: all shortened columns get the same width."""
    low, high = 0, max(natural)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(max(least[n], min(natural[n], middle)) for n in range(len(natural))) <= room:
            low = middle
        else:
            high = middle - 1
    return [max(least[n], min(natural[n], low)) for n in range(len(natural))]


def header(columns: Sequence[Column], found: ColumnWidths) -> str:
    """The header line: the names of the columns."""
    cells = [_pad(column, column.name, width) for column, width in zip(columns, found.widths, strict=False)]
    return (" " * GAP).join(cells).rstrip()


def _pad(column: Column, text: str, width: int) -> str:
    blanks = " " * max(0, width - cell_len(text))
    return blanks + text if column.right else text + blanks


def row_lines(columns: Sequence[Column], row: Sequence[str], found: ColumnWidths, width: int) -> Iterator[Line]:
    """The lines of one row: columns that have a width beside each other, the others below with their names."""
    yield from _beside(columns, row, found, width)
    for n in range(len(found.widths), len(columns)):
        if row[n] in ("", EMPTY_CELL):
            continue
        label = f"{columns[n].name.lower()}: "
        room = width - BELOW_INDENT - len(label)
        for number, text in enumerate(wrap(row[n], room, columns[n].breaks)):
            yield Segment(" " * BELOW_INDENT + (label if not number else " " * len(label))), Segment(text, n)


def _beside(columns: Sequence[Column], row: Sequence[str], found: ColumnWidths, width: int) -> Iterator[Line]:
    starts = found.starts()
    lines: list[list[Segment]] = [[]]
    ends = [0]  # where each line is written up to
    first = 0  # the line on which the row goes on
    for n, room in enumerate(found.widths):
        texts = wrap(row[n], room, columns[n].breaks)
        start = _start(starts[n], max(map(cell_len, texts)), width)
        if n and ends[first] > start - GAP:
            # The cell before exceeds its column, or this one has to begin further left.
            first = len(lines)
        for at, text in enumerate(texts, first):
            while len(lines) <= at:
                lines.append([])
                ends.append(0)
            padded = _pad(columns[n], text, room) if columns[n].right else text
            lines[at] += [Segment(" " * (start - ends[at])), Segment(padded, n)]
            ends[at] = start + cell_len(padded)
    for line in lines:
        yield tuple(piece for piece in line if piece.text)


def _start(usual: int, length: int, width: int) -> int:
    """Where a value begins: in its column, or further left if it would exceed the line."""
    if usual + length <= width:
        return usual
    return min(usual, max(0, width - length))
