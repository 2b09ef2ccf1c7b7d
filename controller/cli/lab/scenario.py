"""`headgate lab scenario`: runs scenarios, each in a lab of its own, and checks their expectations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from controller.cli.errors import EXIT_FAILED, CommandFailure
from controller.cli.lab.which_lab import LabChoice, lab_errors_as_failures
from controller.cli.output import OutputPage, Row

if TYPE_CHECKING:
    from topology.scenarios.model import Scenario

MAX_FAILURES_SHOWN = 20  # of one step; the others are not printed


@click.command(short_help="Run a ready-made scenario.")
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option(
    "--datapath",
    type=click.Choice(["auto", "userspace", "kernel"]),
    default="auto",
    show_default=True,
    help="The datapath of Open vSwitch; auto is the kernel's if the kernel has the openvswitch module.",
)
@click.option("--all", "everything", is_flag=True, help="Run all scenarios.")
@click.pass_context
def scenario(ctx: click.Context, names: tuple[str, ...], datapath: Any, everything: bool) -> None:
    """Run ready-made scenarios: the tenant example, the network-policy recipes, a three-tier application.

    Without a name it lists them. Each scenario runs in a lab of its own, named after it, which is removed afterwards.
    After each step all endpoints probe each other, and the results are compared with those that the scenario expects.
    The exit code is 1 if any differs.

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
        failed = [one.name for one in chosen if not _run_scenario(one, where, datapath)]
    click.echo(f"{len(chosen) - len(failed)} of {len(chosen)} scenarios came out as expected")
    if failed:
        ctx.exit(EXIT_FAILED)


def _run_scenario(found: Scenario, where: LabChoice, datapath: Any) -> bool:
    """Run one scenario; returns whether all steps came out as expected."""
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
