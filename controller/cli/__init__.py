"""The command `headgate`: its global options, its subcommands by name, and how errors are printed.

The module of a subcommand is imported only when the subcommand is used: help is fast, and nothing is imported before
the concurrency hub is installed. `bench` is named by a string, so that `controller` does not import the package
`bench`. What a subcommand does belongs in its own module.
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
    """Where a command is defined (module and attribute), and its summary for help."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "run": CommandEntry("controller.cli.run", "run", "Run the controller beside your switches."),
    "status": CommandEntry(
        "controller.cli.status",
        "status",
        "Show the controller's state and problems, or wait until everything is realized.",
    ),
    "pod": CommandEntry("controller.cli.pod", "pod", "Show everything about one pod: its port, isolation and rules."),
    "policy": CommandEntry(
        "controller.cli.policy", "policy", "Show everything about one policy: subjects, peers and hits."
    ),
    "explain": CommandEntry(
        "controller.cli.explain", "explain", "Say whether a connection is allowed, and which rule decides."
    ),
    "verify": CommandEntry(
        "controller.cli.verify", "verify", "Compare policy with what the switches really do, over many connections."
    ),
    "check": CommandEntry(
        "controller.cli.check.command", "check_command", "Check policies in manifests, and assertions about them."
    ),
    "audit": CommandEntry(
        "controller.cli.audit", "audit", "Show connections that were denied, dropped or opened, as they are."
    ),
    "drops": CommandEntry("controller.cli.drops", "drops", "Show what is dropped, with its cause."),
    "flows": CommandEntry("controller.cli.flows", "flows", "Show the flows on the switches, with names and counters."),
    "matrix": CommandEntry("controller.cli.matrix", "matrix", "Show who reaches whom, and on which ports."),
    "plan": CommandEntry("controller.cli.plan", "plan", "Say what applying or deleting objects would do."),
    "recommend": CommandEntry(
        "controller.cli.recommend", "recommend_policies", "Write the least policies that allow what was seen."
    ),
    "lab": CommandEntry(
        "controller.cli.lab.group", "lab", "Build a small cluster of network namespaces and try policies in it."
    ),
    "demo": CommandEntry("controller.cli.demo", "demo", "Watch a policy take effect on real packets, in two minutes."),
    "node": CommandEntry("controller.cli.node.group", "node", "Prepare what a node needs."),
    "pki": CommandEntry("controller.cli.pki", "pki", "Make certificates for TLS, if you have no CA yet."),
    "bench": CommandEntry("bench.cli", "bench", "Measure what Headgate costs on this machine."),
    "completion": CommandEntry(
        "controller.cli.completion", "completion", "Print a shell script that completes headgate's commands."
    ),
    "help": CommandEntry("controller.cli.topics", "help_command", "Say what a word, a table or a code means."),
    "support-bundle": CommandEntry(
        "controller.cli.support",
        "support_bundle",
        "Collect status, flows, logs and versions in one file, without secrets.",
    ),
    "version": CommandEntry("controller.cli.version", "show_version", "Show the version."),
}


class LazyGroup(click.Group):
    """A group that lists its commands without importing them, and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name; None if there is none."""
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        command: click.Command = getattr(importlib.import_module(found.module), found.attribute)
        if ctx.resilient_parsing:  # the shell completes a command line
            from controller.cli.completion import with_names

            return with_names(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. The error for an unknown one lists all names, without importing any."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}; there are {', '.join(COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names that begin with `incomplete`, without importing any; or the options."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        found = [(name, command.summary) for name, command in COMMANDS.items() if name.startswith(incomplete)]
        return [CompletionItem(name, help=summary) for name, summary in found]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, requested: bool) -> None:
    if requested and not ctx.resilient_parsing:
        from controller.base.version import version

        click.echo(f"headgate {version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success; 1 failed, or not realized; 2 wrong usage; 3 the controller does not answer; "
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

    One controller for any number of switches. It reads pods and policies from the Kubernetes API or from manifests,
    finds the pods' ports through OVSDB, and keeps the flows of every switch up to date through OpenFlow.

    New here? `headgate demo` shows it on real packets; `headgate lab up` builds a lab to try policies in.
    """
    ctx.obj = server or DEFAULT_SERVER
    remember_choice(ctx, server, lab)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. An error is one line on standard error."""
    quiet_libraries()
    try:
        code = headgate.main(args=argv, prog_name="headgate", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "headgate"
        return _print_error(f"{error.format_message().rstrip('.')}; see `{where} --help`", error.exit_code)
    except click.ClickException as error:
        return _print_error(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _print_error("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else EXIT_OK


def quiet_libraries() -> None:
    """Hide deprecation warnings of libraries, unless Python was started with warning options.

    They are for developers of Headgate; an operator cannot do anything about them.
    """
    if not sys.warnoptions:
        for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)


def _print_error(message: str, code: int) -> int:
    click.echo(f"headgate: {message}", err=True)
    return code


__all__ = ["COMMANDS", "headgate", "main"]

if __name__ == "__main__":
    sys.exit(main())
