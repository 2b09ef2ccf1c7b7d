"""The control groups of a node, in each hierarchy of the machine (cgroups(7)): v1, one for each controller, or v2."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from topology.errors import LabError

_MOUNT = Path("/sys/fs/cgroup")
_SECONDS = 5.0  # the kernel removes processes from a group some time after they ended


def group_name(cluster: str, node: str) -> str:
    """The name of a node's group. It tells whose it is, also after a crash."""
    return f"headgate-cluster.{cluster}.{node}"


def is_v2() -> bool:
    """Whether the machine has the unified hierarchy alone."""
    return (_MOUNT / "cgroup.controllers").exists()


def make(name: str) -> list[Path]:
    """Make the group in each hierarchy. Returns the files that take a process into it. Raises LabError."""
    folders = [one / name for one in _hierarchies()]
    if not folders:
        raise LabError(
            f"no control groups are mounted at {_MOUNT}: a kubelet needs them (in a container: --privileged)"
        )
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
            for key in ("cpuset.cpus", "cpuset.mems"):  # v1: empty in a new group, which then takes no process
                if not is_v2() and (folder / key).exists():
                    (folder / key).write_text((folder.parent / key).read_text())
    except OSError as error:
        raise LabError(f"cannot make the control group {name}: {error}; run this as root of the machine") from error
    return [folder / "cgroup.procs" for folder in folders]


def joined(name: str) -> list[Path]:
    """The files that take a process into a running node's group."""
    inner = ["node"] if is_v2() else []
    return [one.joinpath(name, *inner, "cgroup.procs") for one in _hierarchies()]


def remove(prefix: str) -> None:
    """Remove all groups whose names begin with the prefix, with those inside. Raises LabError if one stays."""
    deadline = time.monotonic() + _SECONDS
    while left := [found for one in _hierarchies() for found in one.glob(f"{prefix}*")]:
        for folder in left:
            inner = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
            for path in [*inner, folder]:
                with suppress(OSError):  # busy still, or gone already
                    path.rmdir()
        if time.monotonic() > deadline:
            raise LabError(f"the control group {left[0]} has processes still: end them, and run this again")
        time.sleep(0.05)


def _hierarchies() -> list[Path]:
    """The top folder of each hierarchy that this process is in."""
    if is_v2():
        return [_MOUNT]
    found = []
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        controllers = line.split(":")[1]
        folder = _MOUNT / controllers.removeprefix("name=")
        if controllers and folder.is_dir():
            found.append(folder)
    return found
