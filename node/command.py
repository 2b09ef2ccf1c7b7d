"""The command line of `headgate-node`: one line a command, errors as one line on standard error.

headgate-node setup ...           deploy/node.sh with these options
headgate-node undo ...            deploy/node-undo.sh with these options
headgate-node install FILE...     write this program to each FILE, compiled for the Python here
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from node.bundle import BundleError, install, pack, read_sources, write_file

OK, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(f"{__doc__}")
        return OK if arguments else USAGE
    name, *rest = arguments
    try:
        if name == "setup":
            return _script("node.sh", rest)
        if name == "undo":
            return _script("node-undo.sh", rest)
        if name == "install" and rest:
            install([Path(path) for path in rest])
            return OK
    except BundleError as error:
        sys.stderr.write(f"headgate-node: {error}\n")
        return FAILED
    sys.stderr.write(f"headgate-node: unknown command {name}, or it lacks its arguments (see --help)\n")
    return USAGE


def _script(name: str, options: Sequence[str]) -> int:
    """Run a script of this bundle with this program beside it; the script's exit code."""
    sources = read_sources()
    with tempfile.TemporaryDirectory(prefix="headgate-node-") as folder:
        write_file(Path(folder) / name, sources[f"node/scripts/{name}"])
        write_file(Path(folder) / "headgate-node", pack(sources))
        return subprocess.run([f"{folder}/{name}", *options], check=False, env=os.environ).returncode
