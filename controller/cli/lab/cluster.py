"""`headgate lab cluster`: a cluster with real kubelets on this machine, whose only network is Headgate.

Only the command line belongs here; see the package `topology.cluster` for what is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from controller.cli.lab.which_lab import LabChoice, lab_errors_as_failures

if TYPE_CHECKING:
    from topology.cluster.cluster import Cluster


def _chosen(where: LabChoice) -> Cluster:
    from topology.cluster.cluster import Cluster
    from topology.cluster.names import DEFAULT_NAME

    return Cluster(where.name or DEFAULT_NAME)


def _running(where: LabChoice) -> Cluster:
    from topology.cluster.cluster import Cluster
    from topology.cluster.names import DEFAULT_NAME

    return Cluster.load(where.name or DEFAULT_NAME)


@click.group(short_help="A cluster with real kubelets on this machine.")
def cluster() -> None:
    """Run a cluster with real kubelets on this machine: control plane, nodes as namespaces, containerd, Open vSwitch.

    Headgate is its only network: no other CNI plugin, no kube-proxy. Nothing outside the cluster's namespaces is
    changed. Needs root, and what `scripts/bootstrap --cluster` and `make cluster-files` bring.
    """


@cluster.command("up", short_help="Start a cluster.")
@click.option("--nodes", type=click.IntRange(1, 8), default=2, show_default=True, help="How many nodes.")
@click.option(
    "--datapath",
    type=click.Choice(["auto", "userspace", "kernel"]),
    default="auto",
    show_default=True,
    help="The datapath of Open vSwitch; auto is the kernel's if the kernel has the openvswitch module.",
)
@click.option("--probe/--no-probe", default=True, help="Show who reaches whom.")
@click.pass_obj
def cluster_up(where: LabChoice, nodes: int, datapath: Any, probe: bool) -> None:
    """Start a cluster; with one that is up already, only say how to use it."""
    with lab_errors_as_failures():
        made = _chosen(where)
        new = made.up(nodes, datapath, progress=lambda text: click.echo(f"{text} …", err=True))
        click.echo(f"cluster {made.name} {'is up' if new else 'was up already'}: {made.current.nodes} nodes are Ready")
        if probe:
            _show_reach(made)
    _show_use(made)


@cluster.command("probe", short_help="Show who reaches whom.")
@click.pass_obj
def cluster_probe(where: LabChoice) -> None:
    """Show who reaches whom: pods, nodes and a machine outside, through pods' and Services' addresses."""
    with lab_errors_as_failures():
        _show_reach(_running(where))


@cluster.command("status", short_help="Say how to use the cluster.")
@click.pass_obj
def cluster_status(where: LabChoice) -> None:
    """Say how to use the cluster."""
    with lab_errors_as_failures():
        _show_use(_running(where))


@cluster.command("down", short_help="Remove the cluster.")
@click.pass_obj
def cluster_down(where: LabChoice) -> None:
    """Remove the cluster: its processes, namespaces, control groups and files, also after a crash."""
    with lab_errors_as_failures():
        made = _chosen(where)
        there = made.down()
    click.echo(f"cluster {made.name} {'is down' if there else 'was not up'}")


def _show_reach(made: Cluster) -> None:
    from rich.console import Console

    from topology.cluster.reach import draw, probe

    click.echo("asking who reaches whom …", err=True)
    found = probe(made.kubectl, {node.name: node.addresses for node in made.nodes}, made.connects)
    draw(found, Console(highlight=False))


def _show_use(made: Cluster) -> None:
    click.echo(f"\n  export KUBECONFIG={made.kubeconfig}")
    click.echo(f"  {made.kubectl.program} get nodes -o wide")
    click.echo(f"  headgate --server {made.server} status --nodes")
    click.echo(f"  {' '.join(made.nodes[0].enter_command('bash'))}    # a shell on {made.nodes[0].name}")
    click.echo("  make cluster-down")
