"""Flows that several ports have: after any sequence a plan equals the full rendering, and reports what changed."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.bridge.binding import read_bridge
from flows.bridge.reader import BindingReader
from flows.bridge.state import Binding, BridgeBinding, BridgeState, InterfaceState, PodBinding
from flows.cluster.model import Cluster, Direction, Key, Node, Pod
from flows.cluster.net import Net
from flows.pipeline.tables import NEIGHBOR
from flows.plan.bridge_plan import BridgePlan
from flows.plan.encoder import FlowEncoder
from flows.policy.rule import NodePolicy
from flows.render.neighbors import link_local
from flows.render.reference import render
from flows.wire.values import Body

MACS = (0x020000000001, 0x020000000002)
# Among them the link-local addresses that are made of the MAC addresses, which others may have as their own.
NETS = [Net(4, 0x0A000000 + n, 32) for n in (1, 2)] + [link_local(mac) for mac in MACS] + [Net(6, 0xFD << 120 | 1, 128)]
ISOLATED = st.frozensets(st.sampled_from(list(Direction)))


@st.composite
def views(draw: Any) -> Binding:
    pods = []
    free = draw(st.permutations(NETS))
    for ofport in draw(st.lists(st.integers(1, 5), unique=True)):
        count = draw(st.integers(0, 2))
        mine, free = tuple(free[:count]), free[count:]
        pods.append(
            PodBinding(ofport, f"p{ofport}", Key("x", f"p{ofport}"), draw(st.sampled_from((None, *MACS))), mine)
        )
    node = tuple(free[: draw(st.integers(0, 1))])
    uplink, local = draw(st.sampled_from((None, 9))), draw(st.sampled_from((None, *MACS)))
    answered = draw(st.sampled_from((None, (), tuple(NETS[:3]), tuple(free[-2:]))))
    return Binding(node, local, uplink, tuple(sorted(pods, key=lambda pod: pod.ofport)), True, answered)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(views(), st.lists(ISOLATED, min_size=6, max_size=6), st.booleans()), min_size=1, max_size=5))
def test_a_plan_equals_the_full_rendering_whatever_collides(
    steps: list[tuple[Binding, list[frozenset[Direction]], bool]],
) -> None:
    encoder = FlowEncoder()
    plan: BridgePlan = BridgePlan(encoder, userspace=True)
    before: dict[bytes, Body] = {}
    isolated: list[frozenset[Direction]] = []
    for view, wanted, at_once in steps:
        if at_once or not isolated:
            isolated = wanted
        plan.set_binding(view, lambda pod, then=isolated: then[int(pod.name[1:])])  # type: ignore[misc]
        isolated = wanted
        for pod in view.pods:
            plan.isolate(pod.ofport, wanted[pod.ofport])
        changed = plan.take()
        policy = NodePolicy({pod.pod: wanted[pod.ofport] for pod in view.pods}, ())
        # What of a port cannot be rendered with itself is refused by both.
        shut = plan.refused
        seen = Binding(
            view.node_addresses, view.local_mac, view.uplink,
            tuple(pod for pod in view.pods if pod.ofport not in shut), True, view.confirmed_addresses,
        )  # fmt: skip
        expected = dict(map(encoder.flow, render(seen, policy)))
        assert plan.flows == expected
        differs = {key: before.get(key) for key in before.keys() | expected.keys()}
        assert changed == {key: body for key, body in differs.items() if body != expected.get(key)}
        before = expected


def test_the_bridges_own_flow_outlives_a_pod_with_the_bridges_mac() -> None:
    encoder = FlowEncoder()
    plan: BridgePlan = BridgePlan(encoder, userspace=True)
    bare = Binding(local_mac=MACS[0], userspace=True)
    plan.set_binding(bare, lambda _: frozenset())
    plan.take()
    alone = dict(plan.flows)
    pod = PodBinding(1, "p1", Key("x", "p1"), MACS[0], (NETS[0],))
    plan.set_binding(Binding(local_mac=MACS[0], pods=(pod,), userspace=True), lambda _: frozenset())
    plan.take()
    assert all(plan.flows[key] == body for key, body in alone.items() if key[0] == NEIGHBOR.number)
    plan.set_binding(bare, lambda _: frozenset())
    plan.take()
    assert plan.flows == alone


PORTS = st.builds(
    lambda number, ofport, pod, mac, said, role: InterfaceState(
        f"u{number}", f"p{number}", ofport, "",
        {"iface-id": f"x/{pod}", "attached-mac": mac, "ip_addresses": said, **role},
    ),
    st.integers(1, 6), st.sampled_from((None, 1, 2, 3, 4, 5, 6)), st.sampled_from("abcd"),
    st.sampled_from(("", "02:00:00:00:00:01", "junk")), st.sampled_from(("", "10.0.0.1", "10.0.0.2 10.0.0.3", "x")),
    st.sampled_from(({}, {}, {}, {"headgate-role": "uplink"})),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(PORTS, max_size=6, unique_by=lambda one: one.uuid),
            st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from(NETS[:3]), max_size=2, unique=True)),
            st.booleans(),
            st.sampled_from(("n", "", "m")),
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_what_is_read_again_and_again_is_what_is_read_from_nothing(steps: list[Any]) -> None:
    reader = BindingReader()
    attached: dict[int, PodBinding] = {}
    bridge: BridgeState | None = None
    cluster = Cluster()
    for ports, pods, same, node in steps:
        old = cluster
        cluster = Cluster(
            pods={Key("x", name): Pod(Key("x", name), node="n", addresses=tuple(nets)) for name, nets in pods.items()},
            nodes={"n": Node("n", (NETS[1],) if len(ports) % 2 else ())},
        )
        changed = {key for key in old.pods.keys() | cluster.pods.keys() if old.pods.get(key) != cluster.pods.get(key)}
        if bridge is None or not same:
            bridge = BridgeState("db", "br", 1, node, interfaces=tuple(ports))
        found = reader.read(bridge, cluster, changed)
        for pod in found.removed:
            assert attached.pop(pod.ofport) == pod
        for pod in found.added:
            assert pod.ofport not in attached
            attached[pod.ofport] = pod
        whole = read_bridge(bridge, cluster)
        assert reader.reading() == whole
        assert sorted(attached.values(), key=lambda one: one.ofport) == list(whole.binding.pods)
        view = whole.binding
        assert found.bridge == BridgeBinding(
            view.node_addresses, view.local_mac, view.uplink, view.confirmed_addresses, view.routing, view.tunnel
        )
