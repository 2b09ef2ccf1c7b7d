"""The files of a lab that keep its topology, ports and state, and the lock against two commands at once.

Running processes are not kept here: `host.process` finds them on the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from topology.errors import LabError

if TYPE_CHECKING:
    from topology.host.machine import Datapath
    from topology.spec.model import Topology

LABS_FOLDER = Path("/run/headgate-lab")


@dataclass(frozen=True)
class LabState:
    """The state of a lab. `ready` is False until it is up completely, which tells a crash from a running lab."""

    datapath: Datapath
    controller: bool
    openflow_port: int
    http_port: int
    ready: bool = False


def save_lab(folder: Path, topology: Topology, state: LabState) -> None:
    """Write both files, each replaced as a whole."""
    for name, text in (
        ("topology.json", topology.model_dump_json(indent=1)),
        ("state.json", json.dumps(asdict(state))),
    ):
        partial = folder / f".{name}"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / name)


def load_lab(folder: Path) -> tuple[Topology, LabState] | None:
    """What `save_lab` wrote, None if a file is missing or incomplete."""
    from topology.spec.load import check_topology  # here only: reading names must be fast

    try:
        topology = json.loads((folder / "topology.json").read_text(encoding="utf-8"))
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return check_topology(topology, str(folder / "topology.json")), LabState(**state)
    except (FileNotFoundError, ValueError, TypeError):
        return None


@contextmanager
def lab_locked(base: Path, name: str) -> Iterator[None]:
    """Hold the lab's lock during the block. Raises LabError if another command holds it."""
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = base / f".{name}.lock"
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise LabError(f"another command is working on the lab {name}") from error
        if os.fstat(fd).st_nlink:
            break
        os.close(fd)  # its last holder has removed the file
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)
        with suppress(OSError):  # it has other labs
            base.rmdir()


def lab_names(base: Path = LABS_FOLDER) -> list[str]:
    """The names of the labs under `base`."""
    return sorted(path.parent.name for path in base.glob("*/topology.json"))


def controller_urls(base: Path = LABS_FOLDER) -> dict[str, str]:
    """The controllers' URLs of the running labs under `base`, by lab name."""
    found = {}
    for name in lab_names(base):
        try:
            state = LabState(**json.loads((base / name / "state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if state.ready and state.controller:
            found[name] = controller_url(state.http_port)
    return found


def controller_url(http_port: int) -> str:
    """The URL of a lab's controller for `headgate --server`."""
    return f"http://127.0.0.1:{http_port}"
