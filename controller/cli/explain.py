"""`headgate explain`: whether a connection is allowed, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import click

from controller.cli.client import ControllerClient
from controller.cli.cluster_choice import cluster_options
from controller.cli.errors import EXIT_DISAGREES, EXIT_FAILED, EXIT_OK, CommandFailure, WrongUsage
from controller.cli.output import BAD, DIM, GOOD, JSON, OutputPage, output_option, print_json
from controller.sources.offline import OfflineCluster
from flows.cluster.model import Tier
from flows.explain.model import (
    Connection,
    EndExplanation,
    Explanation,
    Hit,
    LiveProbe,
    Promotion,
    Step,
    SwitchWalk,
)
from flows.explain.question import explain as explain_here
from flows.policy.probe import ProbeError


@click.command()
@output_option
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option("-p", "--port", metavar="PORT[/PROTO]", default="", help="Like 80, 53/UDP or icmp.")
@click.option("--ip-version", type=click.Choice(["4", "6"]), help="Only this family.  [default: each that both have]")
@click.option("--policy-only", is_flag=True, help="Do not look at the flows on the switches.")
@click.option("--live", is_flag=True, help="Send one packet through the real tables; no pod sees it.")
@click.option("--deliver", is_flag=True, help="With --live: the destination gets the packet if the switches let it.")
@cluster_options
def explain(
    server: str,
    offline: OfflineCluster | None,
    /,
    output: str,
    source: str,
    destination: str,
    port: str,
    ip_version: str | None,
    policy_only: bool,
    live: bool,
    deliver: bool,
) -> None:
    """Say whether SRC may open connections to DST, and why.

    SRC and DST are pods (NAMESPACE/NAME), nodes, addresses, or as DST a Service, which stands for its endpoints. Where
    two have one name, write pod:, service: or node: before it. ADDRESS:PORT, as logs have it, is understood; the port
    of SRC does not matter.

    Where policy denies, the rules that do not match follow with what differs in each, the nearest first. A rule in
    brackets does not count for this pod: its policy does not select it, or does not isolate in this direction.

    --live has the switches take one packet (a SYN, a datagram, an echo request) as if SRC, a pod, had sent it, and
    shows where each switch would send it or where it was dropped. It is not recorded, passes no meter and no link, and
    rules that it meets count it. What it cannot tell is in docs/debugging.md.

    The running controller is asked, unless manifests or a cluster's API are to be read. Exit codes: 0 allowed; 1
    denied; 2 wrong usage, or no answer possible; 3 the controller does not answer; 4 a switch does not do what policy
    says.

    \b
    Examples:
      headgate explain tenant-a/frontend tenant-a/backend -p 80
      headgate explain 10.0.1.7 kube-system/dns -p 53/UDP
      headgate explain 10.0.1.7:49152 10.0.2.3:5432
      headgate explain tenant-a/frontend 203.0.113.10 -p icmp --ip-version 4
      headgate explain shop/web shop/db -p 5432 --manifests deploy/
      headgate explain shop/web shop/db -p 5432 --live
      kubectl get ns,po,no,netpol -A -o yaml | headgate explain shop/web shop/db -p 5432 --manifests -
    """
    if (deliver and not live) or (live and (policy_only or offline is not None)):
        raise click.UsageError("--live asks the switches of a running controller, and --deliver goes with --live")
    if live:
        found = _probe(server, source, destination, port, ip_version, deliver)
    else:
        found = _ask(server, source, destination, port, ip_version, offline, not policy_only)
    if output == JSON:
        print_json(found)
    else:
        show_explanation(found)
    code = EXIT_OK if found.allowed else EXIT_FAILED
    click.get_current_context().exit(code if found.agrees else EXIT_DISAGREES)


def _ask(
    server: str,
    source: str,
    destination: str,
    port: str,
    version: str | None,
    here: OfflineCluster | None,
    switches: bool,
) -> Explanation:
    """The explanation, from the cluster that was read, else from the controller. Raises WrongUsage."""
    try:
        if here is not None:
            return explain_here(here.cluster, source, destination, port, int(version) if version else None)
        return ControllerClient(server).explain(
            source=source, destination=destination, port=port, version=version, switches=str(int(switches))
        )
    except ProbeError as error:
        raise WrongUsage(str(error)) from None
    except CommandFailure as error:
        if error.exit_code != EXIT_FAILED:
            raise
        raise WrongUsage(error.message) from None  # 1 says that policy denies


def _probe(server: str, source: str, destination: str, port: str, version: str | None, deliver: bool) -> Explanation:
    """The explanation with a live packet. Raises WrongUsage, or Unreachable."""
    try:
        return ControllerClient(server).probe(
            source=source, destination=destination, port=port, version=version, deliver=str(int(deliver))
        )
    except CommandFailure as error:
        if error.exit_code != EXIT_FAILED:
            raise
        raise WrongUsage(error.message) from None


def show_explanation(found: Explanation) -> None:
    """Print an explanation: the answer first, then the reasons. Families with equal reasons are shown together."""
    page = OutputPage()
    for one in found.connections:
        if one.switches is not None and not one.switches.agrees:
            page.line(f"The switches DISAGREE with policy: {_disagreement(one, one.switches)}", BAD)
        if one.live is not None and not one.live.agrees:
            page.line(f"A live packet DISAGREES with policy: {_live_disagreement(one, one.live)}", BAD)
    for note in found.notes:
        page.line(note, DIM)
    for number, group in enumerate(_alike(found.connections)):
        if number or found.notes:
            page.line()
        _show_connections(page, group)


def _disagreement(one: Connection, walk: SwitchWalk) -> str:
    ends = f"{one.source_address} to {one.destination_address}"
    if walk.delivered:
        return f"policy denies {ends}, and the packet is delivered"
    return f"policy allows {ends}, and the packet is not delivered: {walk.reason}"


def _live_disagreement(one: Connection, live: LiveProbe) -> str:
    ends = f"{one.source_address} to {one.destination_address}"
    if live.delivered:
        return f"policy denies {ends}, and the packet would be delivered"
    return f"policy allows {ends}, and the packet is not delivered: {live.reason}"


def _show_live(page: OutputPage, live: LiveProbe) -> None:
    """What the switches did with the packet that was sent."""
    if not live.sent:
        page.line(f"  live: {live.reason}", BAD)
    elif live.delivered:
        page.line(f"  live: the packet came through{', and the pod got it' if live.shown else '; no pod saw it'}")
    else:
        page.line(f"  live: the packet did not come through: {live.reason}")
    rows = [(leg.node or "-", leg.entered, leg.table or "-", leg.to) for leg in live.legs]
    page.table("Where the live packet went", ("NODE", "ENTERED AT", "TO TABLE", "WHICH WOULD SEND IT TO"), rows)
    for note in live.notes:
        page.line(f"  note: {note}", DIM)


def _alike(connections: tuple[Connection, ...]) -> Iterator[list[Connection]]:
    """Neighbors that differ by their addresses alone."""
    for _, group in groupby(connections, key=_without_addresses):
        yield list(group)


def _without_addresses(one: Connection) -> Connection:
    if one.source == one.source_address or one.destination == one.destination_address:
        return one  # two addresses are two questions
    protocol = one.protocol.replace("ICMPv6", "ICMP")
    return replace(one, source_address="", destination_address="", protocol=protocol, switches=None, live=None)


def _show_connections(page: OutputPage, group: list[Connection]) -> None:
    one = group[0]
    port = "" if one.port is None else f" port {one.port}"
    pairs = ", ".join(f"{same.source_address} to {same.destination_address}" for same in group)
    answer = "ALLOWED" if one.allowed else "DENIED"
    page.line(f"{answer}: {one.protocol}{port} from {one.source} to {one.destination}", GOOD if one.allowed else BAD)
    if one.source != one.source_address or one.destination != one.destination_address:
        page.line(f"  {pairs}", DIM)
    for end in (one.egress, one.ingress):
        _show_end(page, end)
    if one.promoted is not None:
        _show_promotion(page, one, one.promoted)
    for same in group:
        if same.switches is not None:
            _show_walk(
                page, same.switches, "" if len(group) == 1 else f"{same.source_address} to {same.destination_address}"
            )
        if same.live is not None:
            _show_live(page, same.live)


def _show_promotion(page: OutputPage, one: Connection, then: Promotion) -> None:
    """The verdict once staged policies are promoted, and the ends where it differs."""
    answer = "allowed" if then.allowed else "denied"
    page.line(f"  once staged policies are promoted: {answer}", "" if then.allowed is one.allowed else BAD)
    for end, now in ((then.egress, one.egress), (then.ingress, one.ingress)):
        if (end.allowed, end.steps, end.decided_by) != (now.allowed, now.steps, now.decided_by):
            _show_end(page, end)


def _show_walk(page: OutputPage, walk: SwitchWalk, ends: str) -> None:
    """The way through the switches' flows, table by table. `ends` are named where several walks are shown."""
    where = ", ".join(walk.arrived)
    answer = f"arrives at {where}" if walk.delivered else f"is not delivered: {walk.reason}"
    page.line(
        f"  on the switches the first packet{f' from {ends}' if ends else ''} {answer}", "" if walk.agrees else BAD
    )
    rows = [
        (hit.node or "-", f"{hit.table} {hit.table_name}", str(hit.packets) if hit.kind else "-", _what(hit))
        for hit in walk.hits
    ]
    page.table(
        f"Flows that it matches{f', from {ends}' if ends else ''}",
        ("NODE", "TABLE", "PACKETS", "FLOW"),
        rows,
        right="PACKETS",
        terms="FLOW",
    )
    if walk.note:
        page.line(f"  note: {walk.note}", DIM)


def _what(hit: Hit) -> str:
    """What a flow is for, its match and its actions."""
    if not hit.kind:
        return "no flow matches"
    names = ", ".join(hit.rules or hit.policies)
    purpose = f"{hit.kind.replace('_', ' ')}{f' of {names}' if names else ''}: "
    return f"{purpose}{hit.match or 'any'} -> {hit.actions or 'drop'}"


def _show_end(page: OutputPage, end: EndExplanation) -> None:
    head = f"  {end.direction} {'from' if end.direction == 'egress' else 'to'} {end.end}: "
    page.line(head + _answer(end))
    for step in end.steps:
        for line in _step_lines(step):
            page.line(line)
    if end.more_steps:
        page.line(f"    and {end.more_steps:,} more rules")


def _answer(end: EndExplanation) -> str:
    """What decides at one end, before its rules."""
    if end.decided_by:
        return f"{'allowed' if end.allowed else 'denied'} by {end.decided_by}"
    if end.reason:
        return f"allowed: {end.reason}"
    isolated = f"isolated by {', '.join(end.isolated_by)}; "
    if end.allowed:
        return f"{isolated}allowed by"
    return f"{isolated}no rule allows it{', nearest first' if end.steps else ''}"


def _step_lines(step: Step) -> Iterator[str]:
    """A rule and what differs in it; in brackets where it does not count."""
    name = f"{step.policy} {step.rule}"
    if step.tier != Tier.NETWORK_POLICY:
        name = f"{name} ({step.tier}, {step.action}{f', {step.name!r}' if step.name else ''})"
    if step.matches and step.counts:
        what = f"({step.peer or 'any peer'}, {step.port or 'any protocol and port'})"
        yield f"    {name} {what if step.tier == Tier.NETWORK_POLICY else step.note or 'matches'}"
        return
    name = name if step.counts else f"({name})"
    texts = [f"{one.where}: {one.text}" if one.where else one.text for one in step.differences]
    yield f"    {name} {texts[0] if texts else ''}".rstrip()
    for text in texts[1:]:
        yield f"    {' ' * len(name)} {text}"
