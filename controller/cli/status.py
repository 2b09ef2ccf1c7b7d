"""`headgate status`: what a running controller says of itself, in tables, and waiting until everything is realized."""

from __future__ import annotations

import time

import click

from controller.cli.asking import asks_controller
from controller.cli.client import Busy, Server
from controller.cli.errors import FAILED, Unreachable
from controller.cli.output import Page, Row, dim, mark, output_option, print_json, seconds
from controller.printable import printable
from controller.views import OvsdbView, PodView, PolicyView, StatusView, SwitchView, WaitResult

SLICE = 600.0  # the longest wait that one request asks for; the server allows no more
PAUSE = 0.2  # between attempts while the server is not there


@click.command()
@output_option
@click.option(
    "--wait",
    "waiting",
    is_flag=True,
    help="Block until all that stands in the sources now is realized on every switch.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --wait waits, for the controller to come up as well.",
)
@asks_controller
def status(server: str, output: str, waiting: bool, timeout: float) -> None:
    """Show switches, policies, pods and problems of the running controller.

    With --wait it returns 0 as soon as everything that stands in the sources at this moment (the manifest folder is
    read again, OVSDB asked) is realized on every switch concerned; else 1, or 3 when no controller answered, and says
    what is missing.

    \b
    Examples:
      headgate status
      headgate status -o json | jq '.policies[] | select(.realized | not)'
      cp policy.yaml manifests/ && headgate status --wait --timeout 30
    """
    asked = Server(server)
    if waiting:
        _report_wait(_wait(asked, timeout), output)
        return
    view = asked.status()
    if output == "json":
        print_json(view)
    else:
        show(view, server)


def _wait(server: Server, timeout: float) -> WaitResult:
    """Ask until it is realized or time is up; a server that is not there yet is asked again. Raises Unreachable.

    A server that answers before its time knows that waiting longer would not help.
    """
    deadline = time.monotonic() + timeout
    while True:
        asked_at = time.monotonic()
        wanted = min(max(0.0, deadline - asked_at), SLICE)
        try:
            result = server.wait(wanted)
        except (Unreachable, Busy):
            if time.monotonic() >= deadline:
                raise
        else:
            now = time.monotonic()
            if result.realized or now >= deadline or now - asked_at < wanted:
                return result
        time.sleep(max(0.0, min(PAUSE, deadline - time.monotonic())))


def _report_wait(result: WaitResult, output: str) -> None:
    if output == "json":
        print_json(result)
    elif result.realized:
        click.echo("Everything is realized.")
    if not result.realized:
        click.echo("headgate: not everything is realized; missing:", err=True)
        for line in result.missing or ("the controller does not say what",):
            click.echo(f"  {printable(line)}", err=True)
        click.get_current_context().exit(FAILED)


def show(view: StatusView, server: str = "") -> None:
    """Draw a status; `server` is who was asked."""
    page = Page()
    page.line(
        f"Headgate {view.version}{f' at {server}' if server else ''}, up {seconds(view.uptime)}, {_summary(view)}"
    )
    for missing in view.waiting_for:
        page.line(f"  waiting for {missing}")
    _sources(page, view)
    _switches(page, view)
    _policies(page, view)
    _pods(page, view)
    _problems(page, view)
    _tls(page, view)


def _summary(view: StatusView) -> str:
    if view.waiting_for:
        return "not ready: nothing is sent to switches yet"
    realized = sum(one.realized for one in view.policies)
    in_sync = sum(one.in_sync for one in view.switches)
    return f"{in_sync} of {len(view.switches)} switches in sync, {realized} of {len(view.policies)} policies realized"


def _sources(page: Page, view: StatusView) -> None:
    rows = [
        (one.name, one.kind, mark(one.synced), seconds(one.age), str(one.problems), one.reason or "-")
        for one in view.sources
    ]
    page.table("Sources", ("SOURCE", "KIND", "SYNCED", "AGE", "PROBLEMS", "REASON"), rows, right="PROBLEMS")
    ignored = [(one.name, what, str(number)) for one in view.sources for what, number in one.ignored.items()]
    page.table("Passed over in the sources", ("SOURCE", "WHAT", "NUMBER"), ignored, right="NUMBER")


def _switches(page: Page, view: StatusView) -> None:
    page.table(
        "Switches",
        ("NODE", "BRIDGE", "DATAPATH", "OVSDB", "OPENFLOW", "FLOWS", "FOREIGN", "LAST COMMIT", "STATE"),
        [_switch(one) for one in view.switches],
        right="FLOWS FOREIGN",
    )
    rows = [(one.node or one.ovsdb, one.error) for one in view.switches if one.error]
    page.table("Errors of switches", ("NODE", "ERROR"), rows)
    rows = [(one.node or one.ovsdb, one.limits) for one in view.switches if one.limits]
    page.table("Limits that do not hold", ("NODE", "REASON"), rows)
    page.table(
        "OVSDB connections that are away",
        ("REMOTE", "CONNECTED", "READ", "REASON"),
        [_remote(one) for one in view.ovsdb if not (one.connected and one.synced)],
    )
    page.table(
        "Ports without a pod (nothing passes them)",
        ("NODE", "BRIDGE", "PORT", "OFPORT", "REASON"),
        [
            (one.node, one.bridge, port.name, _or_dash(port.ofport), port.reason)
            for one in view.switches
            for port in one.unbound_ports
        ],
        right="OFPORT",
    )


def _switch(one: SwitchView) -> Row:
    actual = "?" if one.actual_flows is None else str(one.actual_flows)
    return (
        one.node or "(no hostname)",
        one.bridge,
        one.datapath_type or "system",
        mark(one.ovsdb_connected, "connected", "away"),
        mark(one.openflow_connected, "connected", "away"),
        f"{actual}/{one.desired_flows}",
        str(one.foreign_flows),
        "-" if one.commit_age is None else f"{seconds(one.commit_age)} ago",
        mark(one.in_sync, "in sync", "not in sync"),
    )


def _remote(one: OvsdbView) -> Row:
    name = f"{one.remote} (listening)" if one.listening else one.remote
    return name, mark(one.connected), mark(one.synced), one.reason or "-"


def _policies(page: Page, view: StatusView) -> None:
    columns = ("POLICY", "REALIZED", "ISOLATES", "PODS", "REASON")
    page.table("Policies", columns, [_policy(one) for one in view.policies], right="PODS")


def _policy(one: PolicyView) -> Row:
    return (
        one.key,
        mark(one.realized),
        ", ".join(one.isolates) or "-",
        str(one.pods),
        "; ".join(filter(None, (one.reason, *one.notes))) or "-",
    )


def _pods(page: Page, view: StatusView) -> None:
    columns = ("POD", "NODE", "PORT", "OFPORT", "ADDRESSES", "MAC", "ISOLATED", "INSTALLED", "TOOK", "REASON")
    # On a healthy cluster the last column would be empty, and width is scarce.
    kept = len(columns) if any(one.reason for one in view.pods) else len(columns) - 1
    page.table("Pods", columns[:kept], [_pod(one)[:kept] for one in view.pods], right="OFPORT TOOK")
    rows = [(one.key, one.node or "-", str(one.limited)) for one in view.pods if one.limited]
    page.table("Pods that sent more than their limits", ("POD", "NODE", "DROPPED"), rows, right="DROPPED")


def _pod(one: PodView) -> Row:
    return (
        one.key,
        one.node or "-",
        one.port or "-",
        _or_dash(one.ofport),
        ", ".join(one.addresses) or "-",
        one.mac or "-",
        ", ".join(one.isolated) or dim("no"),
        mark(one.installed),
        seconds(one.programmed_after),
        one.reason or "-",
    )


def _problems(page: Page, view: StatusView) -> None:
    rows = [(one.where, one.key or "-", one.field or "-", one.reason) for one in view.problems]
    page.table("Problems in the sources", ("WHERE", "OBJECT", "FIELD", "REASON"), rows)


def _tls(page: Page, view: StatusView) -> None:
    for address in view.plain:
        page.line(f"In plain text over the network: {address}")
    if view.tls is not None and view.tls.problem:
        page.line(f"TLS: {view.tls.problem}")
    if view.tls is not None and view.tls.refused:
        page.line(f"TLS: {view.tls.refused} connections refused, the last: {view.tls.last_refused}")


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
