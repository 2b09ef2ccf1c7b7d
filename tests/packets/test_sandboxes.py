"""A pod's network was made anew before the old one was cleaned up: two live ports name the pod, and one is its own."""

from __future__ import annotations

import subprocess

import pytest

from topology.host import netns
from topology.lab.lab import Lab
from topology.lab.node import LAB_BRIDGE
from topology.probe.matrix import LabProbe

pytestmark = pytest.mark.lab

WAYS = [
    LabProbe(*ends, "TCP", 80, family)
    for ends in (("x/a", "x/b"), ("x/b", "x/a"), ("x/a", "node:one"))
    for family in (4, 6)
]


def passing(lab: Lab) -> int:
    return sum(one.reachable for one in lab.run_probes(WAYS, (0.5,), lambda probe: True).results.values())


def test_the_port_with_the_pods_addresses_has_the_network(lab: Lab) -> None:
    node = lab.nodes["one"]
    pod = next(pod for pod in lab.topology.pods if pod.key == "x/a")
    interface = lab.link(pod).interface
    uid = node.vsctl(["get", "Interface", interface, "external_ids:iface-id-ver"]).strip()
    stale = ["set", "Interface", "old0", 'external_ids:iface-id="x/a"', f"external_ids:iface-id-ver={uid}"]
    try:
        node.vsctl(["add-port", LAB_BRIDGE, "old0", "--", *stale])
        lab.wait()
        assert passing(lab) == len(WAYS), "a port without an interface contests nothing"
        with netns.inside(node.netns):
            subprocess.run(["ip", "link", "add", "old0", "type", "veth", "peer", "name", "old1"], check=True)
        node.vsctl(["--", "del-port", LAB_BRIDGE, "old0"])
        where = ['external_ids:attached-mac="0a:58:0a:0a:01:63"', 'external_ids:ip_addresses="10.10.1.99/16"']
        node.vsctl(["add-port", LAB_BRIDGE, "old0", "--", *stale, *where])
        lab.wait()
        assert passing(lab) == len(WAYS)
        reasons = [
            port["reason"]
            for switch in lab.product.get("/status")["switches"]
            for port in switch["unbound_ports"]
            if port["name"] == "old0"
        ]
        assert len(reasons) == 1
        assert reasons[0].startswith(f"pod x/a has a newer port, {interface}")
    finally:
        node.vsctl(["--if-exists", "del-port", LAB_BRIDGE, "old0"])
        with netns.inside(node.netns):
            subprocess.run(["ip", "link", "del", "old0"], check=False)
        lab.wait()
