"""`headgate lab`: build a small cluster of network namespaces on this machine and work in it.

Only what a command line needs stands here; the lab itself is the package `topology`, which is imported when a command
runs.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.cli.errors import Failure
from controller.cli.lab_machine import machine
from controller.cli.lab_scenario import scenario
from controller.cli.lab_where import Where, told
from controller.cli.output import Page, Row, mark, output_option

if TYPE_CHECKING:
    from topology.model import Port
    from topology.probe.matrix import Matrix

HTTP_PORT = 8080
LAST_PROBE = "last-probe.json"
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as a shell has it


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--name", envvar="HEADGATE_LAB", metavar="NAME", help="The lab meant, where there are several. [env: HEADGATE_LAB]"
)
@click.option(
    "--run-dir",
    envvar="HEADGATE_LAB_DIR",
    default="/run/headgate-lab",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that labs live in. [env: HEADGATE_LAB_DIR]",
)
@click.pass_context
def lab(ctx: click.Context, name: str | None, run_dir: Path) -> None:
    """Build a small cluster on this machine and try policies in it.

    Every node is a network namespace with an Open vSwitch of its own, every pod a namespace with one interface on its
    node's switch. Nothing outside the lab's own namespaces is touched. Needs root and Open vSwitch.

    \b
    A first round:
      headgate lab up                     two nodes, four pods, a controller
      headgate lab probe                  who reaches whom, with real packets
      headgate lab apply -f policy.yaml   put a NetworkPolicy into force
      headgate lab probe --changes        what that changed
      headgate lab down
    """
    ctx.obj = Where(name, run_dir.absolute())


lab.add_command(scenario)
lab.add_command(machine)


@lab.command(short_help="Bring a lab up: nodes, pods, headgate run.")
@click.option(
    "-f", "--file", "path", type=click.Path(path_type=Path), metavar="TOPOLOGY", help="A topology file (YAML)."
)
@click.option(
    "--datapath",
    type=click.Choice(["auto", "userspace", "kernel"]),
    default="auto",
    show_default=True,
    help="Which of Open vSwitch's datapaths; auto takes the kernel's where it has the openvswitch module.",
)
@click.option(
    "--http-port",
    type=click.IntRange(1, 65535),
    help=f"Port of the controller's HTTP. [default: {HTTP_PORT}, or any free one]",
)
@click.option(
    "--no-controller", is_flag=True, help="Only the cluster; no flows, so nothing passes until somebody adds some."
)
@click.pass_obj
def up(where: Where, path: Path | None, datapath: Any, http_port: int | None, no_controller: bool) -> None:
    """Bring a lab up: nodes, pods, and `headgate run` beside them.

    Without -f it is the tenant example: two nodes, namespaces tenant-a and tenant-b, pods with the label segment.
    What an earlier lab of the same name left behind, after a crash for instance, is removed first. A lab that is up
    stays as it is.

    \b
    A topology file:
      name: mine
      ports: [80, 53/UDP, "web:8080/TCP"]       what pods serve unless they say otherwise
      nodes: [{name: node-1}, {name: node-2}]
      namespaces: [{name: shop, labels: {team: shop}}]
      pods:
        - {namespace: shop, name: web, node: node-1, labels: {app: web}}
        - {namespace: shop, name: db, node: node-2, labels: {app: db}, ports: [5432]}
      externals: [{name: world}]                machines outside the cluster
    Also: families [4, 6], mtu, subnets {ipv4, ipv6}, and addresses of nodes, pods and externals.
    """
    from topology.lab import Lab
    from topology.load import load_topology

    with told():
        made = Lab(load_topology(path, where.name), where.base)
        port = http_port or _preferred_port()
        new = made.up(datapath, not no_controller, port, progress=lambda text: click.echo(f"{text} …", err=True))
    name = made.topology.name
    kind = made.current().datapath
    size = f"{len(made.topology.pods)} pods on {len(made.nodes)} nodes, {kind} datapath"
    click.echo(f"lab {name} {'is up' if new else 'was up already'}: {size}")
    if made.current().controller:
        click.echo(f"ask its controller: headgate --server {made.product.server} status")


def _preferred_port() -> int:
    """The usual port where it is free, else 0 for any."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", HTTP_PORT))
        except OSError:
            return 0
    return HTTP_PORT


@lab.command(short_help="Take a lab down, whatever is left of it.")
@click.pass_obj
def down(where: Where) -> None:
    """Take a lab down: its processes, namespaces and files, whatever is left of them. Nothing else is touched."""
    from topology.lab import Lab
    from topology.load import load_topology

    with told():
        name = where.chosen()
        there = Lab(load_topology(name=name), where.base).down()
    click.echo(f"lab {name} {'is down' if there else 'was not up'}")


@lab.command(short_help="Show nodes, pods and where to look further.")
@output_option
@click.pass_obj
def status(where: Where, output: str) -> None:
    """Show what the lab consists of: nodes, pods, addresses, and where to look further.

    The netns column of a node or pod (in -o json) is a file: `nsenter --net=FILE` opens a shell in it. A node's ovsdb
    is what `ovs-vsctl --db` takes, its management what `ovs-ofctl dump-flows` takes.
    """
    from topology.report import describe

    with told():
        found = describe(where.load())
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    page = Page()
    page.line(f"lab {found['name']} in {found['folder']}, {found['datapath']} datapath")
    if found["server"]:
        state = "runs" if found["controller"] else "DOES NOT RUN"
        page.line(f"controller {state}: headgate --server {found['server']} status")
    else:
        page.line("without a controller")
    nodes: list[Row] = [
        (
            node["name"],
            mark(node["running"], "runs", "is down"),
            " ".join(node["addresses"]),
            node["ovsdb"],
            node["management"],
        )
        for node in found["nodes"]
    ]
    page.table("Nodes", ("node", "switch", "addresses", "ovsdb", "management"), nodes)
    pods: list[Row] = [
        (
            pod["name"],
            pod["node"],
            " ".join(pod["addresses"]),
            pod["interface"],
            _labels(pod["labels"]),
            " ".join(pod["ports"]),
        )
        for pod in found["pods"]
    ]
    page.table("Pods", ("pod", "node", "addresses", "interface", "labels", "ports"), pods)
    outside: list[Row] = [(item["name"], " ".join(item["addresses"])) for item in found["externals"]]
    page.table("Outside the cluster", ("name", "addresses"), outside)


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _manifest_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that apply and delete share."""
    for option in (
        click.option(
            "-f",
            "--file",
            "files",
            multiple=True,
            required=True,
            metavar="FILE",
            help="YAML or JSON; - is standard input. May be given several times.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0),
            default=30.0,
            show_default=True,
            help="How long to wait until it is in force, in seconds.",
        ),
        click.option("--no-wait", is_flag=True, help="Return as soon as the manifests are written."),
    ):
        function = option(function)
    return function


@lab.command(short_help="Put manifests into force.")
@_manifest_options
@click.pass_obj
def apply(where: Where, files: tuple[str, ...], timeout: float, no_wait: bool) -> None:
    """Put manifests into force, and wait until they are.

    Takes Namespaces, Pods, Nodes and NetworkPolicies, several documents to a file. An object of the same kind and
    name is replaced; of a pod of the lab, labels and ports can be changed so, while its node and addresses stay.
    """
    _each(where, files, "apply", None if no_wait else timeout)


@lab.command(short_help="Take manifests out of force.")
@_manifest_options
@click.pass_obj
def delete(where: Where, files: tuple[str, ...], timeout: float, no_wait: bool) -> None:
    """Take the objects of manifests out of force, by kind, namespace and name, and wait until they are."""
    _each(where, files, "delete", None if no_wait else timeout)


def _each(where: Where, files: tuple[str, ...], what: str, wait: float | None) -> None:
    with told():
        found = where.load()
        for number, name in enumerate(files, 1):
            work = found.apply if what == "apply" else found.delete
            for line in work(
                _read(name), "standard input" if name == "-" else name, wait if number == len(files) else None
            ):
                click.echo(line)


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{name}: {getattr(error, 'strerror', None) or error}") from error


@lab.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a command in a pod's network namespace.",
)
@click.argument("endpoint", metavar="NS/POD")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec(where: Where, endpoint: str, command: tuple[str, ...]) -> None:  # noqa: A001  # the command's name
    """Run a command in a pod's network namespace; its input, output and exit code are yours.

    Also node:NAME and external:NAME. Only the network is the pod's; files and programs are this machine's.

    \b
    Examples:
      headgate lab exec tenant-a/frontend -- ping -c 1 10.10.2.1
      headgate lab exec tenant-a/frontend -- sh
    """
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("which command? headgate lab exec NS/POD -- COMMAND")
    with told():
        found = where.load()
        found.netns(endpoint)
        try:
            found.execute(endpoint, command)
        except FileNotFoundError as error:
            click.echo(f"headgate: {command[0]}: no such command", err=True)
            raise click.exceptions.Exit(NOT_FOUND) from error
        except PermissionError as error:
            click.echo(f"headgate: {command[0]}: cannot be executed", err=True)
            raise click.exceptions.Exit(NOT_EXECUTABLE) from error


@lab.command(short_help="Find out who reaches whom, with real packets.")
@output_option
@click.argument("endpoints", nargs=-1, metavar="[NS/POD]…")
@click.option(
    "-p",
    "--port",
    "ports",
    multiple=True,
    metavar="PORT[/PROTOCOL]",
    help="Probe this port, 80 or 53/UDP; may be given several times. [default: all that the topology names]",
)
@click.option("--family", type=click.Choice(["4", "6"]), help="Only this address family.")
@click.option("--nodes", is_flag=True, help="Probe from and to the nodes, too.")
@click.option("--icmp", is_flag=True, help="Probe with echo requests, too.")
@click.option("--changes", is_flag=True, help="Mark what is different from the last probe.")
@click.pass_obj
def probe(
    where: Where,
    output: str,
    endpoints: tuple[str, ...],
    ports: tuple[str, ...],
    family: str | None,
    nodes: bool,
    icmp: bool,
    changes: bool,
) -> None:
    """Find out who reaches whom, with real packets: every pod tries every pod, over every port and address family.

    Real TCP, UDP and SCTP servers run in all pods; where the kernel has no SCTP, its packets are made by hand. A try
    without an answer is repeated before it counts. Rows of the table are sources, columns destinations.
    """
    with told():
        found = where.load()
        chosen = list(endpoints) or None
        wanted = [_port(text) for text in ports] or None
        matrix = found.probe(chosen, wanted, nodes=nodes, icmp=icmp, families=[int(family)] if family else None)
    before = _remember(found.folder / LAST_PROBE, matrix)
    if output == "json":
        click.echo(matrix.to_json())
        return
    from rich.console import Console

    from topology.probe.render import print_matrix, summary

    print_matrix(matrix, Console(highlight=False), before if changes else None)
    click.echo(summary(matrix.count()))


def _remember(path: Path, matrix: Matrix) -> Matrix | None:
    """Keep a matrix for `--changes` of the next time, and return the last one."""
    from topology.probe.matrix import Matrix

    try:
        before = Matrix.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        before = None
    path.write_text(matrix.to_json(), encoding="utf-8")
    return before


def _port(text: str) -> Port:
    from pydantic import ValidationError

    from topology.model import Port

    number, _, protocol = text.partition("/")
    try:
        return Port.model_validate({"port": number, "protocol": protocol.upper() or "TCP"})
    except ValidationError as error:
        raise click.BadParameter(f"{text!r} is not a port like 80 or 53/UDP", param_hint="--port") from error
