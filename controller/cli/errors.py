"""Exit codes of every command, and the error that carries one."""

from __future__ import annotations

import click

OK = 0
FAILED = 1  # it was done and did not succeed: not realized, could not start
USAGE = 2  # the command line or the configuration cannot be taken
UNREACHABLE = 3  # the controller that was asked does not answer


class Failure(click.ClickException):
    """A command ends with one line that says what is wrong and what to do, and an exit code."""

    exit_code = FAILED


class WrongUsage(Failure):
    """What was asked for cannot be taken as it stands."""

    exit_code = USAGE


class Unreachable(Failure):
    """The controller that was asked does not answer."""

    exit_code = UNREACHABLE
