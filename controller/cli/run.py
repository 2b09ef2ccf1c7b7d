"""`headgate run`: flags made from the configuration's schema, and start and end of the process.

The hub is installed before anything that uses sockets or threads is imported. See `controller.runtime.controller` for
what runs in between.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from controller.base.errors import StartError
from controller.cli.errors import CommandFailure, WrongUsage
from controller.cli.hub_choice import install_hub

if TYPE_CHECKING:
    from controller.config.load import Option
    from controller.config.schema import RunConfig
    from controller.metrics.registry import Metrics
    from controller.status.detail_model import DetailedStatusApi
    from controller.status.page_model import PageApi

CONTROLLER_STOP_SECONDS = 3.0  # for connections to close in order
KILL_SECONDS = 4.5  # after SIGTERM, until the interpreter ends the process; it must end within 5 s
KERNEL_KILL_SECONDS = 4.8  # until the kernel ends it: writing to the log may block
FLUSH_SECONDS = 0.5  # for the last lines of the log
MIN_TOKEN, MAX_TOKEN = 16, 256  # characters of the page's token
SIGNALS = (signal.SIGTERM, signal.SIGINT)

RUN_INTRO = """Run the controller beside your switches.

Headgate reads Kubernetes objects, finds the pods' ports through OVSDB, and keeps the flows of every switch up to
date with the policies. It needs two things of each node: an OVSDB that Headgate reaches (--ovsdb) or that
connects to it (--ovsdb-listen), and a switch that reaches --openflow-listen. Headgate sets the bridge's
controller itself.

On SIGTERM it ends and leaves all flows in place: traffic continues, and the next start takes over without
losing a packet.
"""

EXAMPLES = """\b
Examples:
  One switch on this machine, objects from a folder:
    headgate run --manifests ./manifests --ovsdb unix:/run/openvswitch/db.sock
\b
  Two nodes, the controller on its own machine (192.0.2.1):
    headgate run --manifests /etc/headgate/manifests \\
        --ovsdb tcp:192.0.2.11:6640 --ovsdb tcp:192.0.2.12:6640
\b
  Nodes that connect to the controller, with TLS (`headgate pki` sets them up):
    headgate run --manifests /etc/headgate/manifests --pki-dir /etc/headgate/pki \\
        --openflow-listen ssl:0.0.0.0:6653 --ovsdb-listen ssl:0.0.0.0:6640
\b
  The same in a file:
    headgate run --config /etc/headgate/config.yaml
\b
    # config.yaml: the flags' names with underscores
    manifests: /etc/headgate/manifests
    pki_dir: /etc/headgate/pki
    openflow_listen: ssl:0.0.0.0:6653
    ovsdb_listen: ssl:0.0.0.0:6640
    log_format: json

A flag overrides its environment variable, which overrides the file, which overrides the default. Lists are
replaced, not joined; in the environment, items are separated by commas or spaces.
"""


INSTALLED_HUB = "controller.base.hub"  # key of the installed hub in the command's context


class RunnableController(Protocol):
    """What this module uses of controller.runtime.controller.Controller; tests pass their own."""

    @property
    def answers(self) -> DetailedStatusApi:
        """What HTTP asks."""

    @property
    def page(self) -> PageApi:
        """What the page for a browser asks."""

    @property
    def metrics(self) -> Metrics:
        """The metrics that /metrics exposes."""

    def start(self) -> None:
        """Open listeners and connect; run in threads. Raises StartError."""

    def stop(self, timeout: float) -> None:
        """End everything that `start` began within `timeout` seconds. Flows stay on the switches."""


class RunCommand(click.Command):
    """A command whose options come from the configuration's schema, grouped as there."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Install the hub, then load the schema and parse its flags."""
        if not ctx.resilient_parsing and not {"--help", "-h"} & set(args):
            ctx.meta[INSTALLED_HUB] = install_hub(args, os.environ)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The schema's options and then the command's own."""
        from controller.config.load import options

        return [*(_as_flag(option) for option in options()), *super().get_params(ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the options by group, with defaults and environment variables."""
        from controller.config.load import options
        from controller.config.schema import OPTION_GROUPS

        for group in OPTION_GROUPS:
            with formatter.section(group):
                formatter.write_dl([_help_line(option) for option in options() if option.group == group])
        own = {option.name for option in options()}
        rest = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx) if parameter.name not in own]
        with formatter.section("Other options"):
            formatter.write_dl([record for record in rest if record])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the examples without click's additional indent."""
        formatter.write_paragraph()
        formatter.write_text(EXAMPLES)


def metavar(option: Option) -> str:
    """The value of the flag in help: the choices, or else a placeholder."""
    return "|".join(option.choices) or option.metavar


def _as_flag(option: Option) -> click.Option:
    return click.Option(
        [option.flag], multiple=option.repeatable, default=None, metavar=metavar(option), help=option.help
    )


def _help_line(option: Option) -> tuple[str, str]:
    notes = [
        "repeatable" if option.repeatable else "",
        f"default: {option.default}" if option.default else "",
        f"env: {option.variable}",
    ]
    return f"{option.flag} {metavar(option)}", f"{option.help}  [{'; '.join(filter(None, notes))}]"


@click.command(cls=RunCommand, help=RUN_INTRO)
@click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="YAML file with any of the options above, by their names with underscores.  [env: HEADGATE_CONFIG]",
)
def run(file: Path | None, **flags: object) -> None:
    """Run the controller (the help text is INTRO)."""
    from controller.config.load import SettingsError, load_config, unknown_variables

    ctx = click.get_current_context()
    try:
        config = load_config(
            {name: value for name, value in flags.items() if value not in (None, ())}, os.environ, file
        )
    except SettingsError as error:
        raise WrongUsage(str(error)) from None
    _check_folder(config)
    if ctx.meta[INSTALLED_HUB] != config.hub:
        raise WrongUsage(
            f"the hub must be known before the configuration is read; give it exactly as --hub {config.hub}"
        )
    from controller.base import log_ring, logs
    from controller.base.freed_memory import give_back_freed_memory

    give_back_freed_memory()
    logs.configure_logging(config.log_level, config.log_format)
    logs.take_stderr()
    log_ring.keep_log_lines()
    for line in unknown_variables(os.environ):
        logging.getLogger(__name__).warning(line)
    from controller.runtime.controller import Controller

    try:
        run_until_signal(config, Controller)
    finally:
        logs.give_back_stderr(FLUSH_SECONDS)


def _check_folder(config: RunConfig) -> None:
    folder = config.manifests
    if folder is None:
        return
    if not folder.is_dir():
        if folder.exists():
            raise WrongUsage(f"{folder} is not a folder; give the folder of the manifest files with --manifests DIR")
        raise WrongUsage(
            f"the manifest folder {folder} does not exist; create it, or give another with --manifests DIR"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise WrongUsage(f"the manifest folder {folder} cannot be read by this user; grant it read permission")


def run_until_signal(config: RunConfig, make_core: Callable[[RunConfig], RunnableController]) -> None:
    """Run a controller with its HTTP server until SIGTERM or SIGINT, then end within KILL_SECONDS.

    Raises CommandFailure when it cannot start.
    """
    from controller.config.addresses import is_loopback
    from controller.http.pages import Application
    from controller.http.server import HttpServer
    from controller.http.ui.pages import UiPages
    from controller.peers.descriptors import raise_descriptor_limit

    raise_descriptor_limit()
    with _signals() as wait_for_signal:
        try:
            token = _read_token(config.ui_token_file)
            core = make_core(config)
            loopback = is_loopback(config.http_address.host)
            ui = UiPages(core.page, loopback, token)
            application = Application(core.answers, core.metrics.registry, loopback, ui)
            http = HttpServer(config.http_address, application)
            core.start()
        except StartError as error:
            raise CommandFailure(str(error)) from None
        http.start()
        _log_start(config, str(http.address))
        wait_for_signal()
        core.stop(CONTROLLER_STOP_SECONDS)
        http.stop()
    _end()


def _read_token(file: Path | None) -> str | None:
    """The token of the page for a browser. Raises StartError."""
    if file is None:
        return None
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII text"
        raise StartError(f"the token of --ui-token-file {file} cannot be read: {reason}") from None
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN or not token.isprintable() or " " in token:
        raise StartError(
            f"--ui-token-file {file} must have {MIN_TOKEN} to {MAX_TOKEN} characters without spaces, as "
            "`openssl rand -hex 32` writes them"
        )
    return token


def _log_start(config: RunConfig, http: str) -> None:
    import structlog

    from controller.base.version import version
    from controller.config.addresses import is_loopback

    log = structlog.get_logger("headgate")
    if config.mode == "audit":
        log.warning("all NetworkPolicies are staged; policies of the whole cluster are in force", mode=config.mode)
    log.info("headgate runs", version=version(), http=http, openflow=config.openflow_listen, hub=config.hub)
    if not is_loopback(config.http_address.host):
        log.warning("HTTP is reachable from other machines and has no authentication", http=http)
    for address in config.exposed:
        log.warning(
            "plain TCP is reachable from other machines: they can read and change flows and ports; use ssl: instead",
            address=address,
        )


@contextmanager
def _signals() -> Iterator[Callable[[], None]]:
    """Yields a function that blocks until one of SIGNALS arrives; one that came before the call counts.

    The interpreter writes a byte for each signal (signal.set_wakeup_fd), and both hubs can wait for it to be readable.
    A handler that used a lock or an event might run inside the hub, where green threads cannot switch. The handler only
    makes sure that the process ends in time; it runs even when the hub is busy.
    """
    import socket

    reading, writing = socket.socketpair()
    writing.setblocking(False)
    before = {number: signal.signal(number, _end_in_time) for number in SIGNALS}
    old = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        while not set(reading.recv(64)) & set(SIGNALS):
            continue

    try:
        yield wait
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        reading.close()
        writing.close()


def _end_in_time(*_: object) -> None:
    """Arrange that the process ends even if Python code blocks.

    After KILL_SECONDS faulthandler prints the stacks of all threads and exits; if that blocks because nobody reads
    standard error, the kernel ends the process after KERNEL_KILL_SECONDS.
    """
    faulthandler.dump_traceback_later(KILL_SECONDS, exit=True, file=sys.__stderr__ or 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, KERNEL_KILL_SECONDS)


def _end() -> None:
    """End the process now. Only waiting threads are left, without data to save."""
    from controller.base import logs

    logs.flush(FLUSH_SECONDS)
    os._exit(0)
