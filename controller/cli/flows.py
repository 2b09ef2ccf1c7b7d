"""`headgate flows`: the flows that stand on the switches now, with what they are for and their counters."""

from __future__ import annotations

from itertools import groupby

import click

from controller.cli.asking import asks_controller
from controller.cli.client import Server
from controller.cli.output import Page, Row, dim, output_option, print_json
from controller.views import FlowView

SHOWN_NAMES = 3  # of the rules or policies that share one flow; -o json has all


@click.command()
@output_option
@click.option("--node", metavar="NAME", help="Only the switch of this node.")
@click.option("--pod", metavar="NAMESPACE/NAME", help="Only flows for this pod's port.")
@click.option("--policy", metavar="NAMESPACE/NAME", help="Only flows that this policy takes part in.")
@asks_controller
def flows(server: str, output: str, node: str | None, pod: str | None, policy: str | None) -> None:
    """Show the flows on the switches: what matches, what happens, for which pod, policy and rule, and how often.

    They are read from the switches at this moment. Matches and actions are in the syntax of ovs-ofctl.

    \b
    Examples:
      headgate flows --node node-1
      headgate flows --policy tenant-a/pol1
      headgate flows --pod tenant-a/backend-1 -o json | jq '.[] | select(.kind | startswith("deny"))'
    """
    for name, value in (("--pod", pod), ("--policy", policy)):
        if value is not None and (value.count("/") != 1 or value.startswith("/") or value.endswith("/")):
            raise click.UsageError(f"{name} {value!r} is not of the form NAMESPACE/NAME")
    found, missing = Server(server).flows(node=node, pod=pod, policy=policy)
    if output == "json":
        print_json(found)
    else:
        show(found)
    for line in missing:
        click.echo(f"headgate: {line}", err=True)


def show(found: list[FlowView]) -> None:
    """Draw flows, a table of the pipeline at a time."""
    page = Page()
    if not found:
        page.line("No flows.")
        return
    ordered = sorted(found, key=lambda one: (one.node, one.bridge, one.table, -one.priority, one.match))
    for (node, bridge, table, name), group in groupby(
        ordered, key=lambda one: (one.node, one.bridge, one.table, one.table_name)
    ):
        page.table(
            f"{node} {bridge}, table {table} {name}",
            ("PRIORITY", "PACKETS", "BYTES", "MATCH", "ACTIONS", "FOR"),
            [_row(one) for one in group],
            right="PRIORITY PACKETS BYTES",
        )


def _row(one: FlowView) -> Row:
    counted = (str(one.packets), str(one.bytes)) if one.packets else (dim("0"), dim("0"))
    return str(one.priority), *counted, one.match or "any", one.actions or "drop", purpose(one)


def purpose(one: FlowView) -> str:
    """What a flow is there for, in a few words: its rules, else policies, its pods, and the note."""
    names = [f"rule {_some(one.rules)}" if one.rules else f"policy {_some(one.policies)}" if one.policies else ""]
    names.append(f"pod {_some(one.pods)}" if one.pods else "")
    names.append(one.note)
    return "; ".join(filter(None, names)) or one.kind


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    return f"{shown} and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else shown
