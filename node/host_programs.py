"""Runs the programs of the system that the node's set-up needs: `nft`, `ip` and `ovs-appctl`.

The kubelet starts plugins with whatever search path it has, so the usual folders are added.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from node.errors import NodeError

PACKAGES = {
    "nft": "nftables",
    "ip": "iproute2",
    "ovs-appctl": "openvswitch-switch",
}  # the same names on Debian, Fedora, openSUSE and Alpine, nearly
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT = 30.0
_MAX_WORDS = 500  # characters of a program's complaint


def search_path() -> str:
    """The search path for programs."""
    return os.pathsep.join(filter(None, (os.environ.get("PATH"), _PATH)))


def missing(name: str) -> str:
    """What to do where a program is absent, "" if it is there."""
    if shutil.which(name, path=search_path()):
        return ""
    return f"the program {name} is not installed: install the package {PACKAGES[name]}, then run headgate-node apply"


def run(command: Sequence[str], text: str = "", env: Mapping[str, str] | None = None) -> str:
    """Run a program with `text` as its input, and `env` beside the environment, and return its output. Raises NodeError
    with its complaint."""
    path = search_path()
    program = shutil.which(command[0], path=path)
    if program is None:
        raise NodeError(missing(command[0]))
    try:
        done = subprocess.run(
            [program, *command[1:]], input=text, capture_output=True, text=True, check=False, timeout=_TIMEOUT,
            env={**os.environ, "PATH": path, "LC_ALL": "C", **(env or {})},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeError(f"{command[0]} failed: {error}") from None
    if done.returncode:
        raise NodeError(f"{' '.join(command[:4])} failed: {' '.join(done.stderr.split())[:_MAX_WORDS]}")
    return done.stdout
