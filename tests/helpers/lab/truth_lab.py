"""A lab that is the truth tables' world: namespaces x, y, z of pods a, b, c on two nodes, and a machine outside.

All tests here use it, so that an end is called the same everywhere. What is expected stands in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.helpers.lab.datapath_choice import datapath
from tests.helpers.truth.layout import NAMESPACES, OUTSIDE, PODS, PORTS, PROTOCOLS, TruthLayout
from topology.lab.lab import Lab
from topology.lab.objects import LabCluster
from topology.spec.load import check_topology

PLACEMENT = {pod: "two" if pod.endswith("b") else "one" for pod in PODS}
NODES = ("one", "two")
OUTSIDE_END = f"external:{OUTSIDE}"


def topology_data(pods: tuple[str, ...] = PODS) -> dict[str, Any]:
    """The world as a topology, with no more than these pods."""
    return {
        "ports": [
            {"port": port, "protocol": protocol, "name": f"serve-{port}-{protocol.lower()}"}
            for port in PORTS
            for protocol in PROTOCOLS
        ],
        "nodes": [{"name": name} for name in NODES],
        "namespaces": [{"name": name, "labels": {"ns": name}} for name in NAMESPACES],
        "pods": [
            {"namespace": pod[0], "name": pod[-1], "node": PLACEMENT[pod], "labels": {"pod": pod[-1]}} for pod in pods
        ],
        "externals": [{"name": OUTSIDE}],
    }


@contextmanager
def world_lab(
    pods: tuple[str, ...] = PODS,
    hub: str = "",
    cluster: LabCluster | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Lab]:
    """A lab of the world that is up, everything in force; it is gone when the block ends.

    `hub` is what the controller runs on, its default if empty, `environment` has more of its settings.
    Without `cluster` the objects are a folder of manifests.
    """
    chosen = datapath()
    with TemporaryDirectory(prefix="hgp-", dir="/tmp") as folder:
        lab = Lab(check_topology(topology_data(pods), "test", "w"), Path(folder), cluster=cluster)
        lab.environment = {**({"HEADGATE_HUB": hub} if hub else {}), **(environment or {})}
        try:
            lab.up(chosen)
            yield lab
        finally:
            lab.down()


def world_of(lab: Lab) -> TruthLayout:
    """The world with the lab's addresses."""
    return TruthLayout(
        pods={pod: lab.endpoints[pod].addresses for pod in PODS},
        placement=PLACEMENT,
        nodes={name: lab.endpoints[f"node:{name}"].addresses for name in NODES},
        outside=lab.endpoints[OUTSIDE_END].addresses,
    )


def endpoint_name(end: str, world: TruthLayout) -> str:
    """What a lab calls an end of the tables: `x/a`, `@x/a` (the node of x/a) or `outside`."""
    if end == OUTSIDE:
        return OUTSIDE_END
    return f"node:{world.placement[end[1:]]}" if end.startswith("@") else end
