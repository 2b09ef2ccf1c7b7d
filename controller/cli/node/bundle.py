"""`headgate node bundle`: writes the one file that a node needs."""

from __future__ import annotations

from pathlib import Path

import click

from controller.cli.errors import CommandFailure


@click.command()
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), default="headgate-node",
    show_default=True, help="Where to write it.",
)  # fmt: skip
def bundle(output: Path) -> None:
    """Write the one file that sets up a node: the CNI plugin, headgate-node, and deploy/node.sh with its undo.

    The file needs Python 3.9 or newer on the node, and no network. `FILE setup` takes the options of deploy/node.sh;
    `FILE undo` takes those of deploy/node-undo.sh.
    """
    from node.bundle import BundleError, pack, read_sources, write_file

    try:
        write_file(output, pack(read_sources()))
    except BundleError as error:
        raise CommandFailure(str(error)) from error
    click.echo(f"wrote {output}: copy it to the nodes and run it there as root: ./{output.name} setup --help")
