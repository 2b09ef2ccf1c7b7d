"""`headgate explain`: whether a connection is allowed, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import click

from controller.cli.client import ControllerClient
from controller.cli.cluster_choice import cluster_options
from controller.cli.errors import EXIT_FAILED, EXIT_OK, CommandFailure, WrongUsage
from controller.cli.output import BAD, DIM, GOOD, JSON, OutputPage, output_option, print_json
from controller.sources.offline import OfflineCluster
from flows.cluster.model import Tier
from flows.explain.model import Connection, EndExplanation, Explanation, Step
from flows.explain.question import explain as explain_here
from flows.policy.probe import ProbeError


@click.command()
@output_option
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option("-p", "--port", metavar="PORT[/PROTO]", default="", help="Like 80, 53/UDP or icmp.")
@click.option("--ip-version", type=click.Choice(["4", "6"]), help="Only this family.  [default: each that both have]")
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
) -> None:
    """Say whether SRC may open connections to DST, and why.

    SRC and DST are pods (NAMESPACE/NAME), nodes, addresses, or as DST a Service, which stands for its endpoints. Where
    two have one name, write pod:, service: or node: before it.

    Where policy denies, the rules that do not match follow with what differs in each, the nearest first. A rule in
    brackets does not count for this pod: its policy does not select it, or does not isolate in this direction.

    The running controller is asked, unless manifests or a cluster's API are to be read. Exit codes: 0 allowed; 1
    denied; 2 wrong usage, or no answer possible; 3 the controller does not answer.

    \b
    Examples:
      headgate explain tenant-a/frontend tenant-a/backend -p 80
      headgate explain 10.0.1.7 kube-system/dns -p 53/UDP
      headgate explain tenant-a/frontend 203.0.113.10 -p icmp --ip-version 4
      headgate explain shop/web shop/db -p 5432 --manifests deploy/
      kubectl get ns,po,netpol -A -o yaml | headgate explain shop/web shop/db -p 5432 --manifests -
    """
    found = _ask(server, source, destination, port, ip_version, offline)
    if output == JSON:
        print_json(found)
    else:
        show_explanation(found)
    click.get_current_context().exit(EXIT_OK if found.allowed else EXIT_FAILED)


def _ask(
    server: str,
    source: str,
    destination: str,
    port: str,
    version: str | None,
    here: OfflineCluster | None,
) -> Explanation:
    """The explanation, from the cluster that was read, else from the controller. Raises WrongUsage."""
    try:
        if here is not None:
            return explain_here(here.cluster, source, destination, port, int(version) if version else None)
        return ControllerClient(server).explain(source=source, destination=destination, port=port, version=version)
    except ProbeError as error:
        raise WrongUsage(str(error)) from None
    except CommandFailure as error:
        if error.exit_code != EXIT_FAILED:
            raise
        raise WrongUsage(error.message) from None  # 1 says that policy denies


def show_explanation(found: Explanation) -> None:
    """Print an explanation: the answer first, then the reasons. Families with equal reasons are shown together."""
    page = OutputPage()
    for note in found.notes:
        page.line(note, DIM)
    for number, group in enumerate(_alike(found.connections)):
        if number or found.notes:
            page.line()
        _show_connections(page, group)


def _alike(connections: tuple[Connection, ...]) -> Iterator[list[Connection]]:
    """Neighbors that differ by their addresses alone."""
    for _, group in groupby(connections, key=_without_addresses):
        yield list(group)


def _without_addresses(one: Connection) -> Connection:
    if one.source == one.source_address or one.destination == one.destination_address:
        return one  # two addresses are two questions
    protocol = one.protocol.replace("ICMPv6", "ICMP")
    return replace(one, source_address="", destination_address="", protocol=protocol)


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
