"""Bundles of nothing but what pods learned, which a switch may take in part: nothing else ever is in one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.events import ClusterChanged
from controller.reconcile.port_marks import PortLedger
from controller.reconcile.reconciler import DNS_MIN_TTL
from flows.bridge.state import Binding, BridgeState
from flows.cluster.model import (
    Action,
    ClusterPolicy,
    ClusterRule,
    DomainPeer,
    Key,
    Peer,
    Policy,
    Subject,
)
from flows.cluster.net import parse_address
from flows.openflow import match_fields as oxm
from flows.pipeline.registers import INITIATOR_OFPORT, SOURCE_OFPORT
from flows.pipeline.tables import ADMIN_EGRESS, NAMES
from flows.policy import flow_limits
from flows.wire.codec import decode_flow
from flows.wire.values import WireFlow
from tests.controller.reconcile.test_held_answers import POLICY, A, B, Holding, cluster
from tests.helpers.cluster.model_objects import block, cluster_policy, cluster_rule, labels, policy, rule

NARROW = POLICY._replace(egress=(ClusterRule(Action.ACCEPT, (DomainPeer("w1.example.com"),)),))
ROOM = 12  # flows of rules, of those in force and of those of tiers


def is_of_names(flow: WireFlow) -> bool:
    """Whether a flow remembers an address, or lets one pod connect to one."""
    fields = {term.field for term in decode_flow(flow).match}
    if flow.table == NAMES.number:
        return fields >= {SOURCE_OFPORT.register, oxm.IPV4_DST}
    return flow.table == ADMIN_EGRESS.number and fields >= {INITIATOR_OFPORT.register, oxm.CT_NW_DST}


def blocks(count: int) -> list[Peer]:
    return [block(f"198.51.{2 * number}.0/24") for number in range(count)]


@dataclass
class Policies:
    """What the cluster's policies are: that with names, and how many address blocks the others have (0: no policy)."""

    names: ClusterPolicy | None = POLICY
    plain: int = 0
    staged: int = 0
    tier: int = 0
    addresses: dict[Key, str] = field(default_factory=dict)

    def event(self) -> ClusterChanged:
        found = cluster(self.names)
        of_tiers = dict(found.cluster_policies)
        if self.tier:
            more = cluster_policy(
                "more", Subject(labels(ns="x")), egress=[cluster_rule("Accept", *blocks(self.tier))], priority=20
            )
            of_tiers[more.key] = more
        plain: dict[Key, Policy] = {}
        for name, count in (("plain", self.plain), ("staged", self.staged)):
            if count:
                one = policy(f"x/{name}", ingress=[rule(*blocks(count))])
                plain[one.key] = one.stage() if name == "staged" else one
        pods = dict(found.pods)
        for key, text in self.addresses.items():
            pods[key] = pods[key]._replace(addresses=(parse_address(text),))
        return ClusterChanged(replace(found, pods=pods, policies=plain, cluster_policies=of_tiers))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["answer", "answers", "wait", "names", "plain", "staged", "tier", "pod", "late", "commit", "refuse"]
        ),
        st.sampled_from([A, B]),
        st.integers(0, 3),
    ),
    max_size=30,
)


def take(found: Holding, policies: Policies, number: int, step: str, pod: Key, choice: int) -> None:
    if step.startswith("answer"):
        name = f"w{choice}.example.com"
        found.ask(pod, name, number)
        addresses = [f"192.0.2.{one}" for one in range(choice + 1)] if step == "answers" else ["192.0.2.9"]
        found.answer(pod, name, *addresses, number=number, ttl=choice)
    elif step == "wait":
        found.tick(DNS_MIN_TTL / 2)
    elif step == "late":
        found.late = found.late or []
    elif step == "commit":
        found.commit()
    elif step == "refuse":
        found.refused = {choice, choice + 1}
    else:
        if step == "names":
            policies.names = (None, POLICY, NARROW, POLICY)[choice]
        elif step == "pod":
            policies.addresses[pod] = f"10.0.1.{choice}"
        else:
            setattr(policies, step, choice * 4)
        found.send(policies.event())


def check(found: Holding) -> None:
    """Bundles of names alone have nothing else, and the switch ends with what is desired."""
    found.commit()
    found.refused.clear()
    for _ in range(3):
        found.tick(60)
    plan = found.core.world.plan_of(("db", "br-int"))
    assert plan is not None
    assert found.switches[1].flows == plan.flows
    for bundle in found.sent:
        assert not bundle.names_only or all(map(is_of_names, chain(*bundle.changes)))


@pytest.mark.parametrize("room", [flow_limits.MAX_BRIDGE_FLOWS, ROOM])
def test_bundles_of_names_alone_have_no_other_flows_and_may_be_refused_in_part(room: int) -> None:
    """`room`: for how many flows of rules. With little, rules are left out and come back."""

    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def run(steps: list[tuple[str, Key, int]]) -> None:
        found, policies = Holding(), Policies()
        for number, one in enumerate(steps):
            take(found, policies, number, *one)
        check(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_limits, "MAX_BRIDGE_FLOWS", room)
        patch.setattr(flow_limits, "MAX_TIER_FLOWS", room)
        run()


@pytest.mark.parametrize("left_out", ["plain", "staged", "tier", ""])
def test_what_is_left_out_for_want_of_room_stays_out_of_bundles_of_names(
    monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    """And answers go on to open their addresses."""
    monkeypatch.setattr(flow_limits, "MAX_BRIDGE_FLOWS", ROOM)
    monkeypatch.setattr(flow_limits, "MAX_TIER_FLOWS", ROOM)
    found, policies = Holding(), Policies()
    if left_out:
        setattr(policies, left_out, ROOM + 1)
        found.send(policies.event())
    plan = found.core.world.plan_of(("db", "br-int"))
    assert plan is not None
    out = {"plain": plan.namespaces_left_out, "staged": plan.rules.staged_left_out, "tier": plan.rules.closed_policies}
    assert {kind for kind, said in out.items() if said} == ({left_out} if left_out else set())
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.7")
    assert found.sent[-1].names_only
    check(found)


def test_what_is_on_its_way_and_is_not_wanted_any_more_is_undone_in_a_bundle_as_a_whole() -> None:
    """Until it is there, the switch differs in nothing from what is desired."""
    found, policies = Holding(), Policies()
    found.late = []
    for plain in (1, 0):
        policies.plain = plain
        found.send(policies.event())
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.7")
    check(found)


def test_an_answer_alone_gives_a_bundle_of_names_alone() -> None:
    found = Holding()
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.7")
    assert found.sent[-1].names_only
    assert not any(one.names_only for one in found.sent[:-1])


def test_an_answer_has_no_ports_looked_at_and_the_next_change_of_policy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    found, policies, looks = Holding(), Policies(), list[bool]()
    ledger = found.core.ports
    look = ledger.marks_to_write

    def noted(bridge: BridgeState, binding: Binding, realized: bool, now: float) -> dict[str, bool]:
        looks.append(realized)
        return look(bridge, binding, realized, now)

    monkeypatch.setattr(PortLedger, "marks_to_write", lambda _, *arguments: noted(*arguments))
    found.send(policies.event())
    policies.plain = 1
    found.send(policies.event())
    assert looks[-1], "the switch has the policy"
    looks.clear()
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.7")
    assert found.sent[-1].names_only
    assert not looks
    found.late, policies.plain = [], 2
    found.send(policies.event())
    assert looks
    assert not looks[-1]
    found.ask(A, "w2.example.com", 2)
    found.answer(A, "w2.example.com", "192.0.2.8", number=2)
    found.commit()
    assert looks[-1], "although what came last was an answer"
