"""`headgate lab machine`: this machine as a part of a lab over several, with its own Open vSwitch.

Only what a command line needs stands here; what is done is the package `topology.remote`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.lab.which_lab import LabChoice, lab_errors_as_failures

if TYPE_CHECKING:
    from topology.remote.node import MachineNode

Command = Callable[..., None]
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _file(function: Command) -> Command:
    option = click.option("-f", "--file", "path", type=_FILE, metavar="TOPOLOGY", help="The lab's topology file.")
    return option(function)


def _bridge(function: Command) -> Command:
    option = click.option("--bridge", default="br-int", show_default=True, metavar="NAME", help="The pods' bridge.")
    return option(function)


def _node(where: LabChoice, path: Path | None, name: str, bridge: str) -> MachineNode:
    from topology.remote.node import MachineNode
    from topology.spec.load import load_topology

    return MachineNode(load_topology(path, where.name), name, where.base, bridge)


@click.group(short_help="Make this machine a part of a lab over several machines.")
def machine() -> None:
    """Make this machine a part of a lab over several machines, virtual ones for instance.

    Every machine has an Open vSwitch of its own with a bridge that leads to the controller: deploy/node.sh makes it
    so. NODE is the name of a node in the topology; an external's name makes this machine one outside the cluster.
    """


@machine.command(short_help="Make a node's pods on this machine.")
@click.argument("node")
@_file
@_bridge
@click.pass_obj
def up(where: LabChoice, node: str, path: Path | None, bridge: str) -> None:
    """Make the pods of NODE on this machine's bridge, with their servers. Pods that are up stay as they are."""
    with lab_errors_as_failures():
        made = _node(where, path, node, bridge)
        new = made.up()
    click.echo(f"{node}: {len(made.own_pods)} pods {'are up' if new else 'were up already'}")


@machine.command(short_help="Take a node's pods away again.")
@click.argument("node")
@_file
@_bridge
@click.pass_obj
def down(where: LabChoice, node: str, path: Path | None, bridge: str) -> None:
    """Take away what `up` made: the pods' ports, namespaces and servers. The bridge stays."""
    with lab_errors_as_failures():
        there = _node(where, path, node, bridge).down()
    click.echo(f"{node}: pods {'are down' if there else 'were not up'}")


@machine.command(short_help="Put the topology's objects into the API server.")
@_file
@click.option("--kubeconfig", type=_FILE, required=True, metavar="FILE", help="Leads to the cluster's API server.")
@click.pass_obj
def cluster(where: LabChoice, path: Path | None, kubeconfig: Path) -> None:
    """Put the Namespaces, Nodes and Pods of the topology into the API server, as a cluster would have them."""
    from topology.lab.manifests import cluster_objects
    from topology.remote.api import ClusterApi
    from topology.spec.address import plan_endpoints
    from topology.spec.load import load_topology

    with lab_errors_as_failures():
        topology = load_topology(path, where.name)
        done = ClusterApi(kubeconfig).put(cluster_objects(topology, plan_endpoints(topology)))
    click.echo(f"{len(done)} objects applied")


@machine.command(short_help="Try whom this machine's pods reach, as JSON.")
@click.argument("node")
@_file
@click.pass_obj
def probe(where: LabChoice, node: str, path: Path | None) -> None:
    """Try whom the pods of NODE reach, with real packets; prints JSON for `draw`."""
    from topology.probe.matrix import probe_mesh

    with lab_errors_as_failures():
        here = _node(where, path, node, "br-int")
        pods = [pod.key for pod in here.topology.pods]
        matrix = here.run_probes(probe_mesh(pods, here.topology.all_served(), here.topology.families))
    click.echo(matrix.to_json())


@machine.command(short_help="Draw what `probe` found on several machines.")
@_file
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.pass_obj
def draw(where: LabChoice, path: Path | None, results: tuple[Path, ...]) -> None:
    """Draw one table of what `probe` printed on several machines: RESULTS are the files with it."""
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


@machine.command(short_help="Do what is asked for on standard input.")
@click.argument("node")
@_file
@click.pass_obj
def serve(where: LabChoice, node: str, path: Path | None) -> None:
    """Do what is asked for on standard input, a JSON object a line, and answer likewise: for tests, through ssh."""
    from topology.remote.agent import Agent

    with lab_errors_as_failures():
        Agent(_node(where, path, node, "br-int")).serve(iter(sys.stdin.readline, ""), sys.stdout)
