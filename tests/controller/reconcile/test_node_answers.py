"""Addresses that a node answers for count as the node's on its own switch only, and never take a pod's address."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.reconcile.commands import Command, DumpFlows, ProbeNode
from controller.reconcile.events import ClusterChanged, Event, FlowsDumped, NodeAnswered, SwitchDown
from controller.reconcile.meters import MeterReport
from controller.status.reference import switch_views
from flows.bridge.external_ids import MAX_NODE_ADDRESSES
from flows.bridge.state import Binding, BridgeState, InterfaceState
from flows.cluster.model import Cluster, Key, Node, Pod
from flows.cluster.net import Net, parse_address
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Load
from flows.openflow.port_numbers import LOCAL_16, LOCAL_32
from flows.pipeline import tables
from flows.pipeline.registers import OUTPUT_OFPORT, PROBE_MAC
from flows.policy.rule import NodePolicy
from flows.render.reference import render
from tests.flows.plan.test_pieces import views
from tests.helpers.controller.reconcile_driver import Driver, port

METERS = MeterReport(1000, {}, {})
NODE, MORE, CACHE, REMOTE, REMOTE_NODE = (
    parse_address(text) for text in ("10.0.0.254", "10.0.0.77", "169.254.20.10", "10.0.1.1", "10.0.1.254")
)
A, B = Key("x", "a"), Key("x", "b")


class Asking(Driver):
    """Two nodes whose switches have meters; what is asked of them again is kept."""

    def __init__(self) -> None:
        super().__init__(["n1", "n2"])
        self.asked: list[ProbeNode] = []
        for number in (1, 2):
            self.bridge(bridge(number, port(f"p{number}", 1, f"x/{'ab'[number - 1]}")))
        self.sync("n1", "n2")
        for number in (1, 2):
            self.connect(number)
        self.send(ClusterChanged(cluster()))

    def _answer(self, command: Command) -> list[Event]:
        if isinstance(command, ProbeNode):
            self.asked.append(command)
            return []
        answers = super()._answer(command)
        if isinstance(command, DumpFlows):
            return [replace(one, meters=METERS) for one in answers if isinstance(one, FlowsDumped)]
        return answers

    def answered(self, number: int = 1) -> set[Net]:
        """What counts on a switch, by its plan."""
        plan = self.core.world.plan_of((f"n{number}", "br-int"))
        assert plan is not None
        assert (
            plan.binding.confirmed_addresses
            == self.core.world.binding((f"n{number}", "br-int")).binding.confirmed_addresses
        )
        assert plan.binding.confirmed_addresses is not None
        return set(plan.binding.confirmed_addresses)


def bridge(number: int, *ports: InterfaceState) -> BridgeState:
    local = InterfaceState(f"local-{number}", "br-int", 0xFFFE, f"02:00:00:00:00:f{number}")
    return BridgeState(
        f"n{number}", "br-int", number, f"n{number}", datapath_type="netdev", interfaces=(local, *ports)
    )  # fmt: skip


def cluster(*more: Net) -> Cluster:
    pods = {
        A: Pod(A, node="n1", addresses=(parse_address("10.0.0.1"),)),
        B: Pod(B, node="n2", addresses=(REMOTE, *more)),
    }
    return Cluster(pods=pods, nodes={"n1": Node("n1", (NODE,)), "n2": Node("n2", (REMOTE_NODE,))})


def test_what_the_node_answers_for_counts_on_its_switch_alone() -> None:
    found = Asking()
    before = {number: dict(found.switches[number].flows) for number in (1, 2)}
    found.send(NodeAnswered(1, 1, (MORE, CACHE)))
    assert found.answered() == {MORE, CACHE}
    assert switch_views(found.core, 0.0)[0].answered == (str(MORE), str(CACHE))
    assert found.switches[2].flows == before[2]
    assert before[1].items() < found.switches[1].flows.items()
    # Answers of another session or an unknown switch are ignored.
    found.send(NodeAnswered(1, 7, ()), NodeAnswered(9, 1, (MORE,)))
    assert found.answered() == {MORE, CACHE}
    found.send(NodeAnswered(1, 1, ()))
    assert found.switches[1].flows == before[1]


def test_a_node_that_lies_gains_nothing_of_others() -> None:
    """Whatever it says: the address of a pod is the pod's, wherever it is, and other switches have what they had."""
    found = Asking()
    before = dict(found.switches[2].flows)
    lies = [REMOTE, parse_address("10.0.0.1"), REMOTE_NODE, parse_address("0.0.0.0"), parse_address("224.0.0.1")]
    found.send(NodeAnswered(1, 1, tuple(lies)))
    assert found.answered() == {REMOTE_NODE}
    assert found.switches[2].flows == before
    found.send(NodeAnswered(1, 1, (MORE, *(parse_address(f"10.9.0.{n}") for n in range(1, 200)))))
    assert len(found.answered()) == MAX_NODE_ADDRESSES
    found.send(NodeAnswered(1, 1, (MORE,)), ClusterChanged(cluster(MORE)))
    assert found.answered() == set()
    found.send(ClusterChanged(cluster()))
    assert found.answered() == {MORE}


def test_a_new_session_asks_again_for_what_was_believed() -> None:
    found = Asking()
    found.send(NodeAnswered(1, 1, (MORE,)))
    found.send(SwitchDown(1, 1))
    assert found.asked == []
    found.connect(1, 2)
    assert found.asked == [ProbeNode(1, 2, (MORE,))]
    assert found.answered() == {MORE}
    flows = dict(found.switches[1].flows)
    found.core.start_over()
    found.send(ClusterChanged(cluster()))
    assert found.switches[1].flows == flows
    found.send(NodeAnswered(1, 2, ()))
    assert found.answered() == set()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(views(), st.booleans())
def test_asking_takes_nothing_away(view: Binding, userspace: bool) -> None:
    """The flows are those without it, and more: for what the node sends, for replies to it, and for the asker alone."""
    view = replace(view, userspace=userspace)
    policy = NodePolicy({}, ())
    without = {(f.table, f.priority, f.match): f for f in render(replace(view, confirmed_addresses=None), policy)}
    with_it = {(f.table, f.priority, f.match): f for f in render(view, policy)}
    assert without.items() <= with_it.items()
    claimed = {net for pod in view.pods for net in pod.addresses}
    for key in with_it.keys() - without.keys():
        flow = with_it[key]
        terms = {term.field: term.value for term in flow.match}
        if flow.table == tables.CLASSIFY.number:
            assert terms.get(oxm.IN_PORT) == LOCAL_32 or terms == {oxm.ETH_DST: PROBE_MAC}
            if terms.get(oxm.ETH_DST) != PROBE_MAC:
                # Where a pod or the node has the address, a stronger flow says so.
                source = [terms.get(field) for field in (oxm.IPV4_SRC, oxm.IPV6_SRC)]
                for net in claimed & set(view.confirmed_addresses or ()):
                    if net.value in source:
                        drops = [f for f in without.values() if f.table == 0 and f.priority == 100 and not f.actions]
                        assert any(net.value in [term.value for term in f.match] for f in drops)
        elif flow.table == tables.DESTINATION.number:
            assert terms[oxm.ETH_DST] == view.local_mac
            assert Load(OUTPUT_OFPORT, LOCAL_16) in flow.actions
        else:
            assert flow.table == tables.DENY.number
