"""Exit codes of every command, and the error that carries one."""

from __future__ import annotations

import click

EXIT_OK = 0
EXIT_FAILED = 1  # it was done and did not succeed: not realized, could not start
EXIT_USAGE = 2  # the command line or the configuration cannot be taken
EXIT_UNREACHABLE = 3  # the controller that was asked does not answer


class CommandFailure(click.ClickException):
    """A command ends with one line that says what is wrong and what to do, and an exit code."""

    exit_code = EXIT_FAILED


class WrongUsage(CommandFailure):
    """What was asked for cannot be taken as it stands."""

    exit_code = EXIT_USAGE


class Unreachable(CommandFailure):
    """The controller that was asked does not answer."""

    exit_code = EXIT_UNREACHABLE
