"""`headgate flows`: the actual flows of the switches, with their purpose and counters."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import click

from controller.cli.client import ControllerClient
from controller.cli.flow_lines import flows_view, raw_lines, show_stages, stages_view, watch_flows
from controller.cli.names import Namespaced, PolicyName, first_names
from controller.cli.output import JSON, WIDE, OutputPage, Row, dim, print_json, wide_output_option
from controller.cli.which_controller import controller_options
from controller.status.model import FlowsAnswer, FlowView
from flows.pipeline.priorities import DECLARED_PRIORITIES, MISS
from flows.pipeline.tables import TABLE_NAMES, TABLES

MAX_OWNERS_SHOWN = 3  # rules or policies of one flow that are shown; -o json has all
FOREIGN_KIND = "foreign"  # the kind of foreign flows
PIPELINE_KIND = "pipeline"  # of flows in which no pod and no policy is; what they are for is declared by priority
WATCH_SECONDS = 2.0
# Tables that decide come first, in the order in which a packet passes them; then all others; discovery last.
DECIDING_TABLES = ("egress", "egress_default", "ingress", "ingress_default", "deny", "state", "invalid")
DISCOVERY_TABLES = ("nd_guard", "neighbor", "flood")
DISCOVERY_MATCHES = ("arp", "icmp6")


def _purposes() -> dict[tuple[str, int], str]:
    """What the flows of a table and priority are for; of a priority that is declared twice, both."""
    found = {(one.name, MISS): f"nothing else matched: {one.miss}" for one in TABLES}
    for one in DECLARED_PRIORITIES:
        for table in one.tables:
            before = found.get((table, one.number))
            found[table, one.number] = f"{before}; or {one.purpose}" if before else one.purpose
    return found


PURPOSES = _purposes()


@click.command()
@wide_output_option
@click.option("--node", metavar="NAME", help="Only the switch of this node.")
@click.option("--pod", metavar="NAMESPACE/NAME", type=Namespaced(), help="Only flows for this pod's port.")
@click.option(
    "--policy",
    metavar="[NAMESPACE/]NAME",
    type=PolicyName(),
    help="Only flows of this policy: its rules, and the isolation of its subjects.",
)
@click.option("--table", metavar="NAME", help="Only this table of the pipeline, by name or number.")
@click.option("--denied", is_flag=True, help="Only flows that deny packets because of isolation.")
@click.option("--nonzero", is_flag=True, help="Only flows that packets have matched.")
@click.option("--foreign", is_flag=True, help="Only flows that are not Headgate's.")
@click.option("--stages", is_flag=True, help="The tables in the order of the pipeline, with their flows and packets.")
@click.option("--raw", is_flag=True, help="Lines as ovs-ofctl prints them.")
@click.option("--watch", is_flag=True, help="Which flows count now, and how many packets a second.")
@click.option(
    "--every", metavar="SECONDS", type=click.FloatRange(0.2, 3600), default=WATCH_SECONDS, show_default=True,
    help="Between readings of --watch.",
)  # fmt: skip
@click.option("--rounds", metavar="N", type=click.IntRange(1), help="End --watch after so many readings.")
@controller_options
def flows(
    server: str,
    /,
    output: str,
    node: str | None,
    pod: str | None,
    policy: str | None,
    table: str | None,
    every: float,
    rounds: int | None,
    **flags: bool,
) -> None:
    """Show the flows on the switches: match, actions, counters, and the pod, policy and rule of each.

    They are read from the switches now. Matches and actions have the syntax of ovs-ofctl. Foreign flows come first,
    then the flows that decide about packets, then the others; neighbor discovery (ARP, ND) comes last.

    --raw prints what `ovs-ofctl -O OpenFlow14 --names --no-stats dump-flows` does, byte for byte. Not among the flows
    are those that the switch has learned, cache marks, and foreign flows that no packet of the pipeline can match;
    timeouts of foreign flows are not printed.

    \b
    Examples:
      headgate flows --node node-1
      headgate flows --policy tenant-a/pol1
      headgate flows --pod tenant-a/backend-1 --denied --nonzero
      headgate flows --table ingress -o json | jq '.flows[].rules'
      headgate flows --pod tenant-a/backend-1 --watch
      headgate flows --node node-1 --raw | grep table=ingress
    """
    number = None if table is None else _table(table)
    if sum(flags[name] for name in ("stages", "raw", "watch")) + (output == JSON and flags["raw"]) > 1:
        raise click.UsageError("--stages, --raw and --watch exclude each other, and --raw is text")
    client = ControllerClient(server)

    def read() -> FlowsAnswer:
        answer = client.flows(node=node, pod=pod, policy=policy)
        return answer._replace(flows=[one for one in answer.flows if _chosen(one, number, flags)])

    if flags["watch"]:
        watch_flows(read, every, rounds, output, purpose)
        return
    found = read()
    if output == JSON:
        print_json(stages_view(found) if flags["stages"] else flows_view(found))
    elif flags["raw"]:
        for line in raw_lines(found.flows):
            click.echo(line)
    elif flags["stages"]:
        show_stages(stages_view(found))
    else:
        show_flows(found.flows, output == WIDE)
    for line in found.missing:
        click.echo(f"headgate: {line}", err=True)


def _chosen(one: FlowView, table: int | None, flags: Mapping[str, bool]) -> bool:
    return (
        (table is None or one.table == table)
        and (one.kind.startswith("deny_") or not flags["denied"])
        and (bool(one.packets) or not flags["nonzero"])
        and (one.kind == FOREIGN_KIND or not flags["foreign"])
    )


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
    if one.kind == PIPELINE_KIND and not any(names):
        return PURPOSES.get((one.table_name, one.priority), one.kind)
    return "; ".join(filter(None, names)) or one.kind
