"""`headgate support-bundle`: writes one file with status, flows, OVSDB, log and versions, without secrets."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from controller.base.printable import printable
from controller.base.secrets import without_secrets
from controller.base.version import version
from controller.cli import flows, status
from controller.cli.client import ControllerClient
from controller.cli.errors import CommandFailure
from controller.cli.status_choice import StatusChoice
from controller.cli.status_tables import STATUS_TABLES
from controller.cli.which_controller import controller_options
from controller.status.detail_model import SupportView
from controller.status.model import StatusView

README = """\
Collected by `headgate support-bundle`. Secrets are left out: of files there are only names, of external_ids only those
that Headgate uses. Names and addresses of pods, nodes and policies are included.

status.txt, status.json   the output of `headgate status --all`
flows/                    the flows of each switch with their counters, or why they are missing
ovsdb.json                the bridges and interfaces that the controller has read from OVSDB
log.txt                   the last lines of the controller's log
versions.json             of the controller, its libraries, and this command
settings.json             the configuration of the controller
"""
NO_LOG = "The controller has no log lines. On its machine, see: journalctl -u headgate\n"


@click.command("support-bundle")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file to write.  [default: headgate-support-DATE-TIME.tar.gz in this folder]",
)
@controller_options
def support_bundle(server: str, path: Path | None) -> None:
    """Write status, flows, OVSDB, log and versions into one file, for those who help you.

    Keys, tokens, passwords and the contents of kubeconfigs are left out; names and addresses are not. Only you can read
    the file. Where something is missing (the flows of a switch that is away), the file says why.

    \b
    Examples:
      headgate support-bundle
      headgate support-bundle -o /tmp/bundle.tar.gz && tar -tzf /tmp/bundle.tar.gz
    """
    name = time.strftime("headgate-support-%Y%m%d-%H%M%S")
    path = path or Path(f"{name}.tar.gz")
    asked = ControllerClient(server)
    view = asked.status()
    _write(path, name, collect(asked, view))
    click.echo(f"{path} written; check its contents before you pass it on")


def collect(server: ControllerClient, view: StatusView) -> Iterator[tuple[str, str]]:
    """Names and texts of the bundle's files, before secrets are removed."""
    yield "README.txt", README
    yield "status.json", _json(asdict(view))
    yield (
        "status.txt",
        _drawn(lambda: status.show_status(view, StatusChoice(tuple(STATUS_TABLES), everything=True, wide=True))),
    )
    yield from _support(server)
    for node in sorted({switch.node for switch in view.switches}):
        yield from _flows(server, node)


def _support(server: ControllerClient) -> Iterator[tuple[str, str]]:
    try:
        found = server.support()
    except CommandFailure as error:
        yield "support-error.txt", f"{error.format_message()}\n"
        found = SupportView({}, {}, (), ())
    yield "versions.json", _json({"this command": version(), "controller": found.versions})
    yield "settings.json", _json(found.settings)
    yield "ovsdb.json", _json([asdict(bridge) for bridge in found.bridges])
    yield "log.txt", "".join(f"{line}\n" for line in found.log) or NO_LOG


def _flows(server: ControllerClient, node: str) -> Iterator[tuple[str, str]]:
    name = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in node).strip(".") or "no-hostname"
    try:
        found = server.flows(node=node).flows
    except CommandFailure as error:
        yield f"flows/{name}.txt", f"{error.format_message()}\n"
        return
    yield f"flows/{name}.json", _json([asdict(one) for one in found])
    yield f"flows/{name}.txt", _drawn(lambda: flows.show_flows(found, wide=True))


def _drawn(draw: Callable[[], None]) -> str:
    """The output of a command as text."""
    with redirect_stdout(io.StringIO()) as found:
        draw()
    return found.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _write(path: Path, folder: str, files: Iterator[tuple[str, str]]) -> None:
    """Write the tarball completely or not at all. Raises CommandFailure."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as bundle:
            for name, text in files:
                data = without_secrets(text).encode("utf-8", "backslashreplace")
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                bundle.addfile(entry, io.BytesIO(data))
        beside.replace(path)
    except OSError as error:
        raise CommandFailure(
            f"cannot write {printable(str(path))}: {error.strerror}; choose another with -o FILE"
        ) from None
    finally:
        beside.unlink(missing_ok=True)
