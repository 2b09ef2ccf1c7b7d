"""`headgate version`."""

from __future__ import annotations

import click

from controller.base.version import version as installed_version


@click.command()
def version() -> None:
    """Show the version of this command; `headgate status` shows that of the running controller."""
    click.echo(f"headgate {installed_version()}")
