"""Whatever raises below the reconciler concerns one object, port, bridge or switch; all others are as if it had not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.reconcile.events import BridgeChanged, BridgeGone, ClusterChanged, Event, OvsdbState, SwitchUp, Tick
from controller.reconcile.port_marks import PortLedger
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.switch import Switch
from flows.bridge import binding, bridges_of_pods
from flows.bridge.reader import BindingReader
from flows.bridge.state import BridgeState
from flows.cluster.model import (
    Cluster,
    Direction,
    Key,
    Namespace,
    Node,
    Operator,
    Peer,
    Pod,
    Policy,
    Requirement,
    Rule,
    Selector,
)
from flows.cluster.net import parse_address
from flows.plan import bridge_plan
from flows.plan.bridge_plan import BridgePlan
from flows.plan.encoder import FlowEncoder
from flows.plan.pod_ports import PodPorts
from flows.plan.rule_distribution import RuleDistributor
from flows.plan.rules import BridgeRules
from flows.plan.world import World
from flows.policy.engine import PolicyEngine
from flows.policy.rule_numbers import RuleNumbers
from flows.policy.rule_sets import RuleSets
from tests.flows.plan.test_incremental import full
from tests.helpers.controller.reconcile_driver import Driver, port

NODES = ("n1", "n2", "n3")
BAD_POD, BAD_POLICY = Key("x", "n1-0"), Key("x", "bad")
BOTH = frozenset(Direction)


class Oops(Exception):
    """An injected fault."""


def pod(node: str, number: int, role: str) -> Pod:
    address = parse_address(f"10.0.{NODES.index(node)}.{number + 1}")
    return Pod(Key("x", f"{node}-{number}"), {"role": role}, node, "", (address,))


def selector(role: str) -> Selector:
    return Selector((Requirement("role", Operator.IN, (role,)),))


def policy(name: str, role: str) -> Policy:
    rule = Rule((Peer(pods=selector(role)),))
    return Policy(Key("x", name), isolates=BOTH, ingress=(rule,), egress=(rule,))


PODS = {one.key: one for one in (pod(node, number, "ab"[number % 2]) for node in NODES for number in range(3))}
CLUSTER = Cluster(
    namespaces={"x": Namespace("x", {"ns": "x"})},
    pods=MappingProxyType(PODS),
    nodes={node: Node(node, (parse_address(f"10.9.0.{number}"),)) for number, node in enumerate(NODES, 1)},
    policies={one.key: one for one in (policy("allow", "a"), policy("bad", "b"))},
)
# The first differs from the others in its datapath type.
BRIDGES = {
    ("db", f"br-{node}"): BridgeState(
        "db", f"br-{node}", number, node, datapath_type="system" if number == 1 else "netdev",
        interfaces=tuple(
            port(f"{node}-p{n}", n + 1, f"x/{node}-{n}", **{"attached-mac": f"02:00:00:00:0{number}:0{n}"})
            for n in range(3)
        ),
    )
    for number, node in enumerate(NODES, 1)
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """Where something raises, when, and what the world is like without what it concerns.

    `culprit` says whether a call is one that raises; `spares` what the other bridges' flows then equal.
    """

    owner: Any
    name: str
    culprit: Callable[..., bool]
    spares: Callable[[Cluster], Cluster] = lambda cluster: cluster

    def __repr__(self) -> str:
        return f"{getattr(self.owner, '__name__', self.owner)}.{self.name}"


def without_pod(cluster: Cluster) -> Cluster:
    return replace(cluster, pods={key: one for key, one in cluster.pods.items() if key != BAD_POD})


def with_closed_policy(cluster: Cluster, *names: Key) -> Cluster:
    closed = {
        key: cluster.policies[key]._replace(ingress=(), egress=())
        for key in names or (BAD_POLICY,)
        if key in cluster.policies
    }
    return replace(cluster, policies={**cluster.policies, **closed})


def of_first(plan: Any, *_: object) -> bool:
    return not plan.userspace


FAULTS = (
    Fault(binding, "_read_port", lambda interface, *_: interface.name.startswith("n1")),
    Fault(FlowEncoder, "pod", lambda _, one, *__: one.pod == BAD_POD),
    Fault(bridge_plan, "render_bridge", lambda _, binding: not binding.userspace),
    Fault(BridgePlan, "update", of_first),
    Fault(BridgePlan, "isolate", of_first),
    Fault(BridgePlan, "take", of_first),
    Fault(BridgeRules, "enter", of_first),
    Fault(BridgeRules, "leave", of_first),
    Fault(BridgeRules, "put", of_first),
    Fault(BridgeRules, "remove", of_first),
    Fault(BridgeRules, "update_peers", of_first),
    Fault(BridgeRules, "forget", of_first),
    Fault(BridgeRules, "_add_flows", of_first),
    Fault(BridgeRules, "_remove_flows", of_first),
    Fault(BridgeRules, "take", of_first),
    Fault(BindingReader, "read", lambda _, bridge, *__: bridge.node == "n1"),
    Fault(PolicyEngine, "put_pod", lambda _, one: one.key == BAD_POD, without_pod),
    Fault(
        PolicyEngine, "put_policy", lambda _, one: one.key == BAD_POLICY and bool(one.ingress), with_closed_policy
    ),
    Fault(
        PolicyEngine, "_compute", lambda _, live: any(ref.policy == BAD_POLICY for ref in live.owners),
        with_closed_policy,
    ),
    Fault(Switch, "next_commands", lambda switch, *_: switch.dpid == 1),
    Fault(Switch, "on_flows_dumped", lambda switch, *_: switch.dpid == 1),
    Fault(Switch, "on_bundle_done", lambda switch, *_: switch.dpid == 1),
    Fault(PortLedger, "marks_to_write", lambda _, bridge, *__: bridge.node == "n1"),
)  # fmt: skip
# These concern no bridge, object or switch in particular.
ONCE = (
    Fault(World, "set_cluster", lambda *_: True),
    Fault(World, "set_bridge", lambda *_: True),
    Fault(World, "_update_once", lambda *_: True),
    Fault(PolicyEngine, "compute_changes", lambda *_: True),
    Fault(PolicyEngine, "load", lambda *_: True),
    Fault(PolicyEngine, "isolated", lambda *_: True),
    Fault(PolicyEngine, "subjects_of", lambda *_: True),
    Fault(PolicyEngine, "_number", lambda *_: True),
    Fault(PolicyEngine, "_replace", lambda *_: True),
    Fault(RuleSets, "acquire", lambda *_: True),
    Fault(RuleSets, "release", lambda *_: True),
    Fault(RuleSets, "propagate", lambda *_: True),
    Fault(RuleNumbers, "add", lambda *_: True),
    Fault(RuleNumbers, "remove", lambda *_: True),
    Fault(PodPorts, "move", lambda *_: True),
    Fault(PodPorts, "take_reported", lambda *_: True),
    Fault(RuleDistributor, "distribute", lambda *_: True),
    Fault(PortLedger, "update_bridge", lambda *_: True),
    Fault(Switch, "set_desired", lambda *_: True),
    Fault(Switch, "on_switch_up", lambda *_: True),
    Fault(Reconciler, "_mark_ports", lambda *_: True),
    Fault(bridges_of_pods, "pod_of_interface", lambda *_: True),
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("label"), st.sampled_from(sorted(PODS)), st.sampled_from("ab")),
        st.tuples(st.just("remove"), st.sampled_from(sorted(PODS)), st.just("")),
        st.tuples(st.just("policy"), st.sampled_from(["allow", "bad", "more"]), st.sampled_from("ab-")),
        st.tuples(st.just("bridge"), st.sampled_from(sorted(BRIDGES)), st.sampled_from(["less", "all", "moved"])),
        st.tuples(st.just("again"), st.sampled_from([1, 2, 3]), st.just("")),
    ),
    max_size=6,
)


class Play:
    """A reconciler with three switches, led through steps while something raises."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.cluster = CLUSTER
        self.bridges = dict(BRIDGES)
        self.session = 1

    def start(self) -> None:
        """Everything comes, one after the other."""
        for bridge in self.bridges.values():
            self.driver.send(BridgeChanged(bridge))
        self.driver.sync()
        for bridge in self.bridges.values():
            self.driver.connect(bridge.dpid)
        self.driver.send(ClusterChanged(self.cluster))

    def step(self, what: str, which: Any, how: str) -> None:
        """One change."""
        event: Event
        if what in ("label", "remove", "policy"):
            self.cluster = self._changed(what, which, how)
            event = ClusterChanged(self.cluster)
        elif what == "bridge":
            whole = BRIDGES[which]
            moved = tuple(replace(one, ofport=(one.ofport or 0) + 10) for one in whole.interfaces)
            ports = {"less": whole.interfaces[1:], "all": whole.interfaces, "moved": moved}[how]
            self.bridges[which] = replace(whole, interfaces=ports)
            event = BridgeChanged(self.bridges[which])
        else:
            self.session += 1
            event = SwitchUp(which, self.session)
        self.driver.send(event)

    def _changed(self, what: str, which: Any, how: str) -> Cluster:
        if what == "policy":
            rules = {**self.cluster.policies, Key("x", which): policy(which, how)}
            return replace(self.cluster, policies={k: one for k, one in rules.items() if how != "-" or k.name != which})
        pods = {key: one for key, one in self.cluster.pods.items() if key != which}
        if what == "label":
            pods[which] = PODS[which]._replace(labels={"role": how})
        return replace(self.cluster, pods=pods)

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes."""
        self.driver.now += seconds
        self.driver.send(Tick())

    def check(self, spared: Cluster, *bridges: tuple[str, str]) -> None:
        """These bridges' switches have what the full computation says."""
        expected, _, _ = full(spared, self.bridges)
        for name in bridges:
            assert self.driver.switches[BRIDGES[name].dpid].flows == expected[name], name


def armed(patch: pytest.MonkeyPatch, fault: Fault, times: int) -> list[int]:
    """Let it raise so many times; what is returned counts down."""
    real, left = getattr(fault.owner, fault.name), [times]

    def raising(*arguments: Any, **named: Any) -> Any:
        if left[0] and fault.culprit(*arguments, **named):
            left[0] -= 1
            raise Oops(fault.name)
        return real(*arguments, **named)

    patch.setattr(fault.owner, fault.name, raising)
    return left


def count_calls(patch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    """A list that has an entry more for each call."""
    real, calls = getattr(owner, name), list[int]()

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)

    patch.setattr(owner, name, counted)
    return calls


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=STEPS, during=STEPS, after=STEPS)
def test_what_keeps_raising_concerns_nobody_else(
    fault: Fault, before: list[Any], during: list[Any], after: list[Any]
) -> None:
    play = Play()
    play.start()
    for step in before:
        play.step(*step)
    others = sorted(BRIDGES)[1:]
    with pytest.MonkeyPatch.context() as patch:
        armed(patch, fault, 1 << 30)
        for step in during:
            play.step(*step)
            play.tick()
            if (
                fault.spares is not with_closed_policy
                or play.driver.core.world.rejected.reasons
                or fault.name == "_compute"
            ):
                play.check(_spared(play, fault), *others)
    for step in after:
        play.step(*step)
    # What was rejected changes once more, so that it is tried again; failed bridges and switches are by themselves.
    play.step("policy", "bad", "-")
    play.step("policy", "bad", "b")
    play.step("remove", BAD_POD, "")
    play.step("label", BAD_POD, "a")
    play.step("bridge", ("db", "br-n1"), "moved")
    play.step("bridge", ("db", "br-n1"), "less")
    play.step("bridge", ("db", "br-n1"), "all")
    for _ in range(4):
        play.tick(70.0)
    play.check(play.cluster, *BRIDGES)
    assert not list(play.driver.core.contained_problems())


def _spared(play: Play, fault: Fault) -> Cluster:
    """The cluster without what the fault has met by now."""
    core = play.driver.core
    if fault.name == "_compute":
        # A rule that several policies share is the same rule.
        failed = {ref.policy for ref in core.world.engine.failures}
        return with_closed_policy(play.cluster, *failed) if failed else play.cluster
    return fault.spares(play.cluster) if core.world.rejected.reasons else play.cluster


@pytest.mark.parametrize("fault", [*FAULTS, *ONCE], ids=repr)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, times=st.integers(1, 2), skipped=st.integers(0, 3))
def test_what_raises_once_is_made_good(fault: Fault, steps: list[Any], times: int, skipped: int) -> None:
    play = Play()
    if skipped:
        play.start()
    for step in steps[:skipped]:
        play.step(*step)
    with pytest.MonkeyPatch.context() as patch:
        armed(patch, fault, times)
        if not skipped:
            play.start()
        for step in steps[skipped:]:
            play.step(*step)
        # What was rejected is tried again when it changes.
        for role in "bab":
            play.step("remove", BAD_POD, "")
            for name in sorted(BRIDGES):
                play.step("bridge", name, "moved")
                play.step("bridge", name, "all")
            play.step("policy", "bad", role)
            play.step("policy", "allow", "b")
            play.step("label", BAD_POD, role)
        play.driver.sync()
        for dpid in (1, 2, 3):
            play.session += 1
            play.driver.connect(dpid, play.session)
        for _ in range(4):
            play.tick(70.0)
    play.check(play.cluster, *BRIDGES)


def test_one_event_that_fails_among_thousands_starts_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    play.start()
    started = count_calls(monkeypatch, World, "start_over")
    broken = Fault(World, "set_bridge", lambda _, bridge, *__: bridge.name == "br-bad")
    armed(monkeypatch, broken, 1 << 30)
    bad = BridgeState("db", "br-bad", 9, "n9")
    events: list[Event] = [OvsdbState("db", True) for _ in range(2000)]
    events[700] = BridgeChanged(bad)
    play.driver.send(*events)
    assert len(started) == 1
    assert [p.key for p in play.driver.core.contained_problems()] == ["bridge br-bad at db"]
    play.tick()
    play.check(play.cluster, *BRIDGES)
    monkeypatch.undo()
    play.driver.send(BridgeChanged(bad))
    assert not list(play.driver.core.contained_problems())


def test_where_events_fail_together_they_are_taken_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    play.start()
    started = count_calls(monkeypatch, Reconciler, "start_over")

    def planned(core: Reconciler, now: float) -> None:
        if ("db", "br-bad") in core.world.bridges:
            core.world.remove_bridge(("db", "br-bad"))
            raise Oops
        plan(core, now)

    plan = Reconciler._update_plans
    monkeypatch.setattr(Reconciler, "_update_plans", planned)
    events: list[Event] = [BridgeChanged(replace(BRIDGES["db", "br-n2"], ovs_version=str(n))) for n in range(500)]
    events[200] = BridgeChanged(BridgeState("db", "br-bad", 9, "n9"))
    play.driver.send(*events)
    assert len(started) == 2
    assert "bridge br-bad at db" in play.driver.core.contained_errors.reasons
    play.bridges["db", "br-n2"] = replace(BRIDGES["db", "br-n2"], ovs_version="499")
    play.tick()
    play.check(play.cluster, *BRIDGES)


def test_a_snapshot_with_one_bad_object_is_taken_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    armed(monkeypatch, Fault(PolicyEngine, "put_policy", lambda _, one: one.key == BAD_POLICY), 2)
    play = Play()
    play.start()
    play.check(with_closed_policy(play.cluster), *BRIDGES)
    (problem,) = play.driver.core.contained_problems()
    assert problem.key == "NetworkPolicy x/bad" and "Oops" in problem.reason
    play.step("policy", "bad", "a")
    play.check(play.cluster, *BRIDGES)
    assert not list(play.driver.core.contained_problems())


def test_a_policy_that_cannot_even_be_selected_by_closes_its_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    some = selector("a")
    only = Policy(BAD_POLICY, some, BOTH, (Rule(),), (Rule(),))
    cluster = replace(CLUSTER, policies={only.key: only})
    armed(monkeypatch, Fault(PolicyEngine, "put_policy", lambda _, one: one.subjects == some), 1 << 30)
    play = Play()
    play.cluster = cluster
    play.start()
    closed = Policy(BAD_POLICY, isolates=BOTH)
    play.check(replace(cluster, policies={only.key: closed}), *BRIDGES)


def test_a_port_whose_flows_cannot_be_made_stays_shut_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    armed(monkeypatch, FAULTS[1], 1 << 30)
    play = Play()
    play.start()
    name = "db", "br-n1"
    reading = play.driver.core.world.binding(name)
    assert [one.pod.name for one in reading.binding.pods] == ["n1-1", "n1-2"]
    assert ["its packets are dropped" in one.reason for one in reading.problems if one.interface == "n1-p0"] == [True]
    without = replace(BRIDGES[name], interfaces=BRIDGES[name].interfaces[1:])
    admitted = {key for key in play.driver.switches[1].flows if key[0] == 0}
    assert admitted == {key for key in full(play.cluster, {name: without})[0][name] if key[0] == 0}
    assert {"uuid-n1-p0": True} not in play.driver.marks


def test_a_bridge_that_cannot_be_planned_keeps_what_its_switch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    play.start()
    play.step("label", BAD_POD, "b")
    before = dict(play.driver.switches[1].flows)
    with pytest.MonkeyPatch.context() as patch:
        armed(patch, FAULTS[3], 1 << 30)
        play.step("bridge", ("db", "br-n1"), "less")
        for _ in range(3):
            play.tick(70.0)
        assert play.driver.switches[1].flows == before
        assert "cannot be planned" in play.driver.core.world.failures["db", "br-n1"].reason
        assert not play.driver.core.switches[1].realized
    play.tick(70.0)
    play.check(play.cluster, *BRIDGES)


def test_what_goes_is_not_missed() -> None:
    play = Play()
    play.start()
    for name in BRIDGES:
        play.driver.send(BridgeGone(*name))
    assert not play.driver.core.world.bridges
