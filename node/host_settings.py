"""What `headgate-node` keeps on the node: the settings that node.sh gave, and how to undo what it changed.

One JSON file in the state folder, replaced at once. What the network looks like is not kept here: the controller writes
that into the OVSDB (`node.facts`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from node import files
from node.errors import NodeError
from node.facts import REVISION_FILE

STATE = "/var/lib/headgate-node"
STATE_VARIABLE = "HEADGATE_NODE_STATE"
FILE = "node.json"
MAX_BYTES = 1 << 20
NOT_CHANGED = -1
_LATER = ("neighbours", "rules", "uplink")  # settings that a file of an earlier version lacks
_UTS, _FIRST_UTS = "/proc/self/ns/uts", "uts:[4026531838]"  # the kernel's number of the first: include/linux/proc_ns.h


@dataclass
class Settings:
    """Settings of one node.

    Folders and the socket are full paths. `underlay` is the interface that is on the bridge UNDERLAY, "" if none is;
    `uplink` is the one of a flat network whose addresses moved to the pods' bridge. The rest is how to undo: `sysctls`
    has the earlier value of each kernel setting that was changed, by its path under /proc/sys/net; `mtu_request` is the
    earlier one of the bridge's own port (0: none); `checked_sequences`: conntrack checked TCP sequence numbers;
    `addresses`, `neighbours`, `routes` and `rules` are those that moved from either interface, in the words of `ip`
    (`node.host_moved`).
    """

    bridge: str = "br-int"
    ovsdb: str = "/run/openvswitch/db.sock"
    run_dir: str = "/run/headgate"
    cni_bin_dir: str = "/opt/cni/bin"
    cni_conf_dir: str = "/etc/cni/net.d"
    masquerade: bool = True
    underlay: str = ""
    uplink: str = ""
    sysctls: dict[str, str] = field(default_factory=dict)
    mtu_request: int = NOT_CHANGED
    checked_sequences: bool = False
    addresses: list[str] = field(default_factory=list)
    routes: list[list[str]] = field(default_factory=list)
    neighbours: list[str] = field(default_factory=list)
    rules: list[list[str]] = field(default_factory=list)

    @property
    def revision_file(self) -> Path:
        """Where the applied revision stands. It does not outlive a boot, as little as what was applied."""
        return Path(self.run_dir) / REVISION_FILE


def state_folder() -> Path:
    """The folder of the node's state. A node that is a namespace of a machine, with a host name of its own, may share
    the machine's file system with other nodes, so it has a folder of its own. deploy/node.sh has the same rule."""
    given = os.environ.get(STATE_VARIABLE)
    if given:
        return Path(given)
    own = os.uname().nodename
    is_namespace = os.path.lexists(_UTS) and os.readlink(_UTS) != _FIRST_UTS
    return Path(STATE) / own if is_namespace and own not in ("", ".", "..") else Path(STATE)


def load(folder: Path) -> Settings:
    """The settings in a state folder. Raises NodeError if there are none or they are damaged."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_BYTES))
        given = {one.name: values[one.name] for one in fields(Settings) if one.name in values or one.name not in _LATER}
    except FileNotFoundError:
        raise NodeError(f"{path} is missing: run deploy/node.sh --cni on this node") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise NodeError(f"{path} cannot be used: {error}: run deploy/node.sh --cni again") from None
    settings = Settings(**given)
    wrong = [
        one.name
        for one in fields(Settings)
        if type(getattr(settings, one.name)) is not type(getattr(Settings(), one.name))
    ]
    if wrong:
        raise NodeError(f"{path}: {wrong[0]} is of the wrong type: run deploy/node.sh --cni again")
    return settings


def save(folder: Path, settings: Settings) -> None:
    """Keep the settings. Raises NodeError."""
    write_text(folder / FILE, json.dumps(asdict(settings), indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file, as `files.replace_file` does. Raises NodeError."""
    try:
        files.replace_file(path, text.encode())
    except OSError as error:
        raise NodeError(f"{path} cannot be written: {error.strerror or error}") from None


def configure(folder: Path, given: Mapping[str, str]) -> None:
    """Keep settings that node.sh gave, by name; the others stay as they are. Raises NodeError for unknown ones."""
    settings = load(folder) if (folder / FILE).exists() else Settings()
    for key, text in given.items():
        if key == "masquerade" and text in ("yes", "no"):
            settings.masquerade = text == "yes"
        elif key in ("bridge", "ovsdb", "run_dir", "cni_bin_dir", "cni_conf_dir", "underlay", "uplink"):
            setattr(settings, key, text)
        else:
            raise NodeError(f"there is no setting {key}={text}")
    save(folder, settings)
