"""`headgate run`: the flags, made from the schema; the start and the end of the process.

What runs in between is the core's. The hub is installed before anything is imported that uses sockets or threads.
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

CONTROLLER_STOP_SECONDS = 3.0  # for connections to end in order
KILL_SECONDS = 4.5  # after which the process ends as it is; SIGTERM is answered within 5 s
KERNEL_KILL_SECONDS = 4.8  # after which the kernel ends it: the log may be a pipe that takes nothing
FLUSH_SECONDS = 0.5  # for the last lines of the log
SIGNALS = (signal.SIGTERM, signal.SIGINT)

RUN_INTRO = """Run the controller beside your switches.

Headgate reads Kubernetes objects, finds the pods' ports by OVSDB, and keeps the flows of every switch equal to
what the policies say. On each switch it needs two things: that OVSDB can be reached (--ovsdb), or calls
(--ovsdb-listen), and that the switch reaches --openflow-listen: Headgate sets the bridge's controller itself.

On SIGTERM it ends and leaves all flows in place: traffic goes on as it was, and the next start takes over
without losing a packet.
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
  Nodes that call by themselves, in TLS (`headgate pki` says how to set them up):
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

A flag is stronger than its environment variable, that than the file, and the file than the default. Lists are
replaced, not joined; in the environment their parts are separated by commas or spaces.
"""


INSTALLED_HUB = "controller.base.hub"  # where the command's context keeps the hub that was installed


class RunnableController(Protocol):
    """What the process needs of the controller: controller.runtime.controller.Controller, or a test's."""

    @property
    def answers(self) -> DetailedStatusApi:
        """What HTTP asks."""

    @property
    def metrics(self) -> Metrics:
        """What /metrics exposes."""

    def start(self) -> None:
        """Open listeners, connect, and go on in threads. Raises StartError."""

    def stop(self, timeout: float) -> None:
        """End all that start began, within `timeout` seconds, leaving flows in place."""


class RunCommand(click.Command):
    """A command whose options come from the schema, shown in its groups."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Install the hub, then load the schema and read the flags it makes."""
        if not ctx.resilient_parsing and not {"--help", "-h"} & set(args):
            ctx.meta[INSTALLED_HUB] = install_hub(args, os.environ)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The schema's options and then the command's own."""
        from controller.config.load import options

        return [*(_as_flag(option) for option in options()), *super().get_params(ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options group by group, with defaults and environment names."""
        from controller.config.load import options
        from controller.config.schema import OPTION_GROUPS

        for group in OPTION_GROUPS:
            with formatter.section(group):
                formatter.write_dl([_help_line(option) for option in options() if option.group == group])
        own = {option.name for option in options()}
        rest = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx) if parameter.name not in own]
        with formatter.section("Others"):
            formatter.write_dl([record for record in rest if record])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, not indented twice."""
        formatter.write_paragraph()
        formatter.write_text(EXAMPLES)


def metavar(option: Option) -> str:
    """What stands behind the flag in help: the choices where there are few, else what to give."""
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
            f"the hub has to be known first; write --hub {config.hub} on the command line as it stands here"
        )
    from controller.base import log_ring, logs

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
            raise WrongUsage(f"{folder} is not a folder; give the folder that holds the files with --manifests DIR")
        raise WrongUsage(
            f"the manifest folder {folder} does not exist; create it, or give another with --manifests DIR"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise WrongUsage(f"the manifest folder {folder} cannot be read by this user; give it the right to")


def run_until_signal(config: RunConfig, make_core: Callable[[RunConfig], RunnableController]) -> None:
    """Run a core with its HTTP pages until SIGTERM or SIGINT; end within KILL_SECONDS after that. Raises Failure."""
    from controller.config.addresses import is_loopback
    from controller.http.pages import Application
    from controller.http.server import HttpServer
    from controller.peers.descriptors import raise_descriptor_limit

    raise_descriptor_limit()
    with _signals() as wait_for_signal:
        try:
            core = make_core(config)
            application = Application(core.answers, core.metrics.registry, is_loopback(config.http_address.host))
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


def _log_start(config: RunConfig, http: str) -> None:
    import structlog

    from controller.base.version import version
    from controller.config.addresses import is_loopback

    log = structlog.get_logger("headgate")
    log.info("headgate runs", version=version(), http=http, openflow=config.openflow_listen, hub=config.hub)
    if not is_loopback(config.http_address.host):
        log.warning("HTTP is open to other machines and has no login", http=http)
    for address in config.exposed:
        log.warning(
            "plain TCP beyond this machine: whoever reaches it can read and change flows and ports; use ssl: instead",
            address=address,
        )


@contextmanager
def _signals() -> Iterator[Callable[[], None]]:
    """Yields a call that blocks until one of SIGNALS came, also if it came before the call.

    The interpreter writes a byte for every signal (signal.set_wakeup_fd), and reading it waits as both hubs can; a
    handler that touched a lock or an event could run inside the hub, where green threads cannot switch. The handler
    itself runs also while the hub is busy: it sees to it that the process ends in time whatever else happens.
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
    """Have the process ended from below Python, where nothing can be stuck behind the interpreter.

    First with what all threads do, which takes a standard error that can be written to; then by the kernel.
    """
    faulthandler.dump_traceback_later(KILL_SECONDS, exit=True, file=sys.__stderr__ or 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, KERNEL_KILL_SECONDS)


def _end() -> None:
    """End the process now: what is left are threads that wait, and they hold nothing that must be kept."""
    from controller.base import logs

    logs.flush(FLUSH_SECONDS)
    os._exit(0)
