"""Finds the controller that a command asks: the one given by option, that of a lab, or the only one on this machine."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from controller.cli.errors import CommandFailure

DEFAULT_SERVER = "http://127.0.0.1:8080"
SERVER_VARIABLE, LAB_VARIABLE, LAB_FOLDER_VARIABLE = "HEADGATE_SERVER", "HEADGATE_LAB", "HEADGATE_LAB_DIR"
LAB_FOLDER = Path("/run/headgate-lab")
QUICK_SECONDS = 1.0  # for a controller on this machine to answer
_CHOSEN = "controller.asked"  # key of the ControllerChoice in the group's context


@dataclass(frozen=True)
class ControllerChoice:
    """The options that choose the controller; `by_flag`: given on the command line, not by the environment."""

    server: str | None
    lab: str | None
    by_flag: bool


def server_option(function: Any) -> Any:
    """The global option --server."""
    return click.option(
        "--server",
        metavar="URL",
        envvar=SERVER_VARIABLE,
        help="The running controller to ask, for the commands that show what it does.  "
        f"[default: {DEFAULT_SERVER}, or the controller of the only lab; env: {SERVER_VARIABLE}]",
    )(function)


def lab_option(function: Any) -> Any:
    """The global option --lab."""
    return click.option(
        "--lab",
        metavar="NAME",
        envvar=LAB_VARIABLE,
        shell_complete=complete_controlled_lab,
        help=f"Ask the controller of this lab.  [env: {LAB_VARIABLE}]",
    )(function)


def remember_choice(ctx: click.Context, server: str | None, lab: str | None) -> None:
    """Keep the options before the subcommand for `controller_options`. Raises click.UsageError if both are given."""
    flags = {name for name in ("server", "lab") if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    _not_both("server" in flags, "lab" in flags)
    if flags:
        server, lab = (server, None) if "server" in flags else (None, lab)
    ctx.meta[_CHOSEN] = ControllerChoice(server or None, None if server else lab or None, bool(flags))


def named_lab(ctx: click.Context) -> str | None:
    """The lab that --lab before the subcommand names, None without it."""
    choice: ControllerChoice | None = ctx.meta.get(_CHOSEN)
    return choice.lab if choice else None


def command_prefix(lab: str, url: str) -> str:
    """The start of a command that asks a lab's controller: --lab if the lab is in the usual folder, else --server."""
    return f"headgate --lab {lab}" if lab_controllers().get(lab) == url else f"headgate --server {url}"


def controller_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --server and --lab, and pass the URL that they choose as its first argument.

    They override the same options before the subcommand.
    """

    @click.option("--server", metavar="URL", help="The running controller to ask; also before the subcommand.")
    @click.option(
        "--lab", metavar="NAME", shell_complete=complete_controlled_lab, help="Ask the controller of this lab."
    )
    @click.pass_context
    @functools.wraps(function)
    def with_server(ctx: click.Context, /, *, server: str | None, lab: str | None, **more: Any) -> None:
        ctx.invoke(function, server_url(ctx, server, lab), **more)

    return with_server


def server_url(ctx: click.Context, server: str | None, lab: str | None) -> str:
    """The URL to ask, by the options of a command and those before it.

    One that the user did not choose is printed to standard error.
    """
    url, why = _choose(ctx, server, lab)
    if why:
        click.echo(f"headgate: asking {why} at {url}", err=True)
    return url


def server_for_completion(ctx: click.Context) -> str:
    """The URL to ask while a shell completes a command line. Raises ClickException if it is ambiguous."""
    if _CHOSEN not in ctx.meta and ctx.find_root() is not ctx:
        before = ctx.find_root()
        remember_choice(before, before.params.get("server"), before.params.get("lab"))
    return _choose(ctx, ctx.params.get("server"), ctx.params.get("lab"))[0]


def _choose(ctx: click.Context, server: str | None, lab: str | None) -> tuple[str, str]:
    before: ControllerChoice = ctx.meta.get(_CHOSEN) or ControllerChoice(None, None, by_flag=False)
    _not_both(bool(server or (before.by_flag and before.server)), bool(lab or (before.by_flag and before.lab)))
    choice = ControllerChoice(server, lab, by_flag=True) if server or lab else before
    return choose_controller(choice.server, choice.lab, lab_controllers())


def _not_both(server: bool, lab: bool) -> None:
    if server and lab:
        raise click.UsageError("give --server or --lab, not both")


def choose_controller(server: str | None, lab: str | None, labs: Mapping[str, str]) -> tuple[str, str]:
    """The URL to ask, and a description of the controller if the user did not choose it, else "".

    `labs` has the URLs of labs' controllers by lab name. Without a choice, a Headgate controller at the default address
    wins: a lab that was left running must not be taken for the machine's own controller. Raises CommandFailure if the
    choice is ambiguous.
    """
    if server is not None:
        return server, ""
    if lab is not None:
        if lab not in labs:
            raise CommandFailure(
                f"no lab {lab} with a controller is up; labs with a controller: {', '.join(labs) or 'none'}"
            )
        return labs[lab], ""
    if not labs or (len(labs) == 1 and DEFAULT_SERVER in labs.values()):
        return DEFAULT_SERVER, ""
    if DEFAULT_SERVER not in labs.values() and is_headgate(DEFAULT_SERVER):
        names = ", ".join(f"--lab {name}" for name in labs)
        return DEFAULT_SERVER, f"the controller of this machine (labs: {names})"
    if len(labs) > 1:
        raise CommandFailure(f"several labs are up: {', '.join(labs)}; choose one with --lab NAME or --server URL")
    name, url = next(iter(labs.items()))
    return url, f"the lab {name}"


def lab_controllers() -> dict[str, str]:
    """The URLs of the controllers of the labs that are up on this machine, by lab name."""
    base = Path(os.environ.get(LAB_FOLDER_VARIABLE) or LAB_FOLDER)
    try:
        if not any(base.iterdir()):
            return {}
    except OSError:
        return {}
    from topology.lab.state import controller_urls as found

    return found(base)


def is_headgate(url: str) -> bool:
    """Whether a Headgate controller answers at the URL within QUICK_SECONDS."""
    import http.client

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=QUICK_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = json.loads(connection.getresponse().read(1 << 20))
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and "waiting_for" in answer


def complete_controlled_lab(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """The names of labs with a controller that begin with `incomplete`."""
    return [name for name in lab_controllers() if name.startswith(incomplete)]
