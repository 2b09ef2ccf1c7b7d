"""The command line of `headgate-node`.

    headgate-node setup ...            deploy/node.sh with these options
    headgate-node undo ...             deploy/node-undo.sh with these options
    headgate-node apply [--wait N]     make the node's network what the controller wrote, waiting up to N seconds for it
    headgate-node underlay             only move addresses of the underlay interface or the uplink to their bridge
    headgate-node clear                undo what `apply` did
    headgate-node install FILE...      write this program to each FILE, compiled for the Python here
    headgate-node health [FILE]        answer checks of health check node ports; FILE gets the process' number
    headgate-node configure KEY=TEXT.. keep settings of this node (node.sh does it)

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the controller has not yet written what the node needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from node.bundle import BundleError, install, pack, read_sources, write_file
from node.errors import NodeError

OK, FAILED, USAGE, NOT_YET = 0, 1, 2, 3


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. An error is one line on standard error."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(f"{__doc__}")
        return OK if arguments else USAGE
    name, *rest = arguments
    try:
        if name in ("setup", "undo"):
            return _script("node.sh" if name == "setup" else "node-undo.sh", rest)
        if name == "install" and rest:
            install([Path(path) for path in rest])
            return OK
        if name == "health" and len(rest) < 2:
            from node.health import serve

            serve(Path(rest[0]) if rest else None)
            return OK
        if name in ("apply", "clear", "configure", "underlay"):
            return _node(name, rest)
    except (BundleError, NodeError) as error:
        from node.apply import NotYetError

        sys.stderr.write(f"headgate-node: {error}\n")
        return NOT_YET if isinstance(error, NotYetError) else FAILED
    return _usage(f"unknown command {name}, or it lacks its arguments")


def _usage(words: str) -> int:
    sys.stderr.write(f"headgate-node: {words} (see --help)\n")
    return USAGE


def _node(name: str, rest: Sequence[str]) -> int:
    from node import apply, host_settings

    state = host_settings.state_folder()
    if name == "configure":
        apply.configure(state, dict(one.partition("=")[::2] for one in rest))
        return OK
    if name in ("clear", "underlay") and not rest:
        apply.clear(state) if name == "clear" else apply.move_underlay(state)
        return OK
    if name == "apply" and (not rest or (len(rest) == 2 and rest[0] == "--wait" and rest[1].isdigit())):
        mode = apply.apply(state, float(rest[1]) if rest else 0)
        sys.stdout.write(f"headgate-node: this node's network is set up: {mode}\n")
        return OK
    return _usage(f"wrong arguments of {name}")


def _script(name: str, options: Sequence[str]) -> int:
    """Run a script of this bundle with this program beside it; the script's exit code."""
    sources = read_sources()
    with tempfile.TemporaryDirectory(prefix="headgate-node-") as folder:
        for path, data in sources.items():
            if path.startswith("node/scripts/"):
                write_file(Path(folder) / Path(path).name, data)
        write_file(Path(folder) / "headgate-node", pack(sources))
        return subprocess.run([f"{folder}/{name}", *options], check=False, env=os.environ).returncode
