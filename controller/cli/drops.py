"""`headgate drops`: every kind of dropped packet, with its cause."""

from __future__ import annotations

import click

from controller.base.printable import printable
from controller.cli.audit import follow_events, show_events, tell_unknown
from controller.cli.client import ControllerClient
from controller.cli.durations import Duration
from controller.cli.names import Namespaced
from controller.cli.output import BAD, DIM, JSON, OutputPage, output_option, print_json
from controller.cli.which_controller import controller_options
from controller.status.audit_model import DropsAnswer, DropTotal

DROPPED = "denied,dropped,unreported"


@click.command()
@output_option
@click.option("-f", "--follow", is_flag=True, help="Go on with events as they come, until interrupted.")
@click.option("--pod", metavar="NAMESPACE/NAME", type=Namespaced(), help="Only what concerns this pod.")
@click.option("--since", type=Duration(), help="Only events of the last DURATION, like 10m; totals are not cut.")
@controller_options
def drops(server: str, output: str, follow: bool, pod: str | None, since: int | None) -> None:
    """Show what is dropped and why: by policy, forged, invalid, for nobody, by a limit, or by a foreign flow.

    Totals are counted for every pod: up to now with --pod and where there are up to eight switches, else as of the last
    audit of each (`headgate status --switches -o wide`). Single packets are shown of pods that are audited (`headgate
    audit --help`). With -o json and --follow every event is a line of JSON.

    \b
    Causes:
      policy   the policies that isolate a pod, or a rule that denies
      forged   not sent from an address of the pod's own (sent), or by another port from the pod's address (address)
      invalid  conntrack refuses it: a checksum (broken), or mid-stream or out of sequence (connection)
      nobody   nobody has the destination
      limit    more new connections or fragments than a pod may have
      foreign  a flow that Headgate did not make took it; what became of it is not known here
    """
    client = ControllerClient(server)
    first = client.audit(limit="0").next - 1
    found = client.drops(pod=pod, since=None if since is None else str(since))
    if pod is not None and not (found.totals or found.events):
        tell_unknown(client, pod)
    if output == JSON and not follow:
        print_json(found)
    elif output == JSON:
        show_events(found.events, output)
    else:
        show_drops(found)
    if follow:
        follow_events(client, first, output, pod=pod, verdict=DROPPED)


def show_drops(found: DropsAnswer) -> None:
    """Totals, foreign flows, events."""
    page = OutputPage()
    for problem in found.problems:
        page.line(printable(problem), DIM)
    rows = [(one.pod, one.cause, one.detail, f"{one.packets:,}", _policies(one)) for one in found.totals]
    page.table("Dropped since the controller started", ("POD", "CAUSE", "DETAIL", "PACKETS", "POLICIES"), rows,
               right="PACKETS")  # fmt: skip
    foreign = [
        (one.node, one.table, f"{one.packets:,}", f"{one.match or 'any'} -> {one.actions or 'drop'}")
        for one in found.foreign
    ]
    page.table("Foreign flows with packets", ("NODE", "TABLE", "PACKETS", "FLOW"), foreign, right="PACKETS")
    if not (found.totals or foreign or found.events):
        page.line("Nothing was dropped that Headgate knows of.")
    if found.events:
        if page.written:
            page.line()
        page.line("Packets of audited pods", BAD)
        show_events(found.events, "human")


def _policies(one: DropTotal) -> str:
    """What isolates the pod; where no NetworkPolicy does, a rule of a tier has denied."""
    return one.policies or ("a rule of a ClusterNetworkPolicy" if one.cause == "policy" else "-")
