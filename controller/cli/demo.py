"""`headgate demo`: the demonstration in `topology.demo`, as a command."""

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
    help="Which of Open vSwitch's datapaths; auto takes the kernel's where it has the openvswitch module.",
)
def demo(datapath: Any) -> None:
    """Watch a policy take effect on real packets, in about a minute.

    Builds a lab of two nodes and four pods, shows who reaches whom, isolates a tenant, lets its frontend reach its
    backend, shows what changed and the flows that did it, cuts a running connection by revoking the policy, and takes
    everything down again. Needs root and Open vSwitch; touches nothing that it did not make.
    """
    from rich.console import Console

    from topology.demo import run_demo

    console = Console(highlight=False)
    with lab_errors_as_failures():
        good = run_demo(datapath, console)
    console.print("\nThat was Headgate." if good else "\n[bold red]Something did not come out as it should.[/bold red]")
    if not good:
        click.get_current_context().exit(EXIT_FAILED)
