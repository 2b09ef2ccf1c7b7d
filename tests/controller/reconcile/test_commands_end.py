"""Every command ends: with its answer, with a failure, or by the reconciler's own timeout. Audits are spread."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from controller.reconcile.audit_pace import AUDIT_SECONDS
from controller.reconcile.commands import (
    DumpFlows,
    FlushConnections,
    KeepListening,
    ProbeNode,
    ReleasePackets,
    RequestRole,
    SendBundle,
)
from controller.reconcile.events import BridgeChanged, ClusterChanged, Event, FlowsDumped, SwitchUp, Tick
from controller.reconcile.meters import MeterChanges
from controller.reconcile.port_marks import REWRITE_MARK_SECONDS
from controller.reconcile.switch import COMMAND_SECONDS, LONGEST_RETRY_SECONDS, Switch
from controller.runtime import command_runner as carrier_module
from controller.runtime.command_runner import CommandRunner
from flows.bridge.connection_peer import ConnectionPeer
from flows.bridge.network import NodeNetwork
from flows.pipeline.priorities import CACHE_MARK
from flows.wire.values import FlowChanges, GroupChanges
from tests.controller.reconcile.test_reconciler import ALLOW, BRIDGE, DENY, cluster
from tests.helpers.controller.reconcile_driver import Driver, ValueSwitch

STEPS = ("dump", "send_bundle", "write_marks", "log")


def without_marks(changes: FlowChanges) -> FlowChanges:
    """The changes that are of what is desired: see `flows.render.cache_marks`."""
    adds, modifies, deletes = (tuple(flow for flow in some if flow.priority != CACHE_MARK) for some in changes)
    return FlowChanges(adds, modifies, deletes)


class Hands:
    """The shells that carry out commands. One step raises, or its answer is lost, so many times."""

    def __init__(self, driver: Driver, step: str, times: int, silent: bool) -> None:
        self.driver, self.step, self.left, self.silent = driver, step, times, silent
        self.events: list[Event] = []

    def fails(self, step: str) -> bool:
        """Whether this step goes wrong now; raises if it is to."""
        if step != self.step or not self.left:
            return False
        self.left -= 1
        if not self.silent:
            raise RuntimeError(step)
        return True

    def dump(self, command: DumpFlows) -> None:
        if not self.fails("dump"):
            self.events += self.driver._answer(command)

    def send_bundle(
        self,
        dpid: int,
        session: int,
        number: int,
        changes: FlowChanges,
        about_meters: MeterChanges,
        about_groups: GroupChanges,
        independent: bool,
    ) -> None:
        assert not independent, "no test here has names"
        if not self.fails("send_bundle"):
            sent = SendBundle(dpid, session, number, without_marks(changes), about_meters, groups=about_groups)
            self.events += self.driver._answer(sent)

    def flush_connections(self, command: FlushConnections) -> None:
        """No test here has groups."""

    def serve_peer(self, dpid: int, peer: ConnectionPeer) -> None:
        """No test here has certificates."""

    def forget(self, ovsdb: str) -> None:
        """No test here has managers."""

    def release_packets(self, command: ReleasePackets) -> None:
        """No test here holds packets."""

    def keep_listening(self, command: KeepListening) -> None:
        """No test here listens."""

    def ask_node(self, command: ProbeNode) -> None:
        """No node here was asked before."""

    def request_role(self, command: RequestRole) -> None:
        """No test here has replicas."""

    def write_to(self, ovsdbs: frozenset[str] | None, primary: frozenset[str]) -> None:
        """No test here has replicas."""

    def set_network(self, ovsdb: str, bridge: str, network: NodeNetwork | None) -> None:
        """No network here routes."""

    def write_marks(self, ovsdb: str, interfaces: Mapping[str, bool]) -> None:
        if not self.fails("write_marks"):
            self.driver.marks.append(dict(interfaces))


def run(hands: Hands, *events: Event) -> None:
    """Handle events, and carry out the commands that follow."""
    carrier = CommandRunner(hands, hands, hands.events.append, lambda dpid: {"dpid": f"{dpid:016x}"})
    waiting = list(events)
    while waiting:
        hands.events.clear()
        for command in hands.driver.core.handle(waiting, hands.driver.now):
            carrier.carry_out(command)
        waiting = list(hands.events)


@pytest.mark.parametrize("silent", [False, True], ids=["raises", "is lost"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_command_that_fails_anywhere_is_tried_again(
    step: str, silent: bool, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver()
    driver.switches[7] = ValueSwitch(7)
    hands = Hands(driver, step, times, silent)
    if step == "log":

        def broken(*_: object, **__: object) -> None:
            raise OSError("the log is full")

        monkeypatch.setattr(carrier_module.log, "info", broken, raising=False)
        monkeypatch.setattr(carrier_module.log, "exception", broken, raising=False)
    driver.sync()
    run(hands, BridgeChanged(BRIDGE), SwitchUp(7, 1), ClusterChanged(cluster(DENY)))
    for _ in range(2 * times + 1):
        driver.now += (
            max(COMMAND_SECONDS, REWRITE_MARK_SECONDS, LONGEST_RETRY_SECONDS) if silent else LONGEST_RETRY_SECONDS
        )
        run(hands, Tick())
    switch = driver.core.switches[7]
    assert switch.realized and switch.in_flight is None and not switch.dumping
    assert {"uuid-a0": True, "uuid-b0": True} in driver.marks


def test_after_starting_over_nothing_is_in_flight() -> None:
    driver = Driver()
    driver.switches[7] = ValueSwitch(7)
    driver.sync()
    lost = Hands(driver, "send_bundle", 1, silent=True)
    run(lost, BridgeChanged(BRIDGE), SwitchUp(7, 1), ClusterChanged(cluster(DENY)))
    assert driver.core.switches[7].in_flight is not None
    driver.core.start_over()
    assert driver.core.switches[7].in_flight is None and not driver.core.switches[7].dumping
    run(lost, Tick())
    assert driver.core.switches[7].realized


def test_an_answer_that_comes_after_all_changes_nothing() -> None:
    driver = Driver()
    driver.switches[7] = ValueSwitch(7)
    driver.sync()
    hands = Hands(driver, "dump", 1, silent=True)
    run(hands, BridgeChanged(BRIDGE), SwitchUp(7, 1), ClusterChanged(cluster(DENY)))
    number = driver.core.switches[7].dumps_sent
    driver.now += COMMAND_SECONDS
    run(hands, Tick())
    driver.now += LONGEST_RETRY_SECONDS
    run(hands, Tick())
    late = FlowsDumped(7, 1, number, {}, {}, 0)
    run(hands, late, ClusterChanged(cluster(DENY, ALLOW)))
    assert driver.core.switches[7].realized
    assert driver.core.world.plan_of(("db", "br-int")).flows == driver.switches[7].flows  # type: ignore[union-attr]


def test_a_switch_that_has_failed_for_days_is_still_tried_again() -> None:
    switch = Switch(1, session=1)
    switch.failures = 5000
    switch.fail("no", 10.0)
    assert switch.retry_at == 10.0 + LONGEST_RETRY_SECONDS


def test_switches_that_come_together_are_audited_at_times_of_their_own() -> None:
    times = []
    for dpid in range(0x1000, 0x1000 + 600):
        switch = Switch(dpid)
        switch.on_switch_up(1)
        switch.set_desired({}, {}, 1)
        (command,) = switch.next_commands(1000.0, may_send=True)
        assert isinstance(command, DumpFlows)
        switch.on_flows_dumped(FlowsDumped(dpid, 1, command.number, {}, {}, 0), 1000.0)
        times.append(switch.audit_at)
    assert all(1000.0 < time <= 1000.0 + AUDIT_SECONDS for time in times)
    seconds = [sum(int(time) == second for time in times) for second in range(1000, 1060)]
    assert max(seconds) <= 20, "600 switches in 60 seconds"
