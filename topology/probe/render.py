"""Draws a matrix as coloured tables for a terminal: rows are sources, columns destinations, marks are outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from topology.probe.matrix import LabProbe, Matrix, Outcome

Way = tuple[str, int]
OutcomeCell = tuple[Outcome, ...]
OutcomeGrid = dict[tuple[str, str], OutcomeCell]
OUTCOME_MARKS = {
    Outcome.ALLOWED: ("✓", "+", "green"),
    Outcome.CLOSED: ("○", "o", "yellow"),
    Outcome.DENIED: ("✗", "x", "red"),
    Outcome.WRONG: ("!", "!", "bold magenta"),
}
OUTCOME_MEANINGS = {
    Outcome.ALLOWED: "allowed",
    Outcome.CLOSED: "closed: allowed, no server listens",
    Outcome.DENIED: "denied",
    Outcome.WRONG: "wrong: another server answers",
}


def print_matrix(matrix: Matrix, console: Console, before: Matrix | None = None) -> None:
    """Print the matrix, one table for all ports with equal results. Changes since `before` are marked and counted."""
    console.print(draw_matrix(matrix, before, is_plain(console), console.width))


def is_plain(console: Console) -> bool:
    """Whether the console shows only ASCII."""
    return not console.encoding.lower().startswith("utf")


def change_lines(matrix: Matrix, before: Matrix, plain: bool = False) -> list[str]:
    """What differs from `before`, one line each: `x/a -> b TCP 80  ✓ -> ✗`, with the family unless all agree."""
    changes = matrix.changes(before)
    texts = {probe: f"{_mark(then, plain)} -> {_mark(now, plain)}" for probe, (then, now) in changes.items()}
    return _lines(matrix, texts)


def outcome_lines(matrix: Matrix, plain: bool = False) -> list[str]:
    """Every result, one line each: `x/a -> b TCP 80  ✓ allowed`; families with one result share a line."""
    return _lines(matrix, {probe: f"{_mark(one, plain)} {one.value}" for probe, one in matrix.results.items()})


def _lines(matrix: Matrix, texts: Mapping[LabProbe, str]) -> list[str]:
    """A line for each probe that has a text; one line for all families with the same text."""
    families = matrix.families()
    lines: dict[str, None] = {}
    for probe, text in texts.items():
        alike = [texts.get(probe._replace(family=family)) == text for family in families]
        name = _short(probe.source, probe.destination)
        family = "" if all(alike) and len(families) > 1 else f" IPv{probe.family}"
        lines[f"{probe.source} -> {name} {probe.way}{family}  {text}"] = None
    return list(lines)


def _short(source: str, destination: str) -> str:
    """A destination's name, without the namespace if the source is in the same."""
    namespace, _, name = destination.rpartition("/")
    return name if namespace and source.rpartition("/")[0] == namespace else destination


def draw_matrix(matrix: Matrix, before: Matrix | None = None, plain: bool = False, width: int = 80) -> RenderableType:
    """The matrix as a renderable of rich, in ASCII if `plain`.

    If the columns' names do not fit into `width` characters, they are replaced by the numbers of the rows.
    """
    changed = {(probe.source, probe.destination, probe.way) for probe in matrix.changes(before)} if before else set()
    parts: list[RenderableType] = []
    for ways, grid in _alike(matrix):
        names = {_way(way) for way in ways}
        new = {(source, destination) for source, destination, way in changed if way in names}
        title = ", ".join(_way(way) for way in ways) + " over " + _families(matrix.families())
        parts += [Text(title, "bold"), _table(matrix, grid, new, plain, width), Text("")]
    seen = set(matrix.results.values())
    legend = Text()
    for outcome, meaning in OUTCOME_MEANINGS.items():
        if outcome in seen:
            legend.append(_mark(outcome, plain), OUTCOME_MARKS[outcome][2]).append(f" {meaning}   ", "dim")
    if len(matrix.families()) > 1:
        legend.append("4 or 6: only over that family   ", "dim")
    if before is not None:
        legend.append("\n").append("changed", "reverse").append(f": {len(changed) or 'nothing'}", "dim")
    return Group(*parts, legend)


def _alike(matrix: Matrix) -> list[tuple[list[Way], OutcomeGrid]]:
    """The ports grouped by their results, so that equal tables are drawn once."""
    grids: dict[Way, OutcomeGrid] = {way: {} for way in matrix.ways()}
    for probe, outcome in matrix.results.items():
        grid = grids[probe.protocol, probe.port]
        pair = (probe.source, probe.destination)
        grid[pair] = (*grid.get(pair, ()), outcome)
    groups: list[tuple[list[Way], OutcomeGrid]] = []
    for way, grid in grids.items():
        for ways, other in groups:
            if other == grid:
                ways.append(way)
                break
        else:
            groups.append(([way], grid))
    return groups


def _table(matrix: Matrix, grid: OutcomeGrid, changed: set[tuple[str, str]], plain: bool, width: int) -> Table:
    sources, destinations = matrix.sources(), matrix.destinations()
    heads = [name.replace("/", "/\n").replace(":", ":\n") for name in destinations]
    longest = max(map(len, sources), default=0)
    numbered = longest + sum(max(map(len, head.split("\n"))) + 3 for head in heads) + 4 > width
    number = {name: str(index) for index, name in enumerate(destinations, 1)}
    table = Table(header_style="bold", padding=(0, 0) if numbered else (0, 1))
    table.add_column("from \\ to", no_wrap=True)
    for name, head in zip(destinations, heads, strict=True):
        table.add_column(number[name] if numbered else head, justify="center", no_wrap=True)
    for source in sources:
        label = f"{number.get(source, ''):>2} {source} " if numbered else source
        cells = [
            _cell(grid.get((source, name)), matrix.families(), (source, name) in changed, plain)
            for name in destinations
        ]
        table.add_row(label, *cells)
    return table


def _cell(cell: OutcomeCell | None, families: Sequence[int], changed: bool, plain: bool) -> Text:
    if cell is None:
        return Text("")
    through = [outcome for outcome in cell if outcome.reachable]
    if Outcome.WRONG in cell:
        text, style = _mark(Outcome.WRONG, plain), OUTCOME_MARKS[Outcome.WRONG][2]
    elif len(set(cell)) == 1 or len(through) == len(cell):
        worst = Outcome.CLOSED if Outcome.CLOSED in cell else cell[0]
        text, style = _mark(worst, plain), OUTCOME_MARKS[worst][2]
    else:
        text = "".join(str(family) for family, outcome in zip(families, cell, strict=False) if outcome.reachable)
        style = "yellow"
    return Text(f" {text} ", f"{style} reverse" if changed else style)


def _mark(outcome: Outcome, plain: bool) -> str:
    return OUTCOME_MARKS[outcome][1 if plain else 0]


def _way(way: Way) -> str:
    return LabProbe("", "", way[0], way[1], 0).way


def _families(families: Sequence[int]) -> str:
    return " and ".join(f"IPv{family}" for family in families)


def outcome_summary(count: Mapping[str, int]) -> str:
    """The counts in one line: `90 allowed, 54 denied`."""
    return ", ".join(f"{number} {name}" for name, number in count.items() if number)
