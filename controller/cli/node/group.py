"""`headgate node`: the group of the commands about nodes."""

from __future__ import annotations

import click

from controller.cli.node.bundle import bundle


@click.group()
def node() -> None:
    """Prepare what a node needs to be on Headgate's network.

    A node needs one file: copy it there and run it as root. See docs/node.md.

    \b
    Example:
      headgate node bundle -o headgate-node
      scp headgate-node node-1:
      ssh node-1 sudo ./headgate-node setup --controller CONTROLLER --name node-1 --cni
    """


node.add_command(bundle)
