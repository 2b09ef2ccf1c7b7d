"""A node is installed again under the same datapath id while three replicas serve, and strangers flood them all.

In every mode of the network: the node's new switch is served under its new system-id, by one replica, and a change of
policy gets there.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.ports import free_ports
from flows.bridge.routing import TUNNEL_INTERFACE, NetworkMode
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.claiming_nodes import flows, honest
from tests.helpers.controller.fake_switch import HELLO, dial, message
from tests.helpers.controller.replicas import Replica, logs, until_divided
from tests.helpers.ovs.node import Node
from tests.helpers.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.switch, pytest.mark.slow]

DPID = 0x1001
STRANGER = "127.0.0.9"
FLOODING, HALF_OPEN = 4, 40  # connections to each listener
OBJECTS: tuple[dict[str, Any], ...] = (
    {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDRs": ["10.244.1.0/24"]},
    },
    {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p1", "namespace": "default"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "none"}]},
    },
)  # fmt: skip
DENY = {
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny", "namespace": "default"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
        {"from": [{"ipBlock": {"cidr": "192.0.2.77/32"}}]}]},
}  # fmt: skip


@contextmanager
def replicas(api: ApiServer, folder: Path, mode: NetworkMode) -> Iterator[tuple[list[Replica], list[int]]]:
    """Three replicas, and the ports where they listen for OVSDB."""
    api.apply(list(OBJECTS))
    status = '{"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}'
    api.kubectl("patch", "node", "n1", "--subresource=status", "--type=merge", "-p", status)
    kubeconfig = api.credentials(folder, api.port)
    made = []
    ports = free_ports(3)
    for number, port in enumerate(ports):
        more = ("--ovsdb-listen", f"tcp:127.0.0.1:{port}", "--network", mode.value)
        made.append(Replica(f"r{number}", folder, kubeconfig, (), *more))
    try:
        for one in made:
            one.start()
        until(lambda: all(len(one.status().get("replicas", ())) == 3 for one in made), lambda: logs(made))
        yield made, list(ports)
    finally:
        for one in made:
            one.end(signal.SIGKILL)
        api.kubectl("delete", "--all", "--ignore-not-found", "leases", "-n", "headgate")
        api.kubectl("delete", "node,pod,networkpolicy", "--all", "--grace-period=0", "--force", "-n", "default")


@contextmanager
def flooded(ports: list[int]) -> Iterator[None]:
    """Strangers at every listener: echo requests as fast as they are read, and connections that say nothing."""
    ending = threading.Event()
    echo = message(2, b"x" * 1000) * 64

    def flood(port: int) -> None:
        while not ending.is_set():
            with contextlib.suppress(OSError), dial(port, STRANGER) as one:
                one.settimeout(1)
                one.sendall(HELLO)
                while not ending.is_set():
                    one.sendall(echo)
                    with contextlib.suppress(TimeoutError, BlockingIOError):
                        one.recv(1 << 20, socket.MSG_DONTWAIT)
            ending.wait(0.05)

    threads = [threading.Thread(target=flood, args=(port,), daemon=True) for port in ports for _ in range(FLOODING)]
    silent = [dial(port, STRANGER) for port in ports for _ in range(HALF_OPEN)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join(20)
        for one in silent:
            one.close()


def call(node: Node, made: list[Replica], ovsdb_ports: list[int]) -> None:
    targets = [f"tcp:127.0.0.1:{one.openflow_port}" for one in made]
    node.vsctl("set-controller", "br-int", *targets)
    for controller in node.vsctl("--bare", "--columns=_uuid", "list", "Controller").split():
        node.vsctl("set", "Controller", controller, "max_backoff=1000", "connection_mode=out-of-band")
    node.vsctl("set-manager", *(f"tcp:127.0.0.1:{port}" for port in ovsdb_ports))


def set_up(node: Node, mode: NetworkMode) -> None:
    if mode is NetworkMode.OVERLAY:
        node.vsctl("--no-wait", "set", "Open_vSwitch", ".", "external_ids:ovn-encap-ip=192.0.2.1")
        node.add_port(TUNNEL_INTERFACE, "ofport_request=9")


def served(made: list[Replica], node: Node, ofport: int, allowed: bool) -> Callable[[], bool]:
    def holds() -> bool:
        found = flows(node)
        there = any(f"in_port={ofport}" in line and "10.244.1.5" in line for line in found)
        return there and any("192.0.2.77" in line for line in found) is allowed

    return holds


@pytest.mark.parametrize("mode", NetworkMode)
def test_a_node_that_was_installed_again_is_served_by_one_of_the_replicas(
    api: ApiServer, tmp_path: Path, mode: NetworkMode
) -> None:
    address = "external_ids:ip_addresses=10.244.1.5"
    with replicas(api, tmp_path, mode) as (made, ports):
        try:
            with honest("n1", DPID, {}, "old") as old:
                set_up(old, mode)
                old.add_port("p1", "ofport_request=2", "external_ids:iface-id=default/p1",
                             'external_ids:attached-mac="02:00:00:00:00:02"', address)  # fmt: skip
                call(old, made, ports)
                until_divided(made, {"n1"})
                until(served(made, old, 2, False), lambda: logs(made))
            with flooded([one.openflow_port for one in made]), honest("n1", DPID, {}, "new") as new:
                set_up(new, mode)
                new.add_port("p1", "ofport_request=7", "external_ids:iface-id=default/p1",
                             'external_ids:attached-mac="02:00:00:00:00:07"', address)  # fmt: skip
                call(new, made, ports)
                until_divided(made, {"n1"})
                until(served(made, new, 7, False), lambda: logs(made))
                api.apply([DENY])
                until(served(made, new, 7, True), lambda: logs(made))
                until(lambda: "headgate-installed=true" in new.get("Interface", "p1", "external_ids"), "the mark")
        finally:
            assert not any(one.said("Traceback") for one in made), logs(made)
