"""`headgate lab`: builds a small cluster of network namespaces on this machine, with its subcommands.

Only the command line belongs here. The lab itself is the package `topology`, which is imported when a command runs.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from controller.cli.lab.apply import apply, delete
from controller.cli.lab.cluster import cluster
from controller.cli.lab.exec import exec as execute
from controller.cli.lab.machine import machine
from controller.cli.lab.probe import probe
from controller.cli.lab.scenario import scenario
from controller.cli.lab.which_lab import LabChoice, complete_lab, lab_errors_as_failures
from controller.cli.output import JSON, OutputPage, Row, mark, output_option, print_json
from controller.cli.which_controller import (
    LAB_FOLDER,
    LAB_FOLDER_VARIABLE,
    LAB_VARIABLE,
    command_prefix,
    named_lab,
)

HTTP_PORT = 8080


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--name",
    envvar=LAB_VARIABLE,
    metavar="NAME",
    shell_complete=complete_lab,
    help=f"The lab to use if there are several. [env: {LAB_VARIABLE}]",
)
@click.option(
    "--run-dir",
    envvar=LAB_FOLDER_VARIABLE,
    default=LAB_FOLDER,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help=f"The folder of all labs. [env: {LAB_FOLDER_VARIABLE}]",
)
@click.pass_context
def lab(ctx: click.Context, name: str | None, run_dir: Path) -> None:
    """Build a small cluster on this machine and try policies in it.

    Each node is a network namespace with its own Open vSwitch, each pod a network namespace with one interface on its
    node's switch. Nothing outside the lab's namespaces is changed. Needs root and Open vSwitch.

    \b
    First steps:
      headgate lab up                     two nodes, four pods, a controller
      headgate lab probe                  which pods reach each other, with real packets
      headgate lab apply -f policy.yaml   create a NetworkPolicy
      headgate lab probe --changes        what the policy changed
      headgate lab down
    """
    ctx.obj = LabChoice(name or named_lab(ctx), run_dir.absolute())


# In the order of help; up, down and status are defined below.
for _command in (apply, delete, execute, probe, scenario, cluster, machine):
    lab.add_command(_command)


@lab.command("up", short_help="Start a lab: nodes, pods, headgate run.")
@click.option(
    "-f", "--file", "path", type=click.Path(path_type=Path), metavar="TOPOLOGY", help="A topology file (YAML)."
)
@click.option(
    "--datapath",
    type=click.Choice(["auto", "userspace", "kernel"]),
    default="auto",
    show_default=True,
    help="The datapath of Open vSwitch; auto is the kernel's if the kernel has the openvswitch module.",
)
@click.option(
    "--http-port",
    type=click.IntRange(1, 65535),
    help=f"Port of the controller's HTTP. [default: {HTTP_PORT}, or any free one]",
)
@click.option(
    "--no-controller", is_flag=True, help="Only nodes and pods. Nothing passes the switches until flows are added."
)
@click.pass_obj
def lab_up(where: LabChoice, path: Path | None, datapath: Any, http_port: int | None, no_controller: bool) -> None:
    """Start a lab: nodes, pods, and `headgate run`.

    Without -f it is the tenant example: two nodes, namespaces tenant-a and tenant-b, pods with the label segment.
    Remains of an earlier lab of this name, after a crash for instance, are removed first. A lab that is already up
    stays unchanged.

    \b
    A topology file:
      name: mine
      ports: [80, 53/UDP, "web:8080/TCP"]       served by pods without ports of their own
      nodes: [{name: node-1}, {name: node-2}]
      namespaces: [{name: shop, labels: {team: shop}}]
      pods:
        - {namespace: shop, name: web, node: node-1, labels: {app: web}}
        - {namespace: shop, name: db, node: node-2, labels: {app: db}, ports: [5432]}
      externals: [{name: world}]                machines outside the cluster
    Also: families [4, 6], mtu, subnets {ipv4, ipv6}, and addresses of nodes, pods and externals.
    """
    from topology.lab.lab import Lab
    from topology.spec.load import load_topology

    with lab_errors_as_failures():
        made = Lab(load_topology(path, where.name), where.base)
        port = http_port or _preferred_port()
        new = made.up(datapath, not no_controller, port, progress=lambda text: click.echo(f"{text} …", err=True))
    name = made.topology.name
    kind = made.current().datapath
    size = f"{len(made.topology.pods)} pods on {len(made.nodes)} nodes, {kind} datapath"
    click.echo(f"lab {name} {'is up' if new else 'was up already'}: {size}")
    if made.current().controller:
        click.echo(f"ask its controller: {command_prefix(name, made.product.server)} status")


def _preferred_port() -> int:
    """HTTP_PORT if it is free, else 0 for any."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", HTTP_PORT))
        except OSError:
            return 0
    return HTTP_PORT


@lab.command("down", short_help="Remove a lab.")
@click.pass_obj
def lab_down(where: LabChoice) -> None:
    """Remove a lab: its processes, namespaces and files, also after a crash. Nothing else is changed."""
    from topology.lab.lab import Lab
    from topology.spec.load import load_topology

    with lab_errors_as_failures():
        name = where.chosen()
        there = Lab(load_topology(name=name), where.base).down()
    click.echo(f"lab {name} {'is down' if there else 'was not up'}")


@lab.command("status", short_help="Show nodes, pods and how to reach them.")
@output_option
@click.pass_obj
def lab_status(where: LabChoice, output: str) -> None:
    """Show the lab's nodes and pods, their addresses, and how to reach them.

    The `netns` of a node or pod (in -o json) is a file: `nsenter --net=FILE` opens a shell in it. The `ovsdb` of a node
    is an argument for `ovs-vsctl --db`, its `management` one for `ovs-ofctl dump-flows`.
    """
    from topology.lab.report import describe_lab

    with lab_errors_as_failures():
        found = describe_lab(where.load())
    if output == JSON:
        print_json(found)
        return
    page = OutputPage()
    page.line(f"lab {found.name} in {found.folder}, {found.datapath} datapath")
    if found.server:
        state = "runs" if found.controller else "DOES NOT RUN"
        page.line(f"controller {state} at {found.server}: {command_prefix(found.name, found.server)} status")
    else:
        page.line("without a controller")
    nodes: list[Row] = [
        (one.name, mark(one.running, "runs", "is down"), " ".join(one.addresses), one.ovsdb, one.management)
        for one in found.nodes
    ]
    page.table("Nodes", ("node", "switch", "addresses", "ovsdb", "management"), nodes)
    namespaces: list[Row] = [(one.name, _labels(one.labels)) for one in found.namespaces]
    page.table("Namespaces", ("namespace", "labels"), namespaces)
    pods: list[Row] = [
        (pod.name, pod.node, " ".join(pod.addresses), pod.interface, _labels(pod.labels), " ".join(pod.ports))
        for pod in found.pods
    ]
    page.table("Pods", ("pod", "node", "addresses", "interface", "labels", "ports"), pods)
    outside: list[Row] = [(one.name, " ".join(one.addresses)) for one in found.externals]
    page.table("Outside the cluster", ("name", "addresses"), outside)


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())
