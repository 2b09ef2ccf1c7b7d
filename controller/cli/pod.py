"""`headgate pod`: prints everything known about one pod."""

from __future__ import annotations

import click

from controller.cli.client import ControllerClient
from controller.cli.findings import dropped_by_limits, pod_reason
from controller.cli.names import Namespaced, count_text
from controller.cli.output import JSON, WIDE, OutputPage, Row, dim, print_json, seconds, wide_output_option
from controller.cli.rules import show_rules, show_staged
from controller.cli.which_controller import controller_options
from controller.status.detail_model import IsolationView, PodDetail


@click.command()
@wide_output_option
@click.argument("pod", metavar="NAMESPACE/NAME", type=Namespaced())
@controller_options
def pod(server: str, output: str, pod: str) -> None:
    """Show everything about one pod: its port and addresses, the policies that isolate it, its rules and their hits.

    Hits (packets) are read from the pod's switch now. They count all subjects of a rule on that switch, not this pod
    alone.

    \b
    Examples:
      headgate pod tenant-a/backend-1
      headgate pod tenant-a/backend-1 -o json | jq '.isolation'
    """
    found = ControllerClient(server).pod(pod)
    if output == JSON:
        print_json(found)
    else:
        show_pod(found, output == WIDE)


def show_pod(found: PodDetail, wide: bool = False) -> None:
    """Print the details of a pod."""
    page = OutputPage()
    one = found.pod
    state = "realized" if found.in_force else "NOT realized"
    if found.host_network or found.finished:
        state = "no policy applies to it"
    page.line(f"Pod {one.key}: {state}")
    if reason := "" if found.host_network or found.finished else pod_reason(one):
        page.line(f"  reason      {reason}")
    elif one.reason:
        page.line(f"  reason      {one.reason}")
    port = f"{one.port} on {found.bridge}, OpenFlow port {count_text(one.ofport)}" if one.port else "-"
    for label, value in (
        ("node", one.node or "-"),
        ("port", port),
        ("addresses", ", ".join(one.addresses) or "-"),
        ("MAC", one.mac or "-"),
        ("labels", " ".join(f"{key}={value}" for key, value in found.labels.items()) or "-"),
        ("port names", " ".join(found.container_ports) or "-"),
        (
            "installed",
            f"{seconds(one.programmed_after)} after it appeared" if one.programmed_after is not None else "-",
        ),
        ("limits", dropped_by_limits(one) or "nothing dropped"),
        ("invalid", f"{one.invalid:,} packets dropped" if one.invalid else "nothing dropped"),
    ):
        page.line(f"  {label:<11} {value}")
    page.table(
        "Isolation and denied packets",
        ("DIRECTION", "ISOLATED", "DENIED", "POLICIES"),
        [_isolation(one) for one in found.isolation],
        right="DENIED",
    )
    show_staged(page, found.staged)
    show_rules(page, "Rules that allow", found.rules, wide)
    if not found.rules and any(one.policies for one in found.isolation):
        page.line("No rule allows anything in the isolated directions.")
    if found.learned:
        page.table(
            "Addresses learned from DNS",
            ("NAME", "ADDRESS", "NEW CONNECTIONS"),
            [
                (one.name, one.address, "none" if one.seconds is None else f"for {one.seconds:.0f} s")
                for one in found.learned
            ],
        )
    if found.note:
        page.line(f"Note: {found.note}")


def _isolation(one: IsolationView) -> Row:
    return (
        one.direction,
        "yes" if one.policies else dim("no"),
        count_text(one.denied_packets),
        ", ".join(one.policies) or "-",
    )
