"""`headgate version`: prints the version of this command."""

from __future__ import annotations

import click

from controller.base.version import version


@click.command("version")
def show_version() -> None:
    """Show the version of this command; `headgate status` shows that of the running controller."""
    click.echo(f"headgate {version()}")
