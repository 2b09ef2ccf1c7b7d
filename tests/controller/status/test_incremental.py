"""The incremental status equals the reference after any sequence of events, and reads a few items at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from controller.metrics.registry import Metrics
from controller.reconcile.events import BridgeChanged, BridgeGone, ClusterChanged, OvsdbState, SwitchDown
from controller.reconcile.problem import Problem
from controller.reconcile.reconciler import Reconciler
from controller.runtime.status_cache import StatusCache
from controller.status import incremental
from controller.status.incremental import IncrementalViews
from controller.status.model import PodView
from controller.status.pod_views import pods_on
from controller.status.reference import pod_views, policy_views, problem_views, switch_views
from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import BridgeState, PodBinding
from flows.cluster.model import Cluster, Key, Namespace, Node, Pod, Policy
from flows.cluster.net import parse_address
from flows.parse.objects import parse_object
from tests.helpers.controller.reconcile_driver import port
from tests.helpers.controller.status_driver import StatusDriver

DPIDS = {"n1": 1, "n2": 2, "n3": 3}


def pod(name: str, node: str, number: int, app: str) -> Pod:
    return Pod(Key("x", name), {"app": app}, node, "", (parse_address(f"10.0.0.{number}"),))


def policy(name: str, spec: Mapping[str, Any]) -> Policy:
    raw = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "x"}}
    found = parse_object({**raw, "spec": spec})
    assert found is not None
    assert isinstance(found.value, Policy)
    return found.value


SPECS: list[dict[str, Any]] = [
    {"podSelector": {}, "policyTypes": ["Ingress"]},
    {"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"from": [{"podSelector": {}}]}]},
    {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Egress"], "egress": [{"to": [{}]}]},
]


class World:
    """Objects and bridges that a test changes one by one."""

    def __init__(self) -> None:
        self.core = StatusDriver()
        self.pods: dict[Key, Pod] = {}
        self.policies: dict[Key, Policy] = {}
        self.problems: tuple[Problem, ...] = ()
        self.generation = 0
        self.core.send(OvsdbState("db", True))
        self.cluster()

    def cluster(self) -> None:
        self.generation += 1
        nodes = {name: Node(name, ()) for name in DPIDS}
        cluster = Cluster({"x": Namespace("x", {})}, dict(self.pods), nodes, dict(self.policies))
        self.core.send(ClusterChanged(cluster, self.problems, self.generation))

    def do(self, step: tuple[str, int, int]) -> None:
        what, one, two = step
        name, node = f"p{one}", f"n{two % 3 + 1}"
        if what == "pod":
            self.pods[Key("x", name)] = pod(name, node, one + 1, "ab"[two % 2])
        elif what == "no pod":
            self.pods.pop(Key("x", name), None)
        elif what == "policy":
            self.policies[Key("x", f"q{one}")] = policy(f"q{one}", SPECS[two % 3])
        elif what == "no policy":
            self.policies.pop(Key("x", f"q{one}"), None)
        elif what == "problem":
            self.problems = (*self.problems[-2:], Problem(f"f{one}", "", "", f"odd {two}"))
        elif what == "bridge":
            marks = {"headgate-installed": "true"} if one % 2 else {}
            # An Interface has a UUID of its own, which these helpers take from its name.
            ports = tuple(port(f"{node}-v{n}", n + 10, f"x/p{n}", **marks) for n in range(one % 7))
            self.core.send(BridgeChanged(BridgeState("db", f"br-{node}", DPIDS[node], node, interfaces=ports)))
        elif what == "no bridge":
            self.core.send(BridgeGone("db", f"br-{node}"))
        elif what == "up":
            self.core.connect(DPIDS[node], one + 100)
        elif what == "down":
            for switch in list(self.core.core.switches.values()):
                if switch.dpid == DPIDS[node] and switch.session is not None:
                    self.core.send(SwitchDown(switch.dpid, switch.session))
        elif what == "stranger":
            self.core.connect(90 + one, 1)
        elif what == "over":
            self.core.core.start_over()
        if what in ("pod", "no pod", "policy", "no policy", "problem", "over"):
            self.cluster()


WHATS = [
    "pod",
    "no pod",
    "policy",
    "no policy",
    "problem",
    "bridge",
    "bridge",
    "no bridge",
    "up",
    "down",
    "stranger",
    "over",
]
STEPS = st.lists(
    st.lists(st.tuples(st.sampled_from(WHATS), st.integers(0, 7), st.integers(0, 5)), min_size=1, max_size=5),
    max_size=12,
)


@settings(deadline=None, max_examples=120)
@given(groups=STEPS)
def test_incremental_equals_reference(groups: list[list[tuple[str, int, int]]]) -> None:
    world = World()
    cache = StatusCache(world.core, Metrics("1", "native"), lambda: 0)
    world.core.handled = cache.handled
    for steps in groups:
        for step in steps:
            world.do(step)
        kept = cache._read()
        core = world.core.core
        assert kept.switches == switch_views(core, world.core.now)
        assert kept.pods == pod_views(core)
        assert kept.policies == policy_views(core)
        assert kept.problems == problem_views(core)
        assert list(kept.waiting) == core.waiting_for()


def large(bridges: int, ports: int) -> World:
    world = World()
    for n in range(bridges):
        interfaces = []
        for m in range(ports):
            name = f"p{n}-{m}"
            address = parse_address(f"10.{n}.{m // 250}.{m % 250 + 1}")
            world.pods[Key("x", name)] = Pod(Key("x", name), {"app": "a"}, f"n{n}", "", (address,))
            interfaces.append(port(f"v{m}", m + 10, f"x/{name}"))
        world.core.send(BridgeChanged(BridgeState("db", f"br{n}", n + 1, f"n{n}", interfaces=tuple(interfaces))))
    world.cluster()
    return world


def test_a_change_has_only_the_bridges_that_it_concerns_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = large(bridges=8, ports=20)
    views = IncrementalViews(world.core)
    read: list[str] = []

    def spy(core: Reconciler, name: BridgeName, part: Iterable[PodBinding]) -> dict[Key, PodView]:
        read.append(name[1])
        return pods_on(core, name, part)

    monkeypatch.setattr(incremental, "pods_on", spy)

    def pods() -> None:
        state = views.state()
        views.switches(state)
        views.pods(state)

    pods()
    assert sorted(read) == [f"br{n}" for n in range(8)]
    read.clear()
    pods()
    assert read == []
    world.pods[Key("x", "p3-1")] = world.pods[Key("x", "p3-1")]._replace(addresses=(parse_address("10.3.9.9"),))
    world.cluster()
    pods()
    assert read == ["br3"]


def test_a_world_is_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incremental, "ITEMS_PER_READ", 10)
    world = large(bridges=2, ports=45)
    for n in range(35):
        world.policies[Key("x", f"q{n:02}")] = policy(f"q{n:02}", SPECS[n % 3])
    world.cluster()
    views = IncrementalViews(world.core)
    sizes: list[int] = []

    def spy(core: Reconciler, name: BridgeName, part: Collection[PodBinding]) -> dict[Key, PodView]:
        sizes.append(len(part))
        return pods_on(core, name, part)

    monkeypatch.setattr(incremental, "pods_on", spy)
    state = views.state()
    views.switches(state)
    before = world.core.reads
    assert len(views.pods(state)) == 90
    assert sizes == [10, 10, 10, 10, 5] * 2
    assert world.core.reads == before + 10, "the core gets its turn after each part"
    assert len(views.policies(state)) == 35


@pytest.mark.parametrize("ports", [50, 500])
def test_reading_the_pods_of_a_bridge_takes_a_step_a_port(ports: int) -> None:
    world = large(bridges=1, ports=ports)
    bridge = next(iter(world.core.core.world.bridges.values()))
    steps = 0

    class Ports(tuple):  # type: ignore[type-arg]
        """Counts how many interfaces are looked at."""

        def __iter__(self) -> Any:
            nonlocal steps
            for one in tuple.__iter__(self):
                steps += 1
                yield one

    world.core.core.world.bridges["db", "br0"] = replace(bridge, interfaces=Ports(bridge.interfaces))
    assert len(pod_views(world.core.core)) == ports
    assert steps <= 5 * ports


def test_whoever_asks_while_the_core_is_busy_gets_the_last_value() -> None:
    world = large(bridges=2, ports=3)
    cache = StatusCache(world.core, Metrics("1", "native"), lambda: 0)
    world.core.handled = cache.handled
    cache.start()
    try:
        first = cache.fresh(10)
        assert len(first.pods) == 6
        assert cache.fresh(10) is first, "nothing has happened, nothing is read"
        cluster = world.core.core.world.cluster
        assert cluster is not None
        world.core.send(ClusterChanged(cluster, (Problem("f1", "", "", "odd"),), 9, ()))
        with world.core.lock:
            assert cache.fresh(0.05) is first
        second = cache.fresh(10)
        assert [problem.where for problem in second.problems] == ["f1"]
        assert second.pods is first.pods, "what did not change is kept"
    finally:
        cache.stop()


def test_gauges_follow_and_go_with_their_switch() -> None:
    world = large(bridges=2, ports=3)
    metrics = Metrics("1", "native")
    cache = StatusCache(world.core, metrics, lambda: 7, away_reasons=lambda: {("db", "br0"): "refused"})
    world.core.handled = cache.handled
    value = metrics.registry.get_sample_value
    cache._set_gauges()
    assert value("headgate_pods") == 6
    assert value("headgate_policies_unrealized") == 0, "as long as switches are behind, policies are counted"
    assert (value("headgate_desired_flows", {"node": "n1", "bridge": "br1"}) or 0) > 0
    first = {"node": "n0", "bridge": "br0"}
    assert value("headgate_switch_away", {**first, "reason": "refused"}) == 1
    assert value("headgate_switch_away", {"node": "n1", "bridge": "br1", "reason": "waiting"}) == 1
    world.core.send(BridgeGone("db", "br1"))
    world.core.connect(1, 5)
    cache._set_gauges()
    assert value("headgate_desired_flows", {"node": "n1", "bridge": "br1"}) is None
    assert value("headgate_pods") == 3
    assert value("headgate_openflow_sessions") == 1
    assert value("headgate_switch_connected", first) == 1
    assert b"headgate_switch_away{" not in generate_latest(metrics.registry)
