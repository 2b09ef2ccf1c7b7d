"""The processes of a lab: starts them with a mark, finds the marked ones, ends them.

Each process of a lab has the lab's folder in its environment variable FOLDER_VARIABLE, which no other process has. So
processes are found even after a lab crashed before it could save anything. A reused process id is never signalled: the
mark is read again while a pidfd holds the process.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from topology.errors import LabError
from topology.host.netns import inside

FOLDER_VARIABLE = "HEADGATE_LAB_FOLDER"
ROLE_VARIABLE = "HEADGATE_LAB_ROLE"


@dataclass(frozen=True)
class LabProcess:
    """A running process of a lab. `role` names its purpose, for instance `node-1/ovs-vswitchd`."""

    pid: int
    role: str


def find(folder: Path, role: str | None = None) -> list[LabProcess]:
    """The running processes of the lab in `folder`, only those of `role` if given."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            what = _role(int(entry.name), folder)
            if what is not None and role in (None, what):
                found.append(LabProcess(int(entry.name), what))
    return sorted(found, key=lambda process: process.pid)


def end(folder: Path, role: str | None = None, how: signal.Signals = signal.SIGTERM, patience: float = 5.0) -> int:
    """End the lab's processes, only those of `role` if given, and wait; after `patience` seconds with SIGKILL.

    Returns their number. Raises LabError if a process survives.
    """
    handles = {}
    for process in find(folder, role):
        try:
            handles[process] = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
    ended = len(handles)
    try:
        for number in (how, signal.SIGKILL):
            for process, handle in handles.items():
                if _role(process.pid, folder) is not None:
                    _send(handle, number)
            _wait(handles, patience)
            handles = {process: handle for process, handle in handles.items() if not _gone(process, handle)}
            if not handles:
                break
        if handles:
            raise LabError("cannot end " + ", ".join(f"{left.role} (process {left.pid})" for left in handles))
    finally:
        for handle in handles.values():
            os.close(handle)
    return ended


def start(
    folder: Path,
    role: str,
    command: Sequence[str],
    *,
    netns: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path,
    keep: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a marked process in a new session, in `netns` if given. Its output is appended to `log`.

    It inherits the descriptors `keep`.
    """
    environment = {**os.environ, **(env or {}), FOLDER_VARIABLE: str(folder), ROLE_VARIABLE: role}
    with log.open("ab") as output:
        if netns is None:
            return _popen(command, environment, output.fileno(), keep)
        with inside(netns):
            return _popen(command, environment, output.fileno(), keep)


def start_python(folder: Path, role: str, module: str, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a module of this package and wait until it is ready.

    The module gets the descriptor of a pipe as its last argument and writes a line to it once it is ready. Raises
    LabError if it ends before or takes more than 30 s.
    """
    reader, writer = os.pipe()
    try:
        command = [sys.executable, "-P", "-m", module, *arguments, str(writer)]
        process = start(folder, role, command, env=python_path(), log=log, keep=[writer])
        os.close(writer)
        writer = -1
        if not _readable([reader], 30) or not os.read(reader, 1):
            raise LabError(f"{role} did not start; see {log}")
        return process
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def python_path() -> dict[str, str]:
    """The environment in which `python -m` finds the packages of this repository from any folder."""
    root = str(Path(__file__).resolve().parents[2])
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": root + (os.pathsep + before if before else "")}


def run_program(command: Sequence[str], env: Mapping[str, str] | None = None, text: str | None = None) -> str:
    """Run a program and return its output. Raises LabError with its error output if it fails."""
    done = subprocess.run(
        list(command), env={**os.environ, **(env or {})}, input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(
            f"{Path(command[0]).name} failed ({done.returncode}): {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def _popen(
    command: Sequence[str], environment: Mapping[str, str], output: int, keep: Sequence[int]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=keep,
        cwd="/",
    )


def _role(pid: int, folder: Path) -> str | None:
    """The role of the process, None if it is not (or no longer) a process of the lab."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    values = dict(item.partition(b"=")[::2] for item in raw.split(b"\0"))
    if values.get(FOLDER_VARIABLE.encode()) != str(folder).encode():
        return None
    return values.get(ROLE_VARIABLE.encode(), b"").decode()


def _send(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return


def _wait(handles: Mapping[LabProcess, int], patience: float) -> None:
    """Wait until all have ended or `patience` seconds have passed."""
    deadline = time.monotonic() + patience
    waiting = set(handles.values())
    while waiting and time.monotonic() < deadline:
        waiting -= _readable(waiting, max(0.0, deadline - time.monotonic()))


def _readable(handles: Iterable[int], patience: float) -> set[int]:
    """The handles that are readable within so many seconds. Of any number: select(2) ends at descriptor 1023."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    return {handle for handle, _ in poll.poll(1000 * patience)}


def _gone(process: LabProcess, handle: int) -> bool:
    """Whether the process has ended. If so, closes its handle and reaps it if it is a child of this process."""
    if not _readable([handle], 0):
        return False
    os.close(handle)
    with contextlib.suppress(ChildProcessError):  # a child of another process, which reaps it
        os.waitpid(process.pid, os.WNOHANG)
    return True
