"""The addresses and names of a cluster. All are inside its namespaces, so they collide with nothing on the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CLUSTERS_FOLDER = Path("/var/lib/headgate-cluster")  # on a disk: containerd's layers do not fit into /run everywhere
DEFAULT_NAME = "cluster"
CONTROL = ("172.31.0.1", "fd00:172:31::1")  # of the control plane, which is also the machine outside of the cluster
PREFIXES = (24, 64)
POD_CIDRS = ("10.244.0.0/16", "fd00:10:244::/56")
SERVICE_CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")
API_SERVICE = ("10.96.0.1", "fd00:10:96::1")  # the first address of each range of Services is the API server's
API_PORT = 6443
STATUS_PORT = 8080  # of `headgate run`, inside the control plane's namespace
MAX_NODES = 8


@dataclass(frozen=True)
class NodeName:
    """A node: its number from 1, from which name and addresses follow."""

    number: int

    @property
    def name(self) -> str:
        """The Node's name, which is its host name, too."""
        return f"n{self.number}"

    @property
    def addresses(self) -> tuple[str, str]:
        """Its InternalIPs, IPv4 and IPv6."""
        return f"172.31.0.{10 + self.number}", f"fd00:172:31::{10 + self.number}"


def api_url(host: str = CONTROL[0], port: int = API_PORT) -> str:
    """The URL of the API server."""
    return f"https://{host}:{port}"
