"""The findings in the summary of `headgate status`: two lines each, as many as fit into the room on the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from controller.base.printable import printable
from controller.cli.findings import Finding
from controller.cli.layout import rows_of, wrap
from controller.cli.output import OutputPage

PROBLEMS_COMMAND = "headgate status --problems"
FINDING_LINES = 2  # of one finding; `headgate status --problems` shows the whole reason
MAX_RANKED = 100  # findings of a kind that are considered: more than a screen has lines
INDENT = "  "
HEADING = "What is wrong"


def draw_findings(page: OutputPage, found: Sequence[Finding], node: str, room: int) -> None:
    """The first finding of each kind, then the others in turn, within `room` lines. The last line counts the rest.

    `node` is the node that the status was narrowed to, "" for none.
    """
    if not found:
        return
    page.line()
    page.line(HEADING, "bold")
    room -= 1 + rows_of([HEADING], page.width)
    more = 1 + rows_of([PROBLEMS_COMMAND], page.width)
    drawn: list[tuple[int, list[str]]] = []
    for number in _in_turn(found):
        lines = _brief(found[number], page.width)
        needed = rows_of(lines, page.width)
        if needed > room - (more if len(drawn) + 1 < len(found) else 0):
            continue
        drawn.append((number, lines))
        room -= needed
        if room <= more:
            break
    for _, lines in sorted(drawn):
        for line in lines:
            page.unbroken_line(line)
    if len(drawn) < len(found):
        where = f"{PROBLEMS_COMMAND} --node {node}" if node else PROBLEMS_COMMAND
        page.line(f"  ... and {len(found) - len(drawn):,} more: {where}")


def _in_turn(found: Sequence[Finding]) -> list[int]:
    """Indexes of the first finding of each kind, then the second of each, and so on; MAX_RANKED of each at most."""
    seen: Counter[str] = Counter()
    ranked = []
    for number, one in enumerate(found):
        if seen[one.kind] < MAX_RANKED:
            ranked.append((seen[one.kind], number))
        seen[one.kind] += 1
    return [number for _, number in sorted(ranked)]


def _brief(one: Finding, width: int) -> list[str]:
    """A finding in at most FINDING_LINES lines; words that do not fit are left out."""
    text = printable(f"{one.kind} {one.name}: {one.reason}")
    first, *rest = wrap(text, width - len(INDENT))
    lines = [first]
    if rest:
        room = width - 2 * len(INDENT)
        again = wrap(" ".join(rest), room)
        lines += again[: FINDING_LINES - 1]
        if len(again) >= FINDING_LINES:
            lines[-1] = _with_dots(lines[-1], room)
    return [INDENT + lines[0], *(2 * INDENT + line for line in lines[1:])]


def _with_dots(line: str, room: int) -> str:
    while len(wrap(f"{line} ...", room)) > 1 and " " in line:
        line = line.rpartition(" ")[0]
    return f"{line} ..."


def draw_line(page: OutputPage, text: str) -> None:
    """Print one line; words that do not fit are left out."""
    lines = wrap(printable(text), page.width)
    page.unbroken_line(lines[0] if len(lines) == 1 else _with_dots(lines[0], page.width))
