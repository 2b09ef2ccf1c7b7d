"""The command `headgate`: its global options, its commands by name, and what an error looks like.

A command's own file is imported only when it is used, so that help answers at once and nothing that the concurrency hub
must come before is loaded early. What a command does stands in its file.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from controller.cli.errors import EXIT_OK, EXIT_USAGE
from controller.cli.which_controller import DEFAULT_SERVER, lab_option, remember_choice, server_option

INTERRUPTED = 130  # what a shell reports for SIGINT


class CommandEntry(NamedTuple):
    """Where a command stands (module and attribute) and what it does in a few words."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "run": CommandEntry("controller.cli.run", "run", "Run the controller beside your switches."),
    "status": CommandEntry(
        "controller.cli.status", "status", "Show how it is and what is wrong, or wait until all is realized."
    ),
    "pod": CommandEntry(
        "controller.cli.pod", "pod", "Show everything about one pod: who isolates it, which rules it has."
    ),
    "policy": CommandEntry(
        "controller.cli.policy", "policy", "Show everything about one policy: subjects, peers, hits."
    ),
    "flows": CommandEntry("controller.cli.flows", "flows", "Show the flows on the switches, with names and counters."),
    "lab": CommandEntry(
        "controller.cli.lab.group", "lab", "Build a small cluster of network namespaces and try policies in it."
    ),
    "demo": CommandEntry("controller.cli.demo", "demo", "Watch a policy take effect on real packets, in two minutes."),
    "pki": CommandEntry("controller.cli.pki", "pki", "Make the certificates for TLS where there is no CA yet."),
    "bench": CommandEntry("bench.cli", "bench", "Measure what Headgate costs on this machine."),
    "completion": CommandEntry(
        "controller.cli.completion", "completion", "Print what makes a shell complete headgate's commands."
    ),
    "support-bundle": CommandEntry(
        "controller.cli.support", "support_bundle", "Put what others need to help you into one file, without secrets."
    ),
    "version": CommandEntry("controller.cli.version", "version", "Show the version."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and loads one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        command: click.Command = getattr(importlib.import_module(found.module), found.attribute)
        if ctx.resilient_parsing:  # a shell completes
            from controller.cli.completion import with_names

            return with_names(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is answered with those there are, without loading any."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}; there are {', '.join(COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so, without loading any, and the options."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        found = [(name, command.summary) for name, command in COMMANDS.items() if name.startswith(incomplete)]
        return [CompletionItem(name, help=summary) for name, summary in found]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from controller.base.version import version

        click.echo(f"headgate {version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 1 not realized, or failed; 2 wrong usage; 3 no answer from the controller; "
    "130 interrupted.",
)
@server_option
@lab_option
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
@click.pass_context
def headgate(ctx: click.Context, server: str | None, lab: str | None) -> None:
    """Enforce Kubernetes network policy in Open vSwitch.

    One controller beside any number of switches: it reads pods and policies, finds the pods' ports by OVSDB, and keeps
    the right flows on every switch by OpenFlow.

    New here? `headgate demo` shows it on real packets; `headgate lab up` builds a lab to play in.
    """
    ctx.obj = server or DEFAULT_SERVER
    remember_choice(ctx, server, lab)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on standard error."""
    quiet_libraries()
    try:
        code = headgate.main(args=argv, prog_name="headgate", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "headgate"
        return _complain(f"{error.format_message().rstrip('.')}; see `{where} --help`", error.exit_code)
    except click.ClickException as error:
        return _complain(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else EXIT_OK


def quiet_libraries() -> None:
    """Keep libraries' warnings of what they will change off the terminal, unless Python was asked for warnings.

    They are for those who develop Headgate; nobody who runs it can do anything about them.
    """
    if not sys.warnoptions:
        for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)


def _complain(message: str, code: int) -> int:
    click.echo(f"headgate: {message}", err=True)
    return code


__all__ = ["COMMANDS", "headgate", "main"]

if __name__ == "__main__":
    sys.exit(main())
