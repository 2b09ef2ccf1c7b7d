"""What the controller writes for a node becomes values; what is no such text is refused and named."""

from __future__ import annotations

import pytest

from node.addresses import parse_address, parse_cidr, text_of
from node.errors import NodeError
from node.facts import BridgeFacts, parse_facts

IDS = {
    "headgate-network": "overlay",
    "headgate-encap": "geneve",
    "headgate-pod-cidrs": "10.244.1.0/24,fd00:10:244:1::/64",
    "headgate-cluster-cidrs": "10.244.0.0/24 10.244.1.0/24",
    "headgate-service-cidrs": "10.96.0.0/16",
    "headgate-node-ips": "172.31.0.11 fd00::11",
    "headgate-mtu": "1450",
    "headgate-node-ports": "30000-32767",
    "headgate-revision": "17",
}


def facts(**changed: str) -> BridgeFacts:
    ids = {**IDS, **{f"headgate-{key.replace('_', '-')}": value for key, value in changed.items()}}
    return parse_facts("br-int", "uuid", "netdev", ids)


def test_every_text_becomes_a_value() -> None:
    found = facts()
    assert [str(cidr) for cidr in found.pod_cidrs] == ["10.244.1.0/24", "fd00:10:244:1::/64"]
    assert len(found.cluster_cidrs) == 2 and found.mtu == 1450 and found.node_ports == (30000, 32767)
    assert [text_of(one) for one in found.node_ips] == ["172.31.0.11", "fd00::11"]
    assert found.userspace and not found.missing()


def test_before_the_controller_wrote_something_is_missing() -> None:
    assert "controller" in parse_facts("br-int", "uuid", "", {}).missing()
    assert "spec.podCIDRs" in facts(pod_cidrs="").missing()
    assert "--network flat" in facts(network="flat").missing()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("pod_cidrs", "10.244.1.1/24"),
        ("pod_cidrs", "10.244.1.0/"),
        ("pod_cidrs", "10.244.1.0/33"),
        ("pod_cidrs", "10.244.1.0/²"),
        ("pod_cidrs", "10.0.0.0/8," * 65),
        ("node_ips", "10.0.0"),
        ("node_ips", "::g"),
        ("node_ips", "1.2.3.4\x00"),
        ("mtu", "100"),
        ("mtu", "9" * 50),
        ("node_ports", "32767-30000"),
        ("node_ports", "1-65536"),
        ("network", "over\nlay"),
    ],
)
def test_an_invalid_text_is_refused_by_its_key(key: str, text: str) -> None:
    with pytest.raises(NodeError, match=f"headgate-{key.replace('_', '-')}"):
        facts(**{key: text})


def test_numbers_in_a_range() -> None:
    cidr = parse_cidr("10.244.1.0/24")
    assert text_of(cidr.address(1)) == "10.244.1.1" and parse_address("10.244.1.9") in cidr
    assert parse_address("10.244.2.9") not in cidr and parse_address("::1") not in cidr
    with pytest.raises(NodeError):
        cidr.address(256)
