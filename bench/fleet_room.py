"""Whether this machine has room for a fleet: what it needs is estimated before anything is started.

The figures are those of a fleet of 100 nodes of 20 pods with three replicas, rounded up: 2.2 MB for an ovsdb-server,
5.4 open files of ovs-vswitchd and 4.3 of a controller for each node, 92 MB of ovs-vswitchd for 2,000 pods, and 160 MB
of a controller.
"""

from __future__ import annotations

from pathlib import Path

from controller.peers.descriptors import raise_descriptor_limit

FIXED_MB = 1000.0  # the API server, etcd, and what each process takes without a node
NODE_MB, POD_MB, POD_OF_REPLICA_MB = 4.0, 0.05, 0.04
NODE_FILES, NODE_FILES_OF_REPLICA, OTHER_FILES = 4, 1, 500


def check_room(nodes: int, pods: int, replicas: int) -> None:
    """Raises RuntimeError with what is missing for `nodes` nodes of `pods` pods, and so many controllers."""
    files = nodes * (NODE_FILES + NODE_FILES_OF_REPLICA * replicas) + OTHER_FILES
    if (most := raise_descriptor_limit()) < files:
        raise RuntimeError(
            f"{nodes} nodes with {replicas} controllers need {files:,} open files in one process, and {most:,} are "
            f"allowed: `ulimit -n {files}` allows them"
        )
    megabytes = FIXED_MB + nodes * (NODE_MB + pods * (POD_MB + POD_OF_REPLICA_MB * replicas))
    if (free := _available_mb()) < megabytes:
        raise RuntimeError(
            f"{nodes} nodes of {pods} pods with {replicas} controllers need about {megabytes:,.0f} MB of memory, and "
            f"{free:,.0f} MB are available"
        )


def _available_mb() -> float:
    """Megabytes that can be used without swapping (proc(5), MemAvailable)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("MemAvailable:"))
