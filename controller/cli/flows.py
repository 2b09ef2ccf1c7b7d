"""`headgate flows`: the actual flows of the switches, with their purpose and counters."""

from __future__ import annotations

from itertools import groupby

import click

from controller.cli.client import ControllerClient
from controller.cli.names import Namespaced, PolicyName, first_names
from controller.cli.output import JSON, WIDE, OutputPage, Row, dim, print_json, wide_output_option
from controller.cli.which_controller import controller_options
from controller.status.model import FlowView
from flows.pipeline.tables import TABLE_NAMES

MAX_OWNERS_SHOWN = 3  # rules or policies of one flow that are shown; -o json has all
FOREIGN_KIND = "foreign"  # the kind of foreign flows
# Tables that decide come first, in the order in which a packet passes them; then all others; discovery last.
DECIDING_TABLES = ("egress", "egress_default", "ingress", "ingress_default", "deny", "state", "invalid")
DISCOVERY_TABLES = ("nd_guard", "neighbor", "flood")
DISCOVERY_MATCHES = ("arp", "icmp6")


@click.command()
@wide_output_option
@click.option("--node", metavar="NAME", help="Only the switch of this node.")
@click.option("--pod", metavar="NAMESPACE/NAME", type=Namespaced(), help="Only flows for this pod's port.")
@click.option(
    "--policy",
    metavar="NAMESPACE/NAME",
    type=PolicyName(),
    help="Only flows of this policy: its rules, and the isolation of its subjects.",
)
@click.option("--table", metavar="NAME", help="Only this table of the pipeline, by name or number.")
@click.option("--denied", is_flag=True, help="Only flows that deny packets because of isolation.")
@click.option("--nonzero", is_flag=True, help="Only flows that packets have matched.")
@click.option("--foreign", is_flag=True, help="Only flows that are not Headgate's.")
@controller_options
def flows(
    server: str,
    /,
    output: str,
    node: str | None,
    pod: str | None,
    policy: str | None,
    table: str | None,
    **only: bool,
) -> None:
    """Show the flows on the switches: match, actions, counters, and the pod, policy and rule of each.

    They are read from the switches now. Matches and actions have the syntax of ovs-ofctl. Foreign flows come first,
    then the flows that decide about packets, then the others; neighbor discovery (ARP, ND) comes last.

    \b
    Examples:
      headgate flows --node node-1
      headgate flows --policy tenant-a/pol1
      headgate flows --pod tenant-a/backend-1 --denied --nonzero
      headgate flows --table ingress -o json | jq '.[].rules'
    """
    number = None if table is None else _table(table)
    answer = ControllerClient(server).flows(node=node, pod=pod, policy=policy)
    found = [
        one
        for one in answer.flows
        if (number is None or one.table == number)
        and (one.kind.startswith("deny_") or not only["denied"])
        and (one.packets or not only["nonzero"])
        and (one.kind == FOREIGN_KIND or not only["foreign"])
    ]
    if output == JSON:
        print_json(found)
    else:
        show_flows(found, output == WIDE)
    for line in answer.missing:
        click.echo(f"headgate: {line}", err=True)


def _table(text: str) -> int:
    """The number of a table: by the name of a table of the pipeline, or any number below 255."""
    if text.isdecimal() and int(text) < 255:
        return int(text)
    numbers = {name: number for number, name in TABLE_NAMES.items()}
    if text not in numbers:
        raise click.UsageError(f"--table: there is no table {text!r}; there are {', '.join(numbers)}")
    return numbers[text]


def show_flows(found: list[FlowView], wide: bool = False) -> None:
    """Print flows, grouped by switch and table of the pipeline."""
    page = OutputPage()
    if not found:
        page.line("No flows.")
        return
    columns = ("PRIORITY", "PACKETS", *(("BYTES", "AGE", "COOKIE") if wide else ()), "MATCH", "ACTIONS", "FOR")
    ordered = sorted(found, key=_order)
    for (node, bridge, (rank, _), table), group in groupby(
        ordered, key=lambda one: (one.node, one.bridge, _rank(one), f"{one.table} {one.table_name}".strip())
    ):
        title = f"{node or '(no hostname)'} {bridge}, table {table}{RANK_TITLES.get(rank, '')}"
        rows = [_row(one, wide) for one in group]
        page.table(title, columns, rows, right="PRIORITY PACKETS BYTES AGE", whole="COOKIE", terms="MATCH ACTIONS")


RANK_FOREIGN, RANK_DECIDING, RANK_OTHER, RANK_DISCOVERY = range(4)
RANK_TITLES = {RANK_FOREIGN: ": foreign flows", RANK_DISCOVERY: " (discovery)"}


def _rank(one: FlowView) -> tuple[int, int]:
    """Where a flow is shown: by what it does, then by its table."""
    if one.kind == FOREIGN_KIND:
        return RANK_FOREIGN, one.table
    if one.table_name in DECIDING_TABLES:
        return RANK_DECIDING, DECIDING_TABLES.index(one.table_name)
    if one.table_name in DISCOVERY_TABLES or one.match.startswith(DISCOVERY_MATCHES):
        return RANK_DISCOVERY, one.table
    return RANK_OTHER, one.table


def _order(one: FlowView) -> tuple[object, ...]:
    return one.node, one.bridge, _rank(one), one.table, -one.priority, one.match


def _row(one: FlowView, wide: bool) -> Row:
    counted = [str(one.packets), *([str(one.bytes)] if wide else [])]
    cells: list[Row] = [tuple(text if one.packets else dim(text) for text in counted)]
    if wide:
        cells.append((f"{one.duration} s", f"{one.cookie:#018x}"))
    return str(one.priority), *(cell for row in cells for cell in row), one.match or "any", _actions(one), purpose(one)


def _actions(one: FlowView) -> str:
    return one.actions or "drop"


def purpose(one: FlowView) -> str:
    """The purpose of a flow in a few words: its rules or else policies, its pods, and its note."""
    if one.rules:
        names = [f"rule {first_names(one.rules, MAX_OWNERS_SHOWN)}"]
    elif one.kind.startswith("deny_") and one.policies:
        names = [f"{one.kind.removeprefix('deny_')} isolated by {first_names(one.policies, MAX_OWNERS_SHOWN)}"]
    else:
        names = [f"policy {first_names(one.policies, MAX_OWNERS_SHOWN)}"] if one.policies else []
    names.append(f"pod {first_names(one.pods, MAX_OWNERS_SHOWN)}" if one.pods else "")
    names.append(one.note)
    return "; ".join(filter(None, names)) or one.kind
