"""A topology file says exactly what it may, and is told by field where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from topology.errors import TopologyError
from topology.spec.address import plan_endpoints
from topology.spec.load import check_topology, load_topology, parse_topology

GOOD: dict[str, Any] = {
    "nodes": [{"name": "one"}],
    "namespaces": [{"name": "x"}],
    "pods": [{"namespace": "x", "name": "a", "node": "one"}],
}


def test_default_topology_is_the_tenant_example() -> None:
    topology = load_topology()
    assert [node.name for node in topology.nodes] == ["node-1", "node-2"]
    segments = {pod.key: pod.labels["segment"] for pod in topology.pods}
    assert segments["tenant-a/backend"] == "backend"
    assert segments["tenant-a/frontend"] == segments["tenant-b/frontend"] == "frontend"
    assert topology.families == (4, 6)


def test_a_name_given_by_the_user_wins() -> None:
    assert load_topology(name="other").name == "other"


@pytest.mark.parametrize(
    ("entry", "port", "protocol", "name"),
    [
        (80, 80, "TCP", None),
        ("80", 80, "TCP", None),
        ("53/udp", 53, "UDP", None),
        ("dns:53/UDP", 53, "UDP", "dns"),
        ({"port": 9, "protocol": "SCTP", "name": "n"}, 9, "SCTP", "n"),
    ],
)
def test_ports_may_be_written_short(entry: Any, port: int, protocol: str, name: str | None) -> None:
    found = check_topology({**GOOD, "ports": [entry]}, "t").ports[0]
    assert (found.port, found.protocol, found.name) == (port, protocol, name)


POD = GOOD["pods"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": []}, "nodes: "),
        ({"nodse": []}, "nodse: no such key"),
        ({"name": "Upper"}, "name: 'Upper' is not a name"),
        ({"name": "x" * 33}, "name: "),
        ({"ports": [0]}, "ports[0].port: "),
        ({"ports": [65536]}, "ports[0].port: "),
        ({"ports": ["80/ICMP"]}, "ports[0].protocol: "),
        ({"ports": ["eighty"]}, "ports[0].port: "),
        ({"ports": [True]}, "ports[0]"),
        ({"families": []}, "families must be"),
        ({"families": [4, 4]}, "families must be"),
        ({"families": [5]}, "families[0]: "),
        ({"mtu": 100}, "mtu: "),
        ({"subnets": {"ipv4": "10.0.0.1/16"}}, "subnets.ipv4: "),
        ({"subnets": {"ipv4": "10.0.0.0/24"}}, "subnets must leave room"),
        ({"nodes": [{"name": "one"}, {"name": "one"}]}, "node one is given twice"),
        ({"pods": [POD, POD]}, "pod x/a is given twice"),
        ({"pods": [{**POD, "node": "two"}]}, "pod x/a is on node two, which the topology does not have"),
        ({"pods": [{**POD, "namespace": "y"}]}, "pod y/a is in namespace y, which the topology does not have"),
        ({"pods": [{**POD, "addresses": ["10.0.0.300"]}]}, "pods[0].addresses[0]: "),
        ({"pods": [{**POD, "label": {}}]}, "pods[0].label: no such key"),
        ({"pods": [{"name": "a", "node": "one"}]}, "pods[0].namespace: "),
        ({"pods": {"a": 1}}, "pods: "),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TopologyError) as caught:
        check_topology({**GOOD, **change}, "file.yaml")
    assert any(line.startswith("file.yaml: ") and message in line for line in str(caught.value).splitlines())


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(TopologyError) as caught:
        check_topology({**GOOD, "mtu": 1, "ports": [0]}, "t")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["", "[]", "a: [", "just words"])
def test_text_that_is_no_topology(text: str) -> None:
    with pytest.raises(TopologyError, match=r"^here: "):
        parse_topology(text, "here")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(TopologyError, match=r"/nonexistent\.yaml: No such file"):
        load_topology(Path("/nonexistent.yaml"))


def test_addresses_are_distinct_and_the_same_every_time() -> None:
    data = {**GOOD, "pods": [{**POD, "name": f"p{number}"} for number in range(250)]}
    first, second = (plan_endpoints(check_topology(data, "t")) for _ in range(2))
    assert first == second
    for family in (4, 6):
        assert len({endpoint.addresses[family] for endpoint in first.values()}) == 251
    assert len({endpoint.mac for endpoint in first.values()}) == 251
    assert len({endpoint.netns for endpoint in first.values()}) == 251


def test_more_pods_than_a_node_has_addresses_for() -> None:
    data = {**GOOD, "pods": [{**POD, "name": f"p{number}"} for number in range(251)]}
    with pytest.raises(TopologyError, match="node one has more than 250 pods"):
        plan_endpoints(check_topology(data, "t"))


def test_given_addresses_are_kept_and_clashes_found() -> None:
    pods = [{**POD, "addresses": ["10.10.9.9"]}, {**POD, "name": "b", "addresses": ["10.10.9.9"]}]
    found = plan_endpoints(check_topology({**GOOD, "pods": pods[:1]}, "t"))["x/a"]
    assert found.addresses[4] == "10.10.9.9"
    assert found.addresses[6].startswith("fd10:10::")
    with pytest.raises(TopologyError, match=r"x/b and x/a both have the address 10\.10\.9\.9"):
        plan_endpoints(check_topology({**GOOD, "pods": pods}, "t"))


def test_one_family_gives_one_address() -> None:
    found = plan_endpoints(check_topology({**GOOD, "families": [6], "externals": [{"name": "w"}]}, "t"))
    assert {tuple(endpoint.addresses) for endpoint in found.values()} == {(6,)}
