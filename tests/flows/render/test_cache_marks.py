"""Cache marks: which switches need them, and that a real switch deletes what it cached. See ADR 15."""

from __future__ import annotations

import re
import time

import pytest

from controller.reconcile.cache_marks import REPEAT_SECONDS
from flows.bridge.state import Binding
from flows.openflow.actions import Ct
from flows.pipeline.priorities import CACHE_MARK
from flows.pipeline.tables import CLASSIFY, check_flow
from flows.policy.rule import NodePolicy
from flows.render.cache_marks import ENTRANCES, MARK_COUNT, MarkUse, mark_flows, mark_use
from flows.render.reference import render
from flows.wire.text import format_flow
from tests.helpers.ovs.open_vswitch import Bridge, OpenVSwitch, open_vswitch

BATCH = 80  # packets that a port of the dummy datapath takes at a time
NARROW, WIDE = "10.1.2.2", "10.1.0.2"


@pytest.mark.parametrize(
    ("datapath", "version", "use"),
    [
        ("netdev", "3.1.0", MarkUse.MOVES),
        ("netdev", "3.1.2", MarkUse.MOVES),
        ("netdev", "3.1.3", MarkUse.STAYS),
        ("netdev", "2.17.7", MarkUse.MOVES),
        ("netdev", "2.17.8", MarkUse.STAYS),
        ("netdev", "2.16.9", MarkUse.MOVES),  # the error is older than all of these, and this series never got the fix
        ("netdev", "3.0.4", MarkUse.MOVES),
        ("netdev", "3.0.5", MarkUse.STAYS),
        ("netdev", "3.2.0", MarkUse.STAYS),
        ("netdev", "4.0.0", MarkUse.STAYS),
        ("netdev", "", MarkUse.MOVES),
        ("netdev", "three", MarkUse.MOVES),
        ("dummy", "3.1.0", MarkUse.MOVES),
        ("system", "3.1.0", MarkUse.NONE),
        ("", "3.1.0", MarkUse.NONE),
    ],
)
def test_which_switches_need_marks(datapath: str, version: str, use: MarkUse) -> None:
    assert mark_use(datapath, version) is use


def test_every_mark_looks_at_its_own_bit_above_all_other_flows() -> None:
    bits = set()
    for number in range(MARK_COUNT):
        flows = mark_flows(number)
        assert {flow.table for flow in flows} == {table.number for table in ENTRANCES}
        for flow in flows:
            check_flow(flow)
            assert flow.priority == CACHE_MARK
            assert not flow.actions
            assert flow.goto is None
            (term,) = flow.match
            assert term.value == term.mask
            bits.add(term.mask)
    assert bits == {1 << number for number in range(MARK_COUNT)}


def addresses(last: str) -> str:
    """The flow from which `netdev-dummy/receive` makes a TCP packet."""
    return (
        f"in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),"
        f"ipv4(src=10.0.0.1,dst={last},proto=6,tos=0,ttl=64,frag=no),tcp(src=1,dst=2),tcp_flags(0x010)"
    )


def cached(ovs: OpenVSwitch) -> dict[str, str]:
    """The cached megaflows: actions by destination."""
    said = ovs.appctl("dpctl/dump-flows").splitlines()
    return {found[1]: found[2] for line in said if (found := re.search(r"ipv4\(dst=([\d.]+)/.*actions:(.*)$", line))}


def replace(ovs: OpenVSwitch, bridge: Bridge, rule: str, mark: int | None) -> None:
    """Change the only rule in one bundle, with or without a mark."""
    marks = [f for f in mark_flows(mark) if f.table == CLASSIFY.number] if mark is not None else []
    lines = [rule, *(format_flow(flow) for flow in marks)]
    ovs.ofctl("--bundle", "replace-flows", bridge.target, "-", stdin="\n".join(lines))
    ovs.appctl("revalidator/wait")


def play(ovs: OpenVSwitch, marked: bool) -> dict[str, str]:
    """Two changes of one rule, with packets between them so that megaflows overlap; returns the megaflows then."""
    bridge = ovs.add_bridge("br0")
    bridge.add_ports({"p1": 1, "p2": 2})
    ovs.vsctl("set", "Interface", "p1", "type=dummy-pmd")  # whose thread sorts what it looks up by its use
    mark = iter(range(MARK_COUNT))
    replace(ovs, bridge, "table=0,in_port=1,ip,nw_dst=10.1.2.0/24,actions=output:2", next(mark) if marked else None)
    for _ in range(2):
        ovs.appctl("netdev-dummy/receive", "p1", addresses(NARROW))
    replace(ovs, bridge, "table=0,in_port=1,ip,nw_dst=10.1.0.0/16,actions=drop", next(mark) if marked else None)
    ovs.appctl("netdev-dummy/receive", "p1", addresses(WIDE))
    ovs.appctl("netdev-dummy/receive", "p1", addresses(NARROW))
    # The datapath puts the megaflows that are hit most first, once a second.
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        ovs.appctl("netdev-dummy/receive", "p1", addresses(WIDE))
    replace(ovs, bridge, "table=0,in_port=1,ip,nw_dst=10.1.0.0/16,actions=output:2", next(mark) if marked else None)
    return cached(ovs)


@pytest.mark.switch
def test_a_switch_deletes_what_it_cached_when_the_mark_moves() -> None:
    with open_vswitch() as ovs:
        assert "drop" not in play(ovs, marked=True).values()


def outdated(ovs: OpenVSwitch, connections: int, repeats: tuple[float, ...]) -> int:
    """New connections, then a change of their verdict in a bundle that moves the mark. Returns how many megaflows still
    have the old verdict shortly after the mark was last written: before the datapath's next look at all of them."""
    bridge = ovs.add_bridge("br0")
    bridge.add_ports({"p1": 1, "p2": 2})
    old, new = ([format_flow(f) for f in mark_flows(number) if f.table == CLASSIFY.number] for number in (0, 1))
    destinations = [f"10.1.{number // 256}.{number % 256}" for number in range(connections)]
    rules = [f"table=0,in_port=1,ip,nw_dst={one},actions=output:2" for one in destinations]
    ovs.ofctl("--bundle", "replace-flows", bridge.target, "-", stdin="\n".join([*rules, *old]))
    ovs.appctl("revalidator/wait")
    for first in range(0, connections, BATCH):
        ovs.appctl("netdev-dummy/receive", "p1", *map(addresses, destinations[first : first + BATCH]))
    ovs.ofctl("--bundle", "replace-flows", bridge.target, "-", stdin="\n".join(["table=0,actions=drop", *new]))
    for pause in repeats:
        time.sleep(pause)
        ovs.ofctl("--strict", "mod-flows", bridge.target, new[0])
    time.sleep(0.05)
    found = ovs.appctl("dpctl/dump-flows").splitlines()
    ovs.vsctl("del-br", "br0")
    return sum("actions:drop" not in line for line in found)


@pytest.mark.switch
@pytest.mark.parametrize("connections", [BATCH, 5 * BATCH])
def test_no_outdated_megaflow_stays_when_the_mark_is_written_again(connections: int) -> None:
    with open_vswitch() as ovs:
        assert [outdated(ovs, connections, REPEAT_SECONDS) for _ in range(5)] == [0] * 5


@pytest.mark.switch
def test_what_writing_the_mark_again_is_for() -> None:
    """The error of Open vSwitch itself: it misses megaflows while their table shrinks."""
    with open_vswitch() as ovs:
        assert any(outdated(ovs, count, ()) for count in (BATCH, 5 * BATCH) for _ in range(5))


@pytest.mark.switch
def test_what_marks_are_for() -> None:
    """The error of Open vSwitch itself. Skipped where the installed version has the fix."""
    with open_vswitch() as ovs:
        version = ovs.vsctl("get", "Open_vSwitch", ".", "ovs_version").strip().strip('"')
        if mark_use("dummy", version) is not MarkUse.MOVES:
            pytest.skip(f"Open vSwitch {version} changes the right megaflow")
        found = play(ovs, marked=False)
    assert found[NARROW] == "drop", found


def test_entrances_are_where_packets_enter() -> None:
    """Every table to which conntrack recirculates packets is an entrance, beside the first table."""
    flows = [flow for userspace in (True, False) for flow in render(Binding(userspace=userspace), NodePolicy({}, ()))]
    given_back = {one.table for flow in flows for one in flow.actions if isinstance(one, Ct) and one.table is not None}
    assert given_back | {CLASSIFY.number} == {table.number for table in ENTRANCES}
