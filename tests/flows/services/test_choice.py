"""Which endpoints a node uses, by tables from Kubernetes' documentation (see `flows.services.choice`)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flows.cluster.model import Endpoint, Key, Protocol, Service, ServicePort
from flows.cluster.net import parse_address
from flows.services.choice import Backend, choose, depends_on_node

PORT = ServicePort("", Protocol.TCP, 80)
NODE_PORT = PORT._replace(node_port=30080)
CLUSTER = Service(Key("shop", "web"), (parse_address("10.96.0.5"),), (PORT,))
INTERNAL_LOCAL = CLUSTER._replace(internal_local=True)
EXTERNAL_LOCAL = CLUSTER._replace(external_local=True)
BOTH_LOCAL = INTERNAL_LOCAL._replace(external_local=True)


def backend(
    number: int, state: str = "ready", node: str = "n1", zones: Sequence[str] = (), nodes: Sequence[str] = ()
) -> Backend:
    """The endpoint 10.0.0.<number>. States as in the API's table of conditions."""
    ready, serving, terminating = {
        "ready": (True, True, False),
        "not ready": (False, False, False),
        "terminating": (False, True, True),
        "terminating, not serving": (False, False, True),
        "ready, terminating": (True, True, True),  # publishNotReadyAddresses
    }[state]
    address = parse_address(f"10.0.0.{number}")
    return Backend(Endpoint(address, node, ready, serving, terminating, tuple(zones), tuple(nodes)), 8080)


def chosen(
    service: Service, port: ServicePort, *backends: Backend, node: str = "n1", zone: str = "z1"
) -> tuple[list[int], list[int], bool]:
    """The last parts of the addresses, and whether any endpoint is usable."""
    found = choose(service, port, backends, node, zone)
    cluster, local = ([target.address.value & 0xFF for target in targets] for targets in (found.cluster, found.local))
    return cluster, local, found.anywhere


@pytest.mark.parametrize(
    ("states", "used"),
    [
        ([], []),
        (["ready", "ready"], [1, 2]),
        (["ready", "not ready"], [1]),
        (["ready", "terminating"], [1]),
        (["not ready", "terminating"], [2]),
        (["terminating", "terminating, not serving"], [1]),
        (["terminating, not serving"], []),
        (["not ready"], []),
        (["ready, terminating", "terminating"], [1]),
    ],
)
def test_conditions(states: list[str], used: list[int]) -> None:
    backends = [backend(number, state) for number, state in enumerate(states, 1)]
    assert chosen(CLUSTER, PORT, *backends) == (used, [], bool(used))
    # On one node, the policy Local makes the same choice.
    assert chosen(INTERNAL_LOCAL, PORT, *backends) == ([], used, bool(used))


@pytest.mark.parametrize(
    ("service", "port", "cluster", "local"),
    [
        (CLUSTER, PORT, [1, 2], []),
        (CLUSTER, NODE_PORT, [1, 2], []),
        (INTERNAL_LOCAL, PORT, [], [1]),
        # Pods and the node use the policy Cluster for external addresses, whatever the external policy.
        (INTERNAL_LOCAL, NODE_PORT, [1, 2], [1]),
        (EXTERNAL_LOCAL, NODE_PORT, [1, 2], [1]),
        (BOTH_LOCAL, NODE_PORT, [1, 2], [1]),
        # Without an external address, the external policy means nothing.
        (EXTERNAL_LOCAL, PORT, [1, 2], []),
        (EXTERNAL_LOCAL._replace(external_ips=(parse_address("192.0.2.1"),)), PORT, [1, 2], [1]),
        (EXTERNAL_LOCAL._replace(ingress_ips=(parse_address("192.0.2.1"),)), PORT, [1, 2], [1]),
    ],
)
def test_policies(service: Service, port: ServicePort, cluster: list[int], local: list[int]) -> None:
    assert chosen(service, port, backend(1, node="n1"), backend(2, node="n2")) == (cluster, local, True)


@pytest.mark.parametrize("service", [INTERNAL_LOCAL, BOTH_LOCAL])
@pytest.mark.parametrize(
    ("backends", "local", "anywhere"),
    [
        ([backend(1, node="n2")], [], True),
        ([backend(1, node="")], [], True),
        ([backend(1, "terminating", "n1"), backend(2, "ready", "n2")], [1], True),
        ([backend(1, "terminating", "n2")], [], True),
        ([backend(1, "not ready", "n1"), backend(2, "not ready", "n2")], [], False),
        ([backend(1, "terminating, not serving", "n1")], [], False),
    ],
)
def test_local_without_ready_endpoints_here(
    service: Service, backends: list[Backend], local: list[int], anywhere: bool
) -> None:
    found = chosen(service, PORT, *backends)
    assert found[1:] == (local, anywhere)


@pytest.mark.parametrize(
    ("backends", "used"),
    [
        ([backend(1, zones=["z1"]), backend(2, zones=["z2"])], [1]),
        ([backend(1, zones=["z1", "z2"]), backend(2, zones=["z2"])], [1]),
        # One ready endpoint without hints, or none for this zone: all are used.
        ([backend(1, zones=["z1"]), backend(2)], [1, 2]),
        ([backend(1, zones=["z2"]), backend(2, zones=["z2"])], [1, 2]),
        # An endpoint that is not ready needs no hint, and its hint counts for nothing.
        ([backend(1, zones=["z1"]), backend(2, "not ready"), backend(3, zones=["z2"])], [1]),
        ([backend(1, "not ready", zones=["z1"]), backend(2, zones=["z2"])], [2]),
        # Hints for nodes before hints for zones.
        ([backend(1, zones=["z1"], nodes=["n2"]), backend(2, zones=["z2"], nodes=["n1"])], [2]),
        ([backend(1, zones=["z1"], nodes=["n2"]), backend(2, zones=["z2"], nodes=["n3"])], [1]),
        ([backend(1, zones=["z1"], nodes=["n1"]), backend(2, zones=["z1"])], [1, 2]),
        # With none ready, hints are not looked at.
        ([backend(1, "terminating", zones=["z2"]), backend(2, "terminating", zones=["z1"])], [1, 2]),
    ],
)
def test_hints(backends: list[Backend], used: list[int]) -> None:
    assert chosen(CLUSTER, PORT, *backends)[0] == used


def test_a_node_without_a_zone_uses_no_zone_hints() -> None:
    assert chosen(CLUSTER, PORT, backend(1, zones=["z1"]), backend(2, zones=["z2"]), zone="")[0] == [1, 2]


def test_two_ports_of_one_address_are_two_targets() -> None:
    other = backend(1)._replace(number=9090)
    found = choose(CLUSTER, PORT, [backend(1), other, backend(1)], "n1", "")
    assert [target.number for target in found.cluster] == [8080, 9090]


@pytest.mark.parametrize(
    ("service", "port", "backends", "by_node"),
    [
        (CLUSTER, PORT, [backend(1), backend(2)], False),
        (CLUSTER, PORT, [], False),
        (CLUSTER, PORT, [backend(1, zones=["z1"])], True),
        (CLUSTER, PORT, [backend(1, zones=["z1"]), backend(2)], False),
        (CLUSTER, PORT, [backend(1, nodes=["n1"])], True),
        (EXTERNAL_LOCAL, PORT, [backend(1)], False),
        (EXTERNAL_LOCAL, NODE_PORT, [backend(1)], True),
        (INTERNAL_LOCAL, PORT, [backend(1)], True),
    ],
)
def test_what_depends_on_the_node(service: Service, port: ServicePort, backends: list[Backend], by_node: bool) -> None:
    assert depends_on_node(service, port, backends) is by_node
    choices = {choose(service, port, backends, node, zone) for node in ("n1", "n2", "n3") for zone in ("", "z1", "z2")}
    assert by_node or len(choices) == 1
