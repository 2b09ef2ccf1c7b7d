"""Audits of all switches together read a bounded number of flows a second, however many switches there are."""

from __future__ import annotations

from itertools import pairwise

import pytest

from controller.reconcile.audit_pace import AUDIT_SECONDS, AUDITED_FLOWS, AuditPace
from controller.reconcile.commands import Command, DumpFlows
from controller.reconcile.events import FlowsDumped
from controller.reconcile.switch import Switch
from flows.wire.values import Body, FlowKey

SWITCHES = 20
HOURS = 2


@pytest.mark.parametrize("flows", [50, 20_000, 200_000])
def test_audits_read_a_bounded_share_and_leave_no_switch_out(flows: int) -> None:
    pace = AuditPace()
    switches = [Switch(dpid, pace=pace) for dpid in range(1, SWITCHES + 1)]
    audits: dict[int, list[float]] = {one.dpid: [] for one in switches}
    for one in switches:
        one.on_switch_up(1)
        one.set_desired(_Many(flows), {}, 1)
    for second in range(HOURS * 3600):
        for one in switches:
            for command in one.next_commands(float(second), may_send=False):
                _answer(one, command, float(second), audits)
    total, seconds = flows * SWITCHES, HOURS * 3600
    settled = [at for found in audits.values() for at in found if at > pace.interval]
    assert len(settled) * flows <= max(AUDITED_FLOWS, total / AUDIT_SECONDS) * seconds
    assert pace.interval < max(2 * AUDIT_SECONDS, total / AUDITED_FLOWS + AUDIT_SECONDS)
    for found in audits.values():
        gaps = [later - before for before, later in pairwise(found[2:])]
        assert gaps
        assert max(gaps) <= pace.interval + 1


def test_switches_that_are_not_served_do_not_count() -> None:
    pace = AuditPace()
    for dpid in range(10):
        pace.note(dpid, 1_000_000)
    assert pace.interval > 10 * AUDIT_SECONDS
    switch = Switch(3, pace=pace)
    switch.release("another replica serves it")
    for dpid in set(range(10)) - {3}:
        pace.note(dpid, 0)
    assert pace.interval == AUDIT_SECONDS


class _Many(dict[FlowKey, Body]):
    """As many flows as it says; nothing looks at them here."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __len__(self) -> int:
        return self._count


def _answer(switch: Switch, command: Command, now: float, audits: dict[int, list[float]]) -> None:
    assert isinstance(command, DumpFlows)
    audits[switch.dpid].append(now)
    switch.on_flows_dumped(FlowsDumped(switch.dpid, 1, command.number, {}, {}, 0), now)
