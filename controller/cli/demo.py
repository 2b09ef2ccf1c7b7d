"""`headgate demo`: runs the demonstration of `topology.demo`."""

from __future__ import annotations

from typing import Any

import click

from controller.cli.errors import EXIT_FAILED
from controller.cli.lab.which_lab import lab_errors_as_failures


@click.command()
@click.option(
    "--datapath",
    type=click.Choice(["auto", "userspace", "kernel"]),
    default="auto",
    show_default=True,
    help="The datapath of Open vSwitch; auto is the kernel's if the kernel has the openvswitch module.",
)
def demo(datapath: Any) -> None:
    """Watch a policy take effect on real packets, in about a minute.

    The demo builds a lab of two nodes and four pods and probes which pods reach each other. It isolates a tenant,
    allows its frontend to reach its backend, probes again, and shows the flows that do it. Then it interrupts a running
    connection by deleting the policy, and resumes it. At the end it removes the lab. Needs root and Open vSwitch;
    changes nothing outside the lab.
    """
    from rich.console import Console

    from topology.demo import run_demo

    console = Console(highlight=False)
    with lab_errors_as_failures():
        good = run_demo(datapath, console)
    console.print("\nThat was Headgate." if good else "\n[bold red]A step did not come out as expected.[/bold red]")
    if not good:
        click.get_current_context().exit(EXIT_FAILED)
