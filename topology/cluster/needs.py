"""What a machine needs for a cluster beyond what a lab needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from topology.cluster.files import find_files
from topology.errors import MissingError
from topology.host.machine import PROGRAM_FOLDERS, Datapath, require_lab_support

_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
_PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))


def require_cluster_support(datapath: Datapath) -> None:
    """Raise MissingError with everything that is missing for a cluster with this datapath."""
    require_lab_support(datapath)
    folders = ":".join(PROGRAM_FOLDERS)
    absent = {
        package: name
        for name, package in _PACKAGES.items()
        if not (shutil.which(name) or shutil.which(name, path=folders))
    }
    if not any((folder / "host-local").exists() for folder in _PLUGIN_FOLDERS):
        absent["containernetworking-plugins"] = "host-local"
    advice = "run `scripts/bootstrap --cluster` (Debian), or install the package"
    if absent:
        raise MissingError([f"{name}: {advice} {package}" for package, name in sorted(absent.items())])
    find_files()
