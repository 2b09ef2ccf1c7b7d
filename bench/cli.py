"""`headgate bench`: runs measurements and prints their results as a table. See `catalog` for the measurements."""

from __future__ import annotations

import click

from bench.result import BENCH_VERSION, BenchView, MeasurementsView, Result, figure_text, machine_facts
from controller.cli.errors import CommandFailure
from controller.cli.output import JSON, Cell, OutputPage, Row, Styled, output_option, print_json

STYLES = {"reached": "green", "bar": "green", "missed": "bold red", "": "dim"}


@click.command(short_help="Measure what Headgate costs on this machine.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--size",
    default="short",
    show_default=True,
    metavar="short|full|FACTOR",
    help="Size of the worlds: full (25,000 namespaces, 100,000 pods), short (a tenth), or a factor of full.",
)
@click.option("--nodes", type=click.IntRange(2, 5000), metavar="N", help="Nodes of `fleet`, instead of its size's.")
@click.option(
    "--pods-per-node", type=click.IntRange(2, 1000), metavar="N", help="Pods on each node of `fleet`; 100 by default."
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 9),
    metavar="N",
    help="Controllers of `fleet` that divide the nodes, with an API server of their own; it needs etcd and "
    "kube-apiserver in KUBEBUILDER_ASSETS. Without it, one controller reads a folder.",
)
@click.option("--list", "list_only", is_flag=True, help="Only list the measurements.")
@output_option
def bench(
    names: tuple[str, ...],
    size: str,
    nodes: int | None,
    pods_per_node: int | None,
    replicas: int | None,
    list_only: bool,
    output: str,
) -> None:
    """Measure what Headgate costs on this machine, to size a controller.

    Without names all measurements run, each in a process of its own; in the short size that takes under two minutes.
    Times are CPU time unless the unit says otherwise, so that other load matters little. A bar is what
    docs/performance.md promises for the full size on two cores; a ratio compares with a reference that ran at the same
    time. Some measurements need Open vSwitch, and `traffic` needs root; if one cannot run, the output says why.
    """
    from bench.catalog import CATALOG, run_all

    if list_only and output == JSON:
        print_json(MeasurementsView(BENCH_VERSION, {name: one.says for name, one in CATALOG.items()}))
        return
    if list_only:
        page = OutputPage()
        page.table("Measurements", ("name", "says"), [(name, one.says) for name, one in CATALOG.items()])
        return
    unknown = [name for name in names if name not in CATALOG]
    if unknown:
        raise click.UsageError(f"there is no measurement {unknown[0]!r}; there are {', '.join(CATALOG)}")
    found: list[Result] = []
    failed: dict[str, str] = {}
    fleet = tuple(str(one or "") for one in (nodes, pods_per_node, replicas))
    for name, results, reason in run_all(names or CATALOG, _scale(size), fleet):
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
        raise click.UsageError(f"--size {size}: give short, full, or a factor up to 10")
    return scale


def _show(found: list[Result], failed: dict[str, str], size: str, output: str) -> None:
    facts = machine_facts()
    if output == JSON:
        print_json(BenchView(BENCH_VERSION, facts, size, tuple(result.view() for result in found), failed))
        return
    page = OutputPage()
    for fact, text in facts.items():
        page.line(f"{fact}: {text}")
    columns = ("measurement", "figure", "unit", "bar", "reach", "", "reference", "ratio")
    page.table(f"Cost, size {size}", columns, map(result_row, found), right="figure bar reach ratio")
    page.table("Not measured", ("name", "why"), list(failed.items()))


def result_row(result: Result) -> Row:
    """A result as a row of the table."""
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
