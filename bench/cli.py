"""`headgate bench`: what Headgate costs on this machine, to size a controller by. What is measured stands in
`bench`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from controller.cli.errors import CommandFailure
from controller.cli.output import Cell, OutputPage, Row, Styled, output_option

if TYPE_CHECKING:
    from bench.result import Result

STYLES = {"reached": "green", "bar": "green", "missed": "bold red", "": "dim"}


@click.command(short_help="Measure what Headgate costs on this machine.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--size",
    default="short",
    show_default=True,
    metavar="short|full|FACTOR",
    help="How large the worlds are: short is a tenth, full the whole (25,000 namespaces, 100,000 pods), or a factor.",
)
@click.option("--list", "wanted", is_flag=True, help="Only say what can be measured.")
@output_option
def bench(names: tuple[str, ...], size: str, wanted: bool, output: str) -> None:
    """Measure what Headgate costs on this machine, to size a controller by.

    Without names everything is measured, each in a process of its own; that takes under two minutes in the short size.
    Figures of time are CPU time unless they say otherwise, so that a busy machine can be measured too. A bar is what
    docs/performance.md promises for the full size on two cores; a ratio is against a reference that ran beside it.
    Some measurements need Open vSwitch, and `traffic` needs root; where one cannot run, its row says why.
    """
    from bench.catalog import CATALOG, run_all

    if wanted:
        page = OutputPage()
        page.table("Measurements", ("name", "says"), [(name, one.says) for name, one in CATALOG.items()])
        return
    unknown = [name for name in names if name not in CATALOG]
    if unknown:
        raise click.UsageError(f"there is no measurement {unknown[0]!r}; there are {', '.join(CATALOG)}")
    found: list[Result] = []
    failed: dict[str, str] = {}
    for name, results, reason in run_all(names or CATALOG, _scale(size)):
        click.echo(f"{name}: {reason or 'done'}", err=True)
        found += results
        if reason:
            failed[name] = reason
    _show(found, failed, size, output)
    if failed and not found:
        raise CommandFailure("nothing could be measured")


def _scale(size: str) -> float:
    from bench.catalog import SIZES

    try:
        scale = SIZES[size] if size in SIZES else float(size)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 10:
        raise click.UsageError(f"--size {size}: short, full, or a factor up to 10")
    return scale


def _show(found: list[Result], failed: dict[str, str], size: str, output: str) -> None:
    from bench.result import machine_facts

    facts = machine_facts()
    if output == "json":
        results = [result.json() for result in found]
        click.echo(json.dumps({"machine": facts, "size": size, "results": results, "failed": failed}, indent=2))
        return
    page = OutputPage()
    for fact, text in facts.items():
        page.line(f"{fact}: {text}")
    columns = ("measurement", "figure", "unit", "bar", "reach", "", "reference", "ratio")
    page.table(f"Cost, size {size}", columns, map(result_row, found), right="figure bar reach ratio")
    page.table("Not measured", ("name", "why"), list(failed.items()))


def result_row(result: Result) -> Row:
    """A result as a line of the table."""
    reference = f"{figure_text(result.reference)} {result.against}" if result.reference else ""
    ratio = f"{result.ratio:.2f}" if result.ratio else ""
    verdict: Cell = Styled(result.verdict, STYLES[result.verdict])
    return (
        result.name,
        figure_text(result.value),
        result.unit,
        figure_text(result.bar),
        figure_text(result.reach),
        verdict,
        reference,
        ratio,
    )


def figure_text(value: float | None) -> str:
    """A figure with three digits that mean something."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
