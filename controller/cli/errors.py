"""Exit codes of all commands, and the errors that carry them."""

from __future__ import annotations

import click

EXIT_OK = 0
EXIT_FAILED = 1  # tried without success: not realized, could not start
EXIT_USAGE = 2  # the command line or the configuration is wrong
EXIT_UNREACHABLE = 3  # the controller does not answer
EXIT_DISAGREES = 4  # a switch does not do what policy says


class CommandFailure(click.ClickException):
    """Ends a command with one line that says what is wrong and what to do, and with `exit_code`."""

    exit_code = EXIT_FAILED


class WrongUsage(CommandFailure):
    """The command line or the configuration is wrong."""

    exit_code = EXIT_USAGE


class Unreachable(CommandFailure):
    """The controller does not answer."""

    exit_code = EXIT_UNREACHABLE
