"""`headgate lab machine`: makes this machine, with its own Open vSwitch, one node of a lab over several machines.

Only the command line belongs here; see the package `topology.remote` for what is done.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.lab.machine_cluster import COMMANDS
from controller.cli.lab.which_lab import CommandFunction, LabChoice, lab_errors_as_failures

if TYPE_CHECKING:
    from topology.remote.node import MachineNode

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _file(function: CommandFunction) -> CommandFunction:
    option = click.option("-f", "--file", "path", type=_FILE, metavar="TOPOLOGY", help="The lab's topology file.")
    return option(function)


def _bridge(function: CommandFunction) -> CommandFunction:
    option = click.option("--bridge", default="br-int", show_default=True, metavar="NAME", help="The pods' bridge.")
    return option(function)


def _node(where: LabChoice, path: Path | None, name: str, bridge: str) -> MachineNode:
    from topology.remote.node import MachineNode
    from topology.spec.load import load_topology

    return MachineNode(load_topology(path, where.name), name, where.base, bridge)


@click.group(short_help="Make this machine a node of a lab over several machines.")
def machine() -> None:
    """Make this machine a node of a lab over several machines, for instance virtual ones.

    Each machine needs its own Open vSwitch with a bridge that Headgate programs: run deploy/node.sh. NODE is the name
    of a node in the topology; the name of an external makes this a machine outside the cluster.
    """


@machine.command("up", short_help="Create a node's pods on this machine.")
@click.argument("node")
@_file
@_bridge
@click.pass_obj
def machine_up(where: LabChoice, node: str, path: Path | None, bridge: str) -> None:
    """Create the pods of NODE on this machine's bridge, with their servers. Existing pods stay unchanged."""
    with lab_errors_as_failures():
        made = _node(where, path, node, bridge)
        new = made.up()
    click.echo(f"{node}: {len(made.own_pods)} pods {'are up' if new else 'were up already'}")


@machine.command("down", short_help="Remove a node's pods.")
@click.argument("node")
@_file
@_bridge
@click.pass_obj
def machine_down(where: LabChoice, node: str, path: Path | None, bridge: str) -> None:
    """Remove the pods' ports, namespaces and servers. The bridge stays."""
    with lab_errors_as_failures():
        there = _node(where, path, node, bridge).down()
    click.echo(f"{node}: pods {'are down' if there else 'were not up'}")


@machine.command(short_help="Create the topology's objects in the API server.")
@_file
@click.option("--kubeconfig", type=_FILE, required=True, metavar="FILE", help="Kubeconfig of the cluster's API server.")
@click.pass_obj
def cluster(where: LabChoice, path: Path | None, kubeconfig: Path) -> None:
    """Create the topology's Namespaces, Nodes and Pods in the API server, with their status."""
    from topology.lab.manifests import cluster_objects
    from topology.remote.api import ClusterApi
    from topology.spec.address import plan_endpoints
    from topology.spec.load import load_topology

    with lab_errors_as_failures():
        topology = load_topology(path, where.name)
        done = ClusterApi(kubeconfig).put(cluster_objects(topology, plan_endpoints(topology)))
    click.echo(f"{len(done)} objects applied")


@machine.command("probe", short_help="Probe from this machine's pods; print JSON.")
@click.argument("node")
@_file
@click.pass_obj
def machine_probe(where: LabChoice, node: str, path: Path | None) -> None:
    """Probe from the pods of NODE to all pods, with real packets; print JSON for `draw`."""
    from topology.probe.matrix import probe_mesh

    with lab_errors_as_failures():
        here = _node(where, path, node, "br-int")
        pods = [pod.key for pod in here.topology.pods]
        matrix = here.run_probes(probe_mesh(pods, here.topology.all_served(), here.topology.families))
    click.echo(matrix.to_json())


@machine.command("draw", short_help="Show the results of `probe` on several machines.")
@_file
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.pass_obj
def machine_draw(where: LabChoice, path: Path | None, results: tuple[Path, ...]) -> None:
    """Show one table of the files RESULTS, each with the output of `probe` on one machine."""
    from rich.console import Console

    from topology.probe.matrix import Matrix
    from topology.probe.render import outcome_summary, print_matrix
    from topology.spec.load import load_topology

    found = Matrix({})
    for name in results:
        found = Matrix({**found.results, **Matrix.from_json(name.read_text(encoding="utf-8")).results})
    with lab_errors_as_failures():
        order = {pod.key: number for number, pod in enumerate(load_topology(path, where.name).pods)}
    ranked = sorted(found.results, key=lambda one: (order[one.source], order[one.destination]))
    matrix = Matrix({one: found.results[one] for one in ranked})
    print_matrix(matrix, Console(highlight=False))
    click.echo(outcome_summary(matrix.count()))


@machine.command("serve", short_help="Execute requests from standard input.")
@click.argument("node")
@_file
@click.pass_obj
def machine_serve(where: LabChoice, node: str, path: Path | None) -> None:
    """Execute requests from standard input, one JSON object a line, and print answers alike: for tests, over ssh."""
    from topology.remote.agent import Agent

    with lab_errors_as_failures():
        Agent(_node(where, path, node, "br-int")).serve(iter(sys.stdin.readline, ""), sys.stdout)


for _command in COMMANDS:
    machine.add_command(_command)
