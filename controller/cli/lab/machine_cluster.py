"""`headgate lab machine` for a cluster with real kubelets on several machines.

Only the command line belongs here; see `topology.cluster.machines` for what is done.
"""

from __future__ import annotations

from pathlib import Path

import click

from controller.cli.lab.which_lab import lab_errors_as_failures

_FOLDER = click.Path(file_okay=False, path_type=Path)
_THERE = click.Path(file_okay=False, exists=True, path_type=Path)


@click.command(short_help="Make the certificates of a cluster of machines.")
@click.argument("folder", type=_FOLDER)
def certify(folder: Path) -> None:
    """Make certificates and kubeconfigs in FOLDER: `control` for the control plane, `n1` to `n8` for nodes."""
    from topology.cluster.machines import certify as make

    with lab_errors_as_failures():
        new = make(folder)
    click.echo(f"{folder}: {'made' if new else 'was there already'}")


@click.command("control-plane", short_help="Write the units of a control plane.")
@click.argument("folder", type=_THERE)
@click.option("--units", type=_FOLDER, default="/etc/systemd/system", show_default=True, help="Where units go.")
def control_plane(folder: Path, units: Path) -> None:
    """Write units for etcd, API server, controller manager and scheduler, and print their names.

    FOLDER has the control plane's `pki` of `certify`; programs are in /opt/kubernetes/bin.
    """
    from topology.cluster.machines import write_control_plane

    with lab_errors_as_failures():
        click.echo("\n".join(write_control_plane(folder, units)))


@click.command(short_help="Write the unit of a node's kubelet.")
@click.argument("folder", type=_THERE)
@click.argument("number", type=click.IntRange(1, 8))
@click.option("--units", type=_FOLDER, default="/etc/systemd/system", show_default=True, help="Where units go.")
@click.option("--etc", type=_FOLDER, default="/etc/kubernetes", show_default=True, help="Where settings go.")
def kubelet(folder: Path, number: int, units: Path, etc: Path) -> None:
    """Write the kubelet's unit and settings, and containerd's, for node NUMBER; print the unit's name.

    FOLDER has the node's `pki` of `certify`; programs are in /opt/kubernetes/bin.
    """
    from topology.cluster.machines import write_node

    with lab_errors_as_failures():
        click.echo("\n".join(write_node(folder, number, units, etc)))


@click.command(short_help="Show who reaches whom in a cluster of machines.")
@click.argument("folder", type=_THERE)
def reach(folder: Path) -> None:
    """Show who reaches whom: pods, nodes and this machine, through pods' and Services' addresses.

    Run it on the control plane's machine, with the FOLDER of `control-plane`.
    """
    from rich.console import Console

    from topology.cluster.machines import reach as ask
    from topology.cluster.reach import draw

    with lab_errors_as_failures():
        found = ask(folder)
    draw(found, Console(highlight=False))
    if not all(one.reached for one in found):
        raise click.exceptions.Exit(1)


COMMANDS = (certify, control_plane, kubelet, reach)
