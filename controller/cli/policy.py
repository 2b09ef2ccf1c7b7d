"""`headgate policy`: prints everything known about one policy."""

from __future__ import annotations

import click

from controller.cli.client import ControllerClient
from controller.cli.names import PolicyName
from controller.cli.output import JSON, WIDE, OutputPage, mark, print_json, wide_output_option
from controller.cli.rules import show_rules, show_staged
from controller.cli.which_controller import controller_options
from controller.status.detail_model import PolicyDetail

SHOWN_SUBJECTS = 10
SHOWN_SWITCHES = 10


@click.command()
@wide_output_option
@click.argument("policy", metavar="[NAMESPACE/]NAME", type=PolicyName())
@controller_options
def policy(server: str, output: str, policy: str) -> None:
    """Show everything about one policy: the pods that it selects, its rules with their resolved peers and hits, and the
    switches on which it is realized or why not.

    Hits (packets) are read from the switches now. With many switches they are those of the last audit
    (`headgate status --switches -o wide`).

    \b
    Examples:
      headgate policy tenant-a/pol1
      headgate policy cluster-wide-deny
      headgate policy tenant-a/pol1 -o json | jq '.rules[].peers'
    """
    found = ControllerClient(server).policy(policy)
    if output == JSON:
        print_json(found)
    else:
        show_policy(found, output == WIDE)


def show_policy(found: PolicyDetail, wide: bool = False) -> None:
    """Print the details of a policy."""
    page = OutputPage()
    one = found.policy
    page.line(f"Policy {one.key}: {'realized' if one.realized else 'NOT realized'}")
    if one.reason:
        page.line(f"  reason      {one.reason}")
    for note in one.notes:
        page.line(f"  note        {note}")
    if one.tier:
        page.line(f"  tier        {one.tier}, priority {one.priority}")
        page.line(f"  directions  {', '.join(one.isolates) or 'none'}")
    else:
        page.line(f"  isolates    {', '.join(one.isolates) or 'nothing'}")
    page.line(f"  pods        {one.pods:,}")
    shown = len(found.switches) if wide else SHOWN_SWITCHES
    # Switches without the policy first.
    switches = sorted(found.switches, key=lambda switch: (switch.in_force, switch.node, switch.bridge))
    rows = [(s.node, s.bridge, str(s.pods), mark(s.in_force), s.reason or "-") for s in switches[:shown]]
    page.table("Switches", ("NODE", "BRIDGE", "PODS", "REALIZED", "REASON"), rows, right="PODS")
    _print_rest(page, len(switches) - shown)
    shown = len(found.subjects) if wide else SHOWN_SUBJECTS
    page.table(
        "Subjects",
        ("POD", "NODE", "PORT"),
        [(s.pod, s.node or "-", s.port or "-") for s in found.subjects[:shown]],
        whole="POD NODE PORT",
    )
    _print_rest(page, one.pods - min(shown, len(found.subjects)))
    show_staged(page, found.staged)
    show_rules(page, "Rules", found.rules, wide)
    if found.left_out:
        page.line()
        page.line("Rules that are realized nowhere", "bold")
        for text in found.left_out:
            page.line(f"  {text}")
    if found.note:
        page.line(f"Note: {found.note}")


def _print_rest(page: OutputPage, number: int) -> None:
    if number > 0:
        page.line(f"... and {number:,} more: see -o wide or -o json")
