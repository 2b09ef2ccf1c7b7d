"""`headgate lab exec`: runs a command or a shell in the network namespace of a pod or a node."""

from __future__ import annotations

import os

import click

from controller.cli.lab.which_lab import LabChoice, complete_endpoint, lab_errors_as_failures

EXIT_NOT_FOUND, EXIT_NOT_EXECUTABLE = 127, 126  # as in a shell


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a command, or a shell, in a pod's network namespace.",
)
@click.argument("endpoint", metavar="NS/POD", shell_complete=complete_endpoint)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def exec(where: LabChoice, endpoint: str, command: tuple[str, ...]) -> None:  # noqa: A001  # the command's name
    """Run a command, or a shell without one, in the network namespace of a pod, a node or an external.

    On node:NAME, ovs-vsctl, ovs-ofctl and ovs-appctl use the node's own switch. Only the network is the pod's; files
    and programs are those of this machine. The exit code is the command's; 127 if there is no such command, 126 if it
    cannot be executed.

    \b
    Examples:
      headgate lab exec tenant-a/frontend
      headgate lab exec tenant-a/frontend -- ping -c 1 10.10.2.1
      headgate lab exec node:node-1 -- ovs-vsctl show
      headgate lab exec node:node-1 -- ovs-ofctl -O OpenFlow14 --names dump-flows br-int
    """
    if command[:1] == ("--",):
        command = command[1:]
    chosen = command or (os.environ.get("SHELL") or "/bin/sh",)
    with lab_errors_as_failures():
        found = where.load()
        found.netns(endpoint)
        try:
            found.execute(endpoint, chosen)
        except FileNotFoundError as error:
            click.echo(f"headgate: {chosen[0]}: no such command", err=True)
            raise click.exceptions.Exit(EXIT_NOT_FOUND) from error
        except PermissionError as error:
            click.echo(f"headgate: {chosen[0]}: cannot be executed", err=True)
            raise click.exceptions.Exit(EXIT_NOT_EXECUTABLE) from error
