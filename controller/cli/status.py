"""`headgate status`: state and problems on one screen, whole tables on request, and waiting until all is realized."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from controller.base.printable import printable
from controller.cli.client import Busy, ControllerClient
from controller.cli.errors import EXIT_FAILED, CommandFailure, Unreachable
from controller.cli.output import JSON, WIDE, OutputPage, print_json, wide_output_option
from controller.cli.status_choice import StatusChoice, of_node
from controller.cli.status_page import show_summary, show_tables
from controller.cli.status_tables import STATUS_TABLES
from controller.cli.which_controller import controller_options
from controller.status.model import StatusView, WaitResult

MAX_WAIT_REQUEST_SECONDS = 600.0  # of one request; the server allows no more
RECONNECT_PAUSE = 0.2  # between attempts while the controller does not answer
REFRESH_SECONDS = 1.0  # between requests of --watch


def _list_option(name: str, text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(f"--{name}", name, is_flag=True, help=text)


@click.command()
@wide_output_option
@_list_option("problems", "List all problems with their reasons.")
@_list_option("replicas", "List the replicas of the controller.")
@_list_option("switches", "List the switches.")
@_list_option("nodes", "List the nodes of a network in which the switches route, and what they lack.")
@_list_option("policies", "List the policies.")
@_list_option("pods", "List the pods.")
@_list_option("all", "All of these lists, and the sources.")
@click.option("--node", metavar="NAME", help="Only this node: its switch, pods and problems.")
@click.option("--watch", is_flag=True, help="Show the status again after each change, until interrupted.")
@click.option(
    "--wait",
    "waiting",
    is_flag=True,
    help="Block until everything that is in the sources now is realized on every switch.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --wait waits, including for the controller to start.",
)
@controller_options
def status(
    server: str, /, output: str, node: str | None, watch: bool, waiting: bool, timeout: float, **lists: bool
) -> None:
    """Show the state of the running controller and its problems.

    Without options the output fits on one screen: counts, the first problems, then as many tables as fit. The options
    show whole tables.

    With --wait it reads the manifest folder and OVSDB again and exits with 0 as soon as everything in them is realized
    on every switch concerned and, in a network that routes, every node is ready. Otherwise it prints what is missing
    and exits with 1, or 3 if no controller answered.

    \b
    Examples:
      headgate status
      headgate status --problems
      headgate status --node node-1 --watch
      headgate status -o json | jq '.policies[] | select(.realized | not)'
      cp policy.yaml manifests/ && headgate status --wait --timeout 30
    """
    asked = ControllerClient(server)
    if waiting and watch:
        raise click.UsageError("--wait and --watch exclude each other")
    if node and lists["policies"]:
        raise click.UsageError("--node and --policies exclude each other: a policy does not belong to one node")
    if waiting:
        _report_wait(_wait(asked, timeout), output)
        return
    chosen = StatusChoice(
        tuple(name for name in STATUS_TABLES if lists[name] or (lists["all"] and not (node and name == "policies"))),
        lists["all"],
        node or "",
        output == WIDE,
        server,
    )
    if watch:
        _watch(asked, chosen, output)
    view = _selected(asked.status(), chosen)
    if output == JSON:
        print_json(view)
    else:
        show_status(view, chosen)


def _selected(view: StatusView, chosen: StatusChoice) -> StatusView:
    """The chosen part of a status. Raises CommandFailure for an unknown node."""
    if not chosen.node:
        return view
    nodes = sorted({s.node for s in view.switches} | {p.node for p in view.pods} | {n.node for n in view.nodes})
    if chosen.node not in nodes:
        raise CommandFailure(
            f"there is no node {printable(chosen.node)}; there are {', '.join(filter(None, nodes)) or 'none'}"
        )
    return of_node(view, chosen.node)


def _watch(server: ControllerClient, chosen: StatusChoice, output: str) -> None:
    """Show the status after each change, until interrupted."""
    last: StatusView | str | None = None
    page = None if output == JSON else OutputPage()
    while True:
        try:
            view: StatusView | str = _selected(server.status(), chosen)
        except (Unreachable, Busy) as error:
            view = error.format_message()
        except CommandFailure as error:
            if last is None:
                raise
            view = error.format_message()  # the node is gone, and may come back
        if _without_ages(view) != last:
            last = _without_ages(view)
            if page is not None:
                page.begin()
            if isinstance(view, str):
                _print_reason(page, view)
            elif page is None:
                print_json(view)
            else:
                show_status(view, chosen, page)
        time.sleep(REFRESH_SECONDS)


def _print_reason(page: OutputPage | None, text: str) -> None:
    """Print why there is no status now: on the page, or on standard error beside the JSON."""
    if page is None:
        click.echo(f"headgate: {text}", err=True)
    else:
        page.line(f"headgate: {text}")


def _without_ages(view: StatusView | str) -> StatusView | str:
    """The status without values that change by themselves: ages and uptime."""
    from dataclasses import replace

    if isinstance(view, str):
        return view
    sources = tuple(replace(one, age=None) for one in view.sources)
    switches = tuple(replace(one, commit_age=None, owned_for=None, compare_age=None) for one in view.switches)
    replicas = tuple(replace(one, age=0.0) for one in view.replicas)
    return replace(view, uptime=0.0, sources=sources, switches=switches, replicas=replicas)


def _wait(server: ControllerClient, timeout: float) -> WaitResult:
    """Wait until everything is realized or `timeout` seconds have passed. Raises Unreachable.

    A controller that does not answer yet is asked again. One that answers before the time is up knows that waiting
    longer would not help.
    """
    deadline = time.monotonic() + timeout
    while True:
        asked_at = time.monotonic()
        limit = min(max(0.0, deadline - asked_at), MAX_WAIT_REQUEST_SECONDS)
        try:
            result = server.wait(limit)
        except (Unreachable, Busy):
            if time.monotonic() >= deadline:
                raise
        else:
            now = time.monotonic()
            if result.realized or now >= deadline or now - asked_at < limit:
                return result
        time.sleep(max(0.0, min(RECONNECT_PAUSE, deadline - time.monotonic())))


def _report_wait(result: WaitResult, output: str) -> None:
    if output == JSON:
        print_json(result)
    elif result.realized:
        click.echo("Everything is realized.")
    if not result.realized:
        click.echo("headgate: not everything is realized; missing:", err=True)
        for line in result.missing or ("the controller gives no details",):
            click.echo(f"  {printable(line)}", err=True)
        click.get_current_context().exit(EXIT_FAILED)


def show_status(view: StatusView, chosen: StatusChoice | None = None, page: OutputPage | None = None) -> None:
    """Print a status: the chosen tables, or else the summary."""
    chosen = chosen or StatusChoice()
    page = page or OutputPage()
    if chosen.tables:
        show_tables(page, view, chosen)
    else:
        show_summary(page, view, chosen)
