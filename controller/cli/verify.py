"""`headgate verify`: whether the switches do what policy says, over many connections."""

from __future__ import annotations

import secrets

import click

from controller.cli.client import ControllerClient
from controller.cli.errors import EXIT_DISAGREES, EXIT_FAILED, EXIT_OK
from controller.cli.output import BAD, DIM, GOOD, JSON, OutputPage, output_option, print_json
from controller.cli.which_controller import controller_options
from controller.status.verify_model import MAX_CONNECTIONS, VerifyView


@click.command()
@output_option
@click.option("--sample", type=click.IntRange(1, MAX_CONNECTIONS), default=500, show_default=True, metavar="N",
              help="How many connections to compare.")  # fmt: skip
@click.option("--everything", is_flag=True, help=f"Compare all connections, up to {MAX_CONNECTIONS:,}.")
@click.option("--node", metavar="NAME", help="Only between pods of this node, and with addresses outside.")
@click.option("--seed", type=click.IntRange(0, 2**31), metavar="NUMBER", help="Ask the same sample again.")
@controller_options
def verify(server: str, output: str, sample: int, everything: bool, node: str | None, seed: int | None) -> None:
    """Compare policy with the switches: does what they do with connections follow from the policies?

    The flows are read from the switches now, eight of them at most, and the first packet of each connection is led
    through them. Connections are between their pods, and with addresses outside that policies tell apart, on both sides
    of every port that a policy names. Nothing is sent.

    Exit codes: 0 no difference; 2 wrong usage; 3 the controller does not answer; 4 the switches differ from policy; 1
    they could not be compared.

    \b
    Examples:
      headgate verify
      headgate verify --node node-1 --everything
      headgate verify --sample 5000 -o json | jq '.differences'
    """
    chosen = secrets.randbelow(1 << 31) if seed is None else seed
    count = MAX_CONNECTIONS if everything else sample
    found = ControllerClient(server).verify(node=node, count=str(count), seed=str(chosen))
    if output == JSON:
        print_json(found)
    else:
        show_verification(found, chosen)
    click.get_current_context().exit(EXIT_DISAGREES if found.differ else EXIT_OK if found.asked else EXIT_FAILED)


def show_verification(found: VerifyView, seed: int) -> None:
    """Print a comparison: the numbers, then the differences."""
    page = OutputPage()
    if not found.asked:
        page.line(f"Nothing to compare on {', '.join(found.bridges)}: no pods that could connect.", BAD)
        return
    page.line(
        f"{found.differ:,} of {found.asked:,} connections differ: {found.allowed:,} are allowed and {found.denied:,} "
        f"denied by both policy and switches",
        BAD if found.differ else GOOD,
    )
    scope = "all of them" if found.complete else f"a sample of {found.possible:,}, repeated by --seed {seed}"
    page.line(f"  switches: {', '.join(found.bridges)}; {scope}", DIM)
    rows = [
        (
            f"{one.source} ({one.source_address})",
            f"{one.destination} ({one.destination_address})",
            one.protocol if one.port is None else f"{one.port}/{one.protocol}",
            "allowed" if one.allowed else "denied",
            "delivered" if one.delivered else f"not delivered: {one.reason}",
        )
        for one in found.differences
    ]
    page.table("Differences", ("FROM", "TO", "PORT", "POLICY", "SWITCHES"), rows)
    if found.differ > len(found.differences):
        page.line(f"... and {found.differ - len(found.differences):,} more")
    for note in found.notes:
        page.line(f"Note: {note}")
