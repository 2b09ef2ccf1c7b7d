"""Measures the data plane of a cluster's own network, with `headgate run --network overlay` on two nodes: connections
per second through a ClusterIP and straight to its endpoint, and one TCP stream between nodes through the pipeline and
through a hand-made one of the same encapsulation without policy. In turns, for the machine's load changes.

The nodes are those of the tests of Services (tests/helpers/lab), so this runs from a checkout alone. Needs root.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.result import Result

if TYPE_CHECKING:
    from tests.helpers.lab.overlay import OverlayNode, OverlayPod
    from tests.helpers.lab.service_lab import ServiceLab

# Through the ClusterIP, and straight. To one port both would be the same connections for the server, which remembers
# those that it closed: a client that takes a port again waits a second.
_PORT, _STRAIGHT = 5001, 5002
_VIP = "10.96.0.77"
_PEER = str(Path(__file__).with_name("peer.py"))
_COOKIE = "0xbe9c"  # of the flows made by hand: not Headgate's


def measure_service_traffic(scale: float) -> list[Result]:
    """Both figures. The server of the first is on the client's node, that of the second on the other."""
    from tests.helpers.lab.service_lab import service_lab

    rounds, seconds = (7, 2.0) if scale >= 1 else (3, 0.7)
    with service_lab() as lab:
        lab.objects.update(_objects(lab))
        lab.apply()
        server, far = lab.pod("x/b"), lab.pod("x/c")
        ends = [_start(server, _PORT), _start(server, _STRAIGHT), _start(far, _PORT)]
        try:
            time.sleep(0.5)
            return [
                _connections(lab, server.addresses[4], rounds, seconds),
                _stream(lab, far, rounds, seconds),
            ]
        finally:
            for one in ends:
                one.kill()
                one.wait()


def _objects(lab: ServiceLab) -> dict[str, dict[str, object]]:
    """A Service with one endpoint, and policies for both ends of both measurements."""
    lab.add_policy("out", "a", "Egress", ["b", "c"])
    lab.add_policy("in", "b", "Ingress", ["a"])
    lab.add_policy("far", "c", "Ingress", ["a"])
    for name in ("out", "in", "far"):
        for rule in (lab.objects[f"policy {name}"]["spec"].get(side) for side in ("egress", "ingress")):
            if rule:
                rule[0]["ports"] += [{"protocol": "TCP", "port": port} for port in (_PORT, _STRAIGHT)]
    ports = [{"name": "p", "protocol": "TCP", "port": 80}]
    meta = {"name": "bench", "namespace": "x"}
    return {
        "service": {"apiVersion": "v1", "kind": "Service", "metadata": meta,
                    "spec": {"clusterIP": _VIP, "clusterIPs": [_VIP], "ports": ports}},
        "slice": {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                  "metadata": meta | {"labels": {"kubernetes.io/service-name": "bench"}},
                  "endpoints": [{"addresses": [lab.pod("x/b").addresses[4]], "nodeName": "node-1"}],
                  "ports": [{"name": "p", "protocol": "TCP", "port": _PORT}]},
    }  # fmt: skip


def _start(pod: OverlayPod, port: int) -> subprocess.Popen[bytes]:
    from topology.host import netns

    with netns.inside(pod.netns):
        return subprocess.Popen([sys.executable, _PEER, "serve", str(port)])


def _run(lab: ServiceLab, what: str, address: str, port: int, seconds: float) -> float:
    """Bytes or connections per second from pod x/a."""
    from topology.host import netns

    command = [sys.executable, _PEER, what, address, str(port), str(seconds)]
    with netns.inside(lab.pod("x/a").netns):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
    return float(done.stdout)


def _pairs(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float, float]:
    """The median ratio of pairs, and the median of each side; one goes first in turns."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            pairs.append((ours(), theirs()))
        else:
            second = theirs()
            pairs.append((ours(), second))
    left, right = (statistics.median(side) for side in zip(*pairs, strict=True))
    return statistics.median(a / b for a, b in pairs), left, right


def _connections(lab: ServiceLab, address: str, rounds: int, seconds: float) -> Result:
    _run(lab, "connect", _VIP, 80, 0.3)
    ratio, ours, theirs = _pairs(
        rounds,
        lambda: _run(lab, "connect", _VIP, 80, seconds),
        lambda: _run(lab, "connect", address, _STRAIGHT, seconds),
    )
    return Result("connections a second through a ClusterIP", ratio, "x straight to the pod", 0.75, 0.85, rising=True,
                  more={"connections/s": ours, "straight, connections/s": theirs})  # fmt: skip


def _stream(lab: ServiceLab, far: OverlayPod, rounds: int, seconds: float) -> Result:
    address = far.addresses[4]

    def by_hand() -> float:
        _by_hand(lab, far)
        try:
            return _run(lab, "stream", address, _PORT, seconds)
        finally:
            for node in lab.nodes.values():
                node.ovs.ofctl("del-flows", node.bridge.target, f"cookie={_COOKIE}/-1")

    def through() -> float:
        return _run(lab, "stream", address, _PORT, seconds)

    by_hand()
    ratio, ours, theirs = _pairs(rounds, through, by_hand)
    return Result("one TCP stream to another node", ratio, "x hand-made", 0.92, 0.97, rising=True,
                  more={"Mbit/s": ours * 8e-6, "hand-made, Mbit/s": theirs * 8e-6})  # fmt: skip


def _by_hand(lab: ServiceLab, far: OverlayPod) -> None:
    """Two flows on each node, above all others: into the tunnel, and from it to the pod."""
    near = lab.pod("x/a")
    first, second = lab.nodes["node-1"], lab.nodes["node-2"]
    for here, pod, there, other in ((first, near, second, far), (second, far, first, near)):
        _add(here, f"in_port={pod.ofport},ip,nw_dst={other.addresses[4]}", pod,
             f"dec_ttl,set_field:{there.addresses[4]}->tun_dst,output:1")  # fmt: skip
        _add(here, f"in_port=1,ip,nw_dst={pod.addresses[4]}", pod, f"output:{pod.ofport}")


def _add(node: OverlayNode, match: str, pod: OverlayPod, actions: str) -> None:
    """MAC addresses are written in both directions, as a router does."""
    rewrite = f"set_field:0a:48:47:00:00:01->eth_src,set_field:{pod.mac}->eth_dst"
    node.ovs.ofctl(
        "add-flow", node.bridge.target, f"cookie={_COOKIE},priority=65535,{match},actions={rewrite},{actions}"
    )
