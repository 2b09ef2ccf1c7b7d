"""`headgate audit`: connections that were denied, dropped or opened, as the switches reported them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import click

from controller.base.printable import printable
from controller.cli.client import ControllerClient
from controller.cli.durations import Duration
from controller.cli.errors import CommandFailure, Unreachable
from controller.cli.names import Namespaced
from controller.cli.output import BAD, DIM, GOOD, JSON, OutputPage, output_option
from controller.cli.which_controller import controller_options
from controller.status.audit_model import AuditAnswer, AuditEnd, AuditEvent

VERDICTS = ("denied", "dropped", "allowed", "would-deny", "unreported")
_STYLES = {"allowed": GOOD, "unreported": DIM}


@click.command()
@output_option
@click.option("-f", "--follow", is_flag=True, help="Go on with events as they come, until interrupted.")
@click.option("--pod", metavar="NAMESPACE/NAME", type=Namespaced(), help="Only events with this pod at an end.")
@click.option("--since", type=Duration(), help="Only events of the last DURATION, like 10m.")
@click.option("--verdict", type=click.Choice(VERDICTS), multiple=True, help="Only events of this kind; repeatable.")
@click.option("-n", "--last", type=click.IntRange(0, 10_000), default=1000, show_default=True, help="At most so many.")
@controller_options
def audit(
    server: str,
    output: str,
    follow: bool,
    pod: str | None,
    since: int | None,
    verdict: tuple[str, ...],
    last: int,
) -> None:
    """Show connections that were denied or dropped, and connections that opened, with the policies and rules.

    Nothing is audited until somebody asks for it: by the annotation headgate.io/audit with the value denied or all, of
    a pod, a namespace or a policy, or by `headgate run --audit`. A policy's annotation has the pods audited that it
    isolates. A pod's own annotation counts before its namespace's; off ends what the namespace or the option asks for.

    With -o json every event is a line of JSON.

    \b
    Examples:
      kubectl annotate namespace shop headgate.io/audit=denied
      headgate audit --follow
      headgate audit --pod shop/web --since 10m -o json | jq -r .text
    """
    client = ControllerClient(server)
    question = {"pod": pod, "since": None if since is None else str(since), "verdict": ",".join(verdict)}
    found = client.audit(**question, limit=str(last))
    show_events(found.events, output)
    if pod is not None and not found.events:
        tell_unknown(client, pod)
    if output != JSON:
        show_summary(found, follow)
    if follow:
        follow_events(client, found.next - 1, output, pod=pod, verdict=question["verdict"])


def tell_unknown(client: ControllerClient, pod: str) -> None:
    """Say on standard error that there is no such pod: nothing about it may be a slip of the pen."""
    try:
        client.pod(pod)
    except Unreachable:
        raise
    except CommandFailure as error:
        click.echo(f"headgate: {error.message}", err=True)


def follow_events(client: ControllerClient, after: int, output: str, **question: str | None) -> None:
    """Print events as they come, until interrupted."""
    for event in client.follow_audit(after, **question):
        show_events([event], output)


def show_events(events: Iterable[AuditEvent], output: str) -> None:
    """One line for each event."""
    if output == JSON:
        for event in events:
            click.echo(json.dumps(asdict(event)))
        return
    page = OutputPage()
    for event in events:
        page.line(event_line(event), _STYLES.get(event.verdict, BAD))
        if event.text:
            page.line(f"    {printable(event.text)}", DIM)


def event_line(event: AuditEvent) -> str:
    """Time, verdict, the connection and where."""
    verdict = event.verdict.upper() if event.cause == "policy" else f"{event.verdict.upper()} ({event.cause})"
    if event.packets > 1 or event.verdict == "unreported":
        verdict += f" {event.packets:,} packets"
    port = "" if event.destination.port is None else f" port {event.destination.port}"
    what = f"{event.protocol}{port} " if event.protocol else ""
    where = f" on {event.node}" if event.node else ""
    ends = f"{_end(event.source)} -> {_end(event.destination)}"
    return printable(f"{event.time} {verdict}: {what}{ends}{where}")


def _end(end: AuditEnd) -> str:
    return f"{end.name} ({end.address})" if end.name and end.address else end.shown


def show_summary(found: AuditAnswer, follow: bool) -> None:
    """What is not among the events."""
    page = OutputPage()
    for line in _summary(found, follow):
        page.line(line, DIM)


def _summary(found: AuditAnswer, follow: bool) -> Iterator[str]:
    yield from found.problems
    if found.unreported:
        parts = ", ".join(f"{number:,} {cause}" for cause, number in sorted(found.unreported.items()))
        yield f"packets without an event of their own: {parts}"
    if not found.audited:
        yield "no pod is audited: annotate a pod, a namespace or a policy with headgate.io/audit=denied"
    elif not found.events and not follow:
        yield f"no events; {found.audited:,} pods are audited"
