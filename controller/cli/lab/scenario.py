"""`headgate lab scenario`: go through a ready-made scenario in a lab of its own and see whether it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from controller.cli.errors import EXIT_FAILED, CommandFailure
from controller.cli.lab.which_lab import LabChoice, lab_errors_as_failures
from controller.cli.output import OutputPage, Row

if TYPE_CHECKING:
    from topology.scenarios.model import Scenario

MAX_FAILURES_SHOWN = 20  # wrong probes of a step that are printed


@click.command(short_help="Go through a ready-made scenario.")
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option(
    "--datapath",
    type=click.Choice(["auto", "userspace", "kernel"]),
    default="auto",
    show_default=True,
    help="Which of Open vSwitch's datapaths; auto takes the kernel's where there is one.",
)
@click.option("--all", "everything", is_flag=True, help="Go through all of them.")
@click.pass_context
def scenario(ctx: click.Context, names: tuple[str, ...], datapath: Any, everything: bool) -> None:
    """Go through ready-made scenarios: the tenant example, the network-policy recipes, a three-tier application.

    Without a name it lists them. Each gets a lab of its own, named after it, which is taken down again. After every
    step everybody tries to reach everybody, and the result is compared with what the scenario says. The exit code is 1
    when something comes out otherwise.

    \b
    Examples:
      headgate lab scenario
      headgate lab scenario recipe-04
    """
    where: LabChoice = ctx.obj
    from topology.scenarios import model

    with lab_errors_as_failures():
        there = model.scenario_names()
        unknown = [name for name in names if name not in there]
        if unknown:
            raise CommandFailure(f"there is no scenario {unknown[0]!r}; there are {', '.join(there)}")
        chosen = [model.load_scenario(name) for name in (there if everything else names)]
        if not chosen:
            rows: list[Row] = [(one.name, one.title, f"{len(one.steps)}") for one in map(model.load_scenario, there)]
            OutputPage().table("Scenarios", ("name", "title", "steps"), rows, right="steps")
            return
        failed = [one.name for one in chosen if not _go_through(one, where, datapath)]
    click.echo(f"{len(chosen) - len(failed)} of {len(chosen)} scenarios hold")
    if failed:
        ctx.exit(EXIT_FAILED)


def _go_through(found: Scenario, where: LabChoice, datapath: Any) -> bool:
    """Run one scenario; returns whether all of its steps came out as they should."""
    from rich.console import Console

    from topology.lab.lab import Lab
    from topology.probe.render import print_matrix
    from topology.scenarios.check import run_scenario

    console = Console(highlight=False)
    console.rule(f"{found.name}: {found.title}", style="bold")
    console.print(found.about.strip())
    lab = Lab(found.topology.model_copy(update={"name": f"scenario-{found.name}"}), where.base)
    good = True
    before = None
    try:
        lab.up(datapath, progress=lambda text: click.echo(f"{text} …", err=True))
        for result in run_scenario(found, lab):
            console.print(
                f"\n{'✓' if result.passed else '✗'} {result.step.say}",
                style="bold green" if result.passed else "bold red",
            )
            print_matrix(result.matrix, console, before)
            before = result.matrix
            for line in result.lines()[:MAX_FAILURES_SHOWN]:
                console.print(f"  {line}", style="red", markup=False)
            good = good and result.passed
    finally:
        lab.down()
    return good
