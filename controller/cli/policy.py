"""`headgate policy`: everything known of one policy."""

from __future__ import annotations

import click

from controller.cli.client import ControllerClient
from controller.cli.names import Namespaced
from controller.cli.output import JSON, WIDE, OutputPage, mark, print_json, wide_output_option
from controller.cli.rules import show_rules
from controller.cli.which_controller import controller_options
from controller.status.detail_model import PolicyDetail

SHOWN_SUBJECTS = 10
SHOWN_SWITCHES = 10


@click.command()
@wide_output_option
@click.argument("policy", metavar="NAMESPACE/NAME", type=Namespaced())
@controller_options
def policy(server: str, output: str, policy: str) -> None:
    """Show everything known of one policy: the pods that it selects, its rules with the peers they come to and with
    hits, where it is in force, and why not.

    Hits are read from the switches at this moment; where they are many, they are those of the last audit, a minute old
    at most.

    \b
    Examples:
      headgate policy tenant-a/pol1
      headgate policy tenant-a/pol1 -o json | jq '.rules[].peers'
    """
    found = ControllerClient(server).policy(policy)
    if output == JSON:
        print_json(found)
    else:
        show_policy(found, output == WIDE)


def show_policy(found: PolicyDetail, wide: bool = False) -> None:
    """Draw what is known of a policy."""
    page = OutputPage()
    one = found.policy
    page.line(f"Policy {one.key}: {'realized' if one.realized else 'NOT realized'}")
    if one.reason:
        page.line(f"  reason      {one.reason}")
    for note in one.notes:
        page.line(f"  note        {note}")
    page.line(f"  isolates    {', '.join(one.isolates) or 'nobody'}")
    page.line(f"  pods        {one.pods:,}")
    shown = len(found.switches) if wide else SHOWN_SWITCHES
    # Those that lag behind first.
    switches = sorted(found.switches, key=lambda switch: (switch.in_force, switch.node, switch.bridge))
    rows = [(s.node, s.bridge, str(s.pods), mark(s.in_force), s.reason or "-") for s in switches[:shown]]
    page.table("Switches", ("NODE", "BRIDGE", "PODS", "IN FORCE", "REASON"), rows, right="PODS")
    _more(page, len(switches) - shown)
    shown = len(found.subjects) if wide else SHOWN_SUBJECTS
    page.table(
        "Pods that it selects",
        ("POD", "NODE", "PORT"),
        [(s.pod, s.node or "-", s.port or "-") for s in found.subjects[:shown]],
        whole="POD NODE PORT",
    )
    _more(page, one.pods - min(shown, len(found.subjects)))
    show_rules(page, "Rules", found.rules, wide)
    if found.left_out:
        page.line()
        page.line("Rules that are not in force anywhere", "bold")
        for text in found.left_out:
            page.line(f"  {text}")
    if found.note:
        page.line(f"Note: {found.note}")


def _more(page: OutputPage, number: int) -> None:
    if number > 0:
        page.line(f"... and {number:,} more: -o wide, or -o json")
