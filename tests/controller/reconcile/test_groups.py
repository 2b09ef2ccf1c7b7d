"""The groups of switches: those that are desired, whatever happens; nothing about groups where there are none."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.commands import Command, DumpFlows, FlushConnections, SendBundle
from controller.reconcile.events import FlowsDrifted
from controller.reconcile.group_state import MOST_STALE
from controller.reconcile.switch import Switch
from flows.cluster.net import Net
from flows.openflow.actions import Ct, Nat, NatKind, ToGroup
from flows.openflow.flow import Flow
from flows.openflow.group import Bucket, Group, NatTarget
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.group_numbers import group_id
from flows.pipeline.registers import SERVICE_ZONE
from flows.plan.bridge_groups import BridgeGroups
from flows.render.flow_set import FlowSet
from flows.render.service_endpoints import render_endpoints, translate
from flows.services.choice import Target
from flows.wire.codec import encode_flow
from flows.wire.groups import encode_group
from flows.wire.values import Body, FlowKey
from tests.helpers.controller.reconcile_driver import Driver, ValueSwitch

TCP, UDP = group_id(1), group_id(1, udp=True)
FOREIGN = 7
ZONE = 9


def body(number: int, *ports: int) -> bytes:
    """A group that translates to these ports of 10.0.0.1."""
    buckets = (Bucket((Ct(ZONE, 30, True, nat=Nat(NatKind.DESTINATION, 4, 0x0A000001, port)),)) for port in ports)
    return encode_group(Group(number, tuple(buckets))).body


def target(port: int) -> NatTarget:
    return NatTarget(ZONE, 4, 0x0A000001, port)


class OneSwitch:
    """A `Switch` with a switch that answers, and the plan that it gets."""

    def __init__(self, remote: ValueSwitch | None = None) -> None:
        self.switch = Switch(1)
        self.remote = remote or ValueSwitch(1)
        self.driver = Driver()
        self.driver.switches[1] = self.remote
        self.flows: dict[FlowKey, Body] = {}
        self.groups = BridgeGroups()
        self.revision = 0
        self.session = 1
        self.now = 0.0
        self.seen: list[Command] = []
        self.switch.on_switch_up(1)

    def want(self, wanted: Mapping[int, bytes]) -> None:
        """These groups, and a flow to each, are desired now; commands are answered until none is left."""
        before = dict(self.flows)
        for number in self.groups.desired.keys() - wanted.keys():
            self.groups.drop(number)
        for number, one in wanted.items():
            self.groups.put(number, one)
        self.flows.clear()
        for place, number in enumerate(sorted(wanted)):
            some = encode_flow(Flow(0, place, (), (ToGroup(number),), None, cookie(CookieKind.PIPELINE)))
            self.flows[some.key] = some.body
        changed = {key: before.get(key) for key in before.keys() | self.flows.keys()}
        self.revision += 1
        self.switch.set_groups(self.groups.desired, self.groups.take())
        self.switch.set_desired(self.flows, {k: b for k, b in changed.items() if self.flows.get(k) != b}, self.revision)
        self.run()

    def run(self, passed: float = 0.0) -> list[Command]:
        """Let time pass, and answer commands until none is left; returns them."""
        self.now += passed
        seen: list[Command] = []
        while commands := self.switch.next_commands(self.now, True):
            seen += commands
            for event in (event for command in commands for event in self.driver._answer(command)):
                kind = type(event).__name__
                if kind == "FlowsDumped":
                    self.switch.on_flows_dumped(event, self.now)  # type: ignore[arg-type]
                elif kind == "BundleDone":
                    self.switch.on_bundle_done(event, self.now)  # type: ignore[arg-type]
                elif kind == "BundleFailed":
                    self.switch.on_bundle_failed(event, self.now)  # type: ignore[arg-type]
                else:
                    self.switch.on_flush_refused(event)  # type: ignore[arg-type]
        self.seen += seen
        return seen

    def reconnect(self) -> None:
        self.session += 1
        self.switch.on_switch_up(self.session)

    @property
    def right(self) -> bool:
        ours = {number: one for number, one in self.remote.groups.items() if number != FOREIGN}
        return ours == self.groups.desired and self.remote.flows == self.flows and self.switch.realized


def test_nothing_is_asked_or_sent_about_groups_where_there_are_none() -> None:
    one = OneSwitch()
    one.remote.groups[FOREIGN] = body(FOREIGN, 1)
    some = encode_flow(Flow(0, 1, (), (), 5, cookie(CookieKind.PIPELINE)))
    one.flows[some.key] = some.body
    one.switch.set_groups(one.groups.desired, {})
    one.switch.set_desired(one.flows, {}, 1)
    seen = one.run() + one.run(61)
    assert one.remote.group_dumps == 0
    assert all(command.groups is None for command in seen if isinstance(command, DumpFlows))
    assert not any(command.groups for command in seen if isinstance(command, SendBundle))
    assert one.remote.groups.keys() == {FOREIGN}


def test_the_first_group_asks_once_what_is_there() -> None:
    one = OneSwitch()
    one.want({})
    assert one.remote.group_dumps == 0
    one.remote.groups[TCP] = body(TCP, 99)  # left by an earlier controller
    one.want({TCP: body(TCP, 80)})
    assert one.right
    assert one.remote.group_dumps == 1
    one.want({TCP: body(TCP, 80, 81)})
    assert one.right
    assert one.remote.group_dumps == 1


def test_groups_that_an_earlier_controller_left_go_with_their_flows() -> None:
    one = OneSwitch()
    one.want({TCP: body(TCP, 80), UDP: body(UDP, 53)})
    later = OneSwitch(one.remote)
    later.want({})
    assert later.right
    later.run(61)
    asked = one.remote.group_dumps
    later.run(61)
    later.run(61)
    assert one.remote.group_dumps <= asked + 1  # it is not asked for ever


def test_a_udp_endpoint_that_goes_has_its_connections_flushed_after_the_bundle() -> None:
    one = OneSwitch()
    one.want({UDP: body(UDP, 53, 54), TCP: body(TCP, 80, 81)})
    assert one.remote.flushed == []
    one.want({UDP: body(UDP, 53), TCP: body(TCP, 80)})
    assert one.remote.flushed == [target(54)]
    assert [type(command) for command in one.seen[-2:]] == [SendBundle, FlushConnections]
    one.want({})
    assert one.remote.flushed == [target(54), target(53)]
    one.run(61)
    assert len(one.remote.flushed) == 2


def test_an_endpoint_that_went_while_no_controller_was_there_is_flushed_too() -> None:
    one = OneSwitch()
    one.want({UDP: body(UDP, 53, 54)})
    later = OneSwitch(one.remote)
    later.want({UDP: body(UDP, 54)})
    assert later.right
    assert one.remote.flushed == [target(53)]


def test_very_many_endpoints_are_flushed_as_one_zone() -> None:
    one = OneSwitch()
    groups = {group_id(n, udp=True): body(group_id(n, udp=True), *range(n * 10 + 1, n * 10 + 11)) for n in range(200)}
    one.want(groups)
    one.want({})
    assert len(groups) * 10 > MOST_STALE
    assert one.remote.flushed == [NatTarget(ZONE, 0, 0, 0)]


def test_a_switch_that_cannot_flush_is_not_asked_again_in_that_session() -> None:
    one = OneSwitch()
    one.remote.no_flush = True
    one.want({UDP: body(UDP, 53, 54)})
    one.want({UDP: body(UDP, 53)})
    assert "cannot flush" in one.switch.groups.problem
    one.want({})
    assert sum(isinstance(command, FlushConnections) for command in one.seen) == 1
    assert one.right
    one.remote.no_flush = False
    one.reconnect()
    one.want({UDP: body(UDP, 53)})
    one.want({})
    assert one.remote.flushed == [target(53)]
    assert not one.switch.groups.problem


WANTED = st.dictionaries(st.sampled_from([TCP, UDP, group_id(2)]), st.sets(st.integers(1, 4), min_size=1), max_size=3)


@given(
    st.lists(st.one_of(WANTED, st.sampled_from(["again", "lost", "other", "more", "over", "flows lost"])), max_size=12)
)
@settings(max_examples=200, deadline=None)
def test_whatever_happens_the_groups_are_the_desired_ones(steps: list[dict[int, set[int]] | str]) -> None:
    one = OneSwitch()
    one.remote.groups[FOREIGN] = body(FOREIGN, 1)
    for step in steps:
        if isinstance(step, dict):
            one.want({number: body(number, *sorted(ports)) for number, ports in step.items()})
        elif step == "again":
            one.reconnect()
        elif step == "lost":
            one.remote.groups = {FOREIGN: body(FOREIGN, 1)}
            one.remote.flows.clear()
        elif step == "other":
            one.remote.groups |= {number: body(number, 99) for number in one.remote.groups}
        elif step == "more" and one.groups.desired:
            one.remote.groups[group_id(77)] = body(group_id(77), 1)
        elif step == "flows lost":
            one.remote.flows.clear()
            one.switch.on_flows_drifted(FlowsDrifted(1, one.session, removed=1), one.now)
        elif step == "over":
            one.switch.start_over()
            one.switch.set_groups(one.groups.desired, {})
            one.switch.set_desired(one.flows, {}, one.revision)
        for _ in range(3):
            one.run(61)
        if one.revision:
            assert one.right, (step, one.remote.groups, one.groups.desired)
        assert FOREIGN in one.remote.groups


def test_a_session_that_ends_within_a_bundle_is_dumped_with_its_groups() -> None:
    one = OneSwitch()
    one.want({TCP: body(TCP, 80)})
    one.groups.put(TCP, body(TCP, 81))
    one.switch.set_groups(one.groups.desired, one.groups.take())
    one.switch.set_desired(one.flows, {}, one.revision + 1)
    assert isinstance(one.switch.next_commands(one.now, True)[0], SendBundle)  # never answered
    one.reconnect()
    commands = one.switch.next_commands(one.now, True)
    assert isinstance(commands[0], DumpFlows)
    assert commands[0].groups == one.groups.desired


def want_endpoints(one: OneSwitch, number: int, *ports: int) -> None:
    """These ports of 10.0.0.1 are the endpoints of a port of a Service, each with a flow; no group is desired."""
    before = dict(one.flows)
    one.flows.clear()
    targets = [Target(Net(4, 0x0A000001, 32), port) for port in ports]
    render_endpoints(made := FlowSet(), number, targets, 60)
    one.flows.update((wire.key, wire.body) for wire in map(encode_flow, made.flows()))
    changed = {key: before.get(key) for key in before.keys() | one.flows.keys()}
    one.revision += 1
    one.switch.set_groups(one.groups.desired, one.groups.take())
    one.switch.set_desired(one.flows, {k: b for k, b in changed.items() if one.flows.get(k) != b}, one.revision)
    one.run()


def test_connections_to_an_endpoint_that_has_flows_are_flushed_alike() -> None:
    one = OneSwitch()
    want_endpoints(one, UDP, 53, 54, 55)
    want_endpoints(one, UDP, 52, 53, 55)  # all have another place now
    assert one.remote.flushed == [NatTarget(SERVICE_ZONE, 4, 0x0A000001, 54)]
    later = OneSwitch(one.remote)
    want_endpoints(later, UDP, 53, 55)
    assert later.right
    assert one.remote.flushed[1:] == [NatTarget(SERVICE_ZONE, 4, 0x0A000001, 52)]
    want_endpoints(later, TCP, 53, 55)
    assert len(one.remote.flushed) == 4
    want_endpoints(later, TCP, 53)
    assert len(one.remote.flushed) == 4


def test_a_port_that_comes_to_have_a_group_keeps_its_connections() -> None:
    one = OneSwitch()
    want_endpoints(one, UDP, 53, 54)
    buckets = tuple(Bucket((translate(Target(Net(4, 0x0A000001, 32), port)),)) for port in (53, 55))
    one.want({UDP: encode_group(Group(UDP, buckets)).body})
    assert one.right
    assert one.remote.flushed == [NatTarget(SERVICE_ZONE, 4, 0x0A000001, 54)]
    one.groups.drop(UDP)
    want_endpoints(one, UDP, 55)
    assert one.remote.flushed[1:] == [NatTarget(SERVICE_ZONE, 4, 0x0A000001, 53)]
