"""Which pod is behind which port: which ports are refused and why, and conflicts between ports."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.bridge.binding import read_bridge
from flows.bridge.reader import BindingReader
from flows.bridge.state import BridgeState, InterfaceState, PortProblem
from flows.cluster.model import Cluster, Key, Node, Pod
from flows.cluster.net import Net
from tests.flows.parse.test_objects import NOBODYS
from tests.helpers.controller.reconcile_driver import port

A, B = Net(4, 0x0A000001, 32), Net(4, 0x0A000002, 32)
NODE = Net(4, 0x0A0000FE, 32)


def bridge(*interfaces: InterfaceState) -> BridgeState:
    return BridgeState("db", "br-int", 1, "one", interfaces=interfaces)


def cluster(**addresses: tuple[Net, ...]) -> Cluster:
    pods = {Key("x", name): Pod(Key("x", name), node="one", addresses=nets) for name, nets in addresses.items()}
    return Cluster(pods=pods, nodes={"one": Node("one", (NODE,))})


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("02:00:00:00:01:ff", 0x0200000001FF),
        ("02:AB:cd:00:01:02", 0x02ABCD000102),
        ("00:00:00:00:00:00", None),
        ("01:00:5e:00:00:01", None),
        ("02:00:00:00:01", None),
        ("02:00:00:00:01:02:03", None),
        ("02-00-00-00-01-02", None),
        ("020000000102", None),
        ("2:0:0:0:1:2", None),
        ("02:00:00:00:01:+2", None),
        ("02:00:00:00:01: 2", None),
        ("02:00:00:00:01:02\n", None),
        ("02:00:00:00:01:\u0661\u0662", None),
    ],
)
def test_a_mac_address_is_six_octets_in_hexadecimal(text: str, mac: int | None) -> None:
    reading = read_bridge(bridge(port("p1", 1, "x/a", **{"attached-mac": text})), cluster(a=(A,)))
    assert [one.mac for one in reading.binding.pods] == ([] if mac is None else [mac])
    refused = PortProblem("p1", f"attached-mac {text!r} is no unicast MAC address")
    assert reading.problems == ((refused,) if mac is None else ())


def test_two_ports_of_one_pod_are_both_refused() -> None:
    reading = read_bridge(bridge(port("p1", 1, "x/a"), port("p2", 2, "x/a"), port("p3", 3, "x/b")), cluster(a=(), b=()))
    assert [one.interface for one in reading.binding.pods] == ["p3"]
    why = "pod x/a is claimed by several ports: p1, p2; until one of them goes, nothing passes to or from it"
    assert reading.problems == (PortProblem("p1", why), PortProblem("p2", why))


def test_an_address_of_two_pods_is_refused_to_both() -> None:
    reading = read_bridge(bridge(port("p1", 1, "x/a"), port("p2", 2, "x/b")), cluster(a=(A, B), b=(A,)))
    assert [one.addresses for one in reading.binding.pods] == [(B,), ()]
    why = "10.0.0.1 is claimed by several ports: p1, p2; until one of them goes, nothing passes to or from it"
    assert reading.problems == (PortProblem("p1", why), PortProblem("p2", why))


def test_a_pod_cannot_have_the_nodes_address() -> None:
    reading = read_bridge(bridge(port("p1", 1, "x/a"), port("p2", 2, "x/b")), cluster(a=(NODE, A), b=(B,)))
    assert [one.addresses for one in reading.binding.pods] == [(A,), (B,)]
    assert reading.problems == (PortProblem("p1", "10.0.0.254 of pod x/a is an address of the node itself"),)


@pytest.mark.parametrize("address", NOBODYS)
def test_an_address_that_no_pod_can_have_is_not_taken_from_a_port(address: str) -> None:
    reading = read_bridge(bridge(port("p1", 1, "x/a", ip_addresses=f"{address} {A}")), cluster(a=()))
    assert [one.addresses for one in reading.binding.pods] == [(A,)]
    (problem,) = reading.problems
    assert problem.interface == "p1"
    assert "no pod or node can have" in problem.reason
    alone = read_bridge(bridge(port("p1", 1, "x/a", ip_addresses=address)), cluster(a=()))
    assert [one.addresses for one in alone.binding.pods] == [()]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.lists(st.sampled_from((A, B, NODE)), max_size=3)), max_size=5))
def test_what_is_claimed_twice_is_refused_to_both(claims: list[tuple[str, list[Net]]]) -> None:
    known = cluster(**dict.fromkeys("abcd", ()))
    ports = [
        port(f"p{n}", n, f"x/{name}", ip_addresses=" ".join(map(str, nets))) for n, (name, nets) in enumerate(claims, 1)
    ]
    reading = read_bridge(bridge(*ports), known)
    pods = Counter(name for name, _ in claims)
    nets = Counter(net for _, mine in claims for net in set(mine))
    expected = {
        n: {net for net in mine if nets[net] == 1 and net != NODE}
        for n, (name, mine) in enumerate(claims, 1)
        if pods[name] == 1
    }
    assert {one.ofport: set(one.addresses) for one in reading.binding.pods} == expected
    touched = {f"p{n}" for n, (name, mine) in enumerate(claims, 1) if expected.get(n) != set(mine)}
    assert {problem.interface for problem in reading.problems} == touched


UID = "uid-a"


@pytest.mark.parametrize(
    ("one", "other", "port_of_the_pod"),
    [
        ({"ip_addresses": str(A)}, {"ip_addresses": "10.0.0.99"}, "p1"),
        ({"ip_addresses": str(A)}, {}, "p1"),
        ({"ip_addresses": "10.0.0.99"}, {}, "p2"),
        ({"ip_addresses": f"{A}/16 fd00::1"}, {"ip_addresses": str(A)}, "p2"),
        ({"iface-id-ver": UID}, {}, "p1"),
        ({"iface-id-ver": UID, "ip_addresses": "10.0.0.99"}, {"iface-id-ver": UID, "ip_addresses": str(A)}, "p2"),
        ({"iface-id-ver": UID}, {"iface-id-ver": "another"}, "p1"),
        # Each agrees in one respect, or both in the same: neither is the current port.
        ({"iface-id-ver": UID}, {"ip_addresses": str(A)}, None),
        ({"ip_addresses": str(A)}, {"ip_addresses": str(A)}, None),
        ({"ip_addresses": "10.0.0.99"}, {"ip_addresses": "10.0.0.98"}, None),
    ],
)
def test_of_two_ports_of_a_pod_the_one_that_agrees_with_the_pod_is_bound(
    one: dict[str, str], other: dict[str, str], port_of_the_pod: str | None
) -> None:
    known = Cluster(pods={Key("x", "a"): Pod(Key("x", "a"), node="one", uid=UID, addresses=(A,))})
    reading = read_bridge(bridge(port("p1", 1, "x/a", **one), port("p2", 2, "x/a", **other)), known)
    assert [(found.interface, found.addresses) for found in reading.binding.pods] == (
        [(port_of_the_pod, (A,))] if port_of_the_pod else []
    )
    refused = {"p1", "p2"} - {port_of_the_pod}
    assert {problem.interface for problem in reading.problems} == refused
    if port_of_the_pod and "another" not in other.values():
        assert f"newer port, {port_of_the_pod}" in reading.problems[0].reason


def test_a_port_without_an_ofport_conflicts_with_nothing() -> None:
    known = Cluster(pods={Key("x", "a"): Pod(Key("x", "a"), node="one", uid=UID, addresses=(A,))})
    gone = InterfaceState("uuid-p2", "p2", None, "", {"iface-id": "x/a", "iface-id-ver": UID, "ip_addresses": str(A)})
    reading = read_bridge(bridge(port("p1", 1, "x/a"), gone), known)
    assert [found.addresses for found in reading.binding.pods] == [(A,)]


PORTS = st.lists(
    st.tuples(
        st.sampled_from(range(1, 7)),
        st.sampled_from("abc"),
        st.sampled_from(("", str(A), str(B), f"{A} {B}", "10.0.0.99")),
        st.sampled_from(("", UID)),
    ),
    max_size=7,
)


@given(st.lists(PORTS, min_size=1, max_size=5))
def test_the_reader_equals_reading_from_nothing(
    steps: list[list[tuple[int, str, str, str]]],
) -> None:
    """Ports are added, removed and changed; several claim the same pods, addresses and ofports."""
    pods = {"a": (A,), "b": (A, B), "c": ()}
    known = cluster(**pods)
    known = Cluster(pods={key: pod._replace(uid=UID) for key, pod in known.pods.items()}, nodes=known.nodes)
    reader = BindingReader()
    seen: dict[int, object] = {}
    for step in steps:
        ports = [
            port(f"p{n}", ofport, f"x/{name}", **{"ip_addresses": nets, "iface-id-ver": uid})
            for n, (ofport, name, nets, uid) in enumerate(step)
        ]
        now = bridge(*ports)
        found = reader.read(now, known, frozenset())
        for gone in found.removed:
            assert seen.pop(gone.ofport) == gone
        seen.update((came.ofport, came) for came in found.added)
        expected = read_bridge(now, known)
        assert seen == {one.ofport: one for one in expected.binding.pods}
        assert reader.reading() == expected
