"""OpenFlow sessions with a real ovs-vswitchd, and with peers that are none, under both hubs."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from controller.openflow.meter_messages import METER_REQUESTS
from controller.reconcile.commands import DumpFlows
from controller.reconcile.events import BundleDone, BundleFailed, FlowsDrifted, FlowsDumped, SwitchDown, SwitchUp
from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges, MeterReport
from controller.status.foreign_flows import describe_foreign
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Conjunction, Load, Meter, Output
from flows.openflow.flow import Flow
from flows.openflow.match import exactly, in_range, masked, match
from flows.pipeline import registers
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.pod_limits import METERED, MeterBand, meter_number
from flows.pipeline.tables import SCTP_REPLIES
from flows.wire.codec import encode_flow
from flows.wire.values import NO_GROUP_CHANGES, Body, FlowChanges, FlowKey, WireFlow
from tests.helpers.controller.openflow_app import AppProcess, controller
from tests.helpers.ovs.open_vswitch import Bridge, OpenVSwitch, open_vswitch

pytestmark = [pytest.mark.switch, pytest.mark.process]


DPID = 0xABCDEF
HELLO = struct.pack("!BBHI", 5, 0, 8, 1)


@pytest.fixture(scope="module")
def ovs() -> Iterator[OpenVSwitch]:
    with open_vswitch() as switch:
        yield switch


@pytest.fixture(params=["eventlet", "native"])
def hub(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(hub: str) -> Iterator[AppProcess]:
    with controller(hub) as one:
        yield one


@pytest.fixture
def bridge(ovs: OpenVSwitch) -> Iterator[Bridge]:
    one = ovs.add_bridge("br-s", dpid=DPID)
    yield one
    ovs.vsctl("del-br", "br-s")


def connect(bridge: Bridge, app: AppProcess) -> SwitchUp:
    bridge.switch.vsctl("set-controller", bridge.name, f"tcp:127.0.0.1:{app.port}", "--", "set", "controller",
                        bridge.name, "max_backoff=1000", "inactivity_probe=5000")  # fmt: skip
    up = app.next(SwitchUp)
    assert up.dpid == DPID
    return up


def flow(
    number: int, *actions: Action, priority: int = 10, table: int = 0, kind: CookieKind = CookieKind.PIPELINE
) -> WireFlow:
    terms = match(exactly(oxm.ETH_TYPE, oxm.ETH_IPV4), exactly(oxm.IPV4_SRC, number))
    return encode_flow(Flow(table, priority, terms, actions, None, cookie(kind, number)))


def by_key(*flows: WireFlow) -> dict[FlowKey, Body]:
    return {one.key: one.body for one in flows}


def test_an_empty_switch_takes_flows_changes_and_deletes_them(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    assert app.dump(up) == FlowsDumped(DPID, up.session, 1, {}, {}, 0, meters=MeterReport(1 << 18, {}, {}))
    a, b, c = flow(1, Output(1)), flow(2, Output(2)), flow(3)
    assert app.send(up, 1, adds=(a, b, c)) == BundleDone(DPID, up.session, 1)
    assert app.dump(up).flows == by_key(a, b, c)
    changed = flow(1, Output(7))
    renamed = flow(2, Output(2), kind=CookieKind.RULE)
    assert app.send(up, 2, adds=(renamed,), modifies=(changed,), deletes=(b, c)) == BundleDone(DPID, up.session, 2)
    assert app.dump(up).flows == by_key(changed, renamed)


CONNECTIONS, FRAGMENTS = (meter_number(limit, 5) for limit in METERED)


def test_meters_are_there_before_the_bundle_that_needs_them_and_go_after_it(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    bridge.add_meters(7)  # somebody else's
    passing = [flow(number, Meter(number)) for number in (CONNECTIONS, FRAGMENTS)]
    made = MeterChanges({CONNECTIONS: MeterBand(10, 80), FRAGMENTS: MeterBand(5, 40)}, {}, ())
    assert app.send(up, 1, adds=tuple(passing), meters=made) == BundleDone(DPID, up.session, 1)
    dumped = app.dump(up)
    assert dumped.flows == by_key(*passing)
    assert dumped.meters is not None
    assert dumped.meters.there == made.adds
    assert {number: one.packets for number, one in dumped.meters.dropped.items()} == {CONNECTIONS: 0, FRAGMENTS: 0}
    changed = MeterChanges({}, {CONNECTIONS: MeterBand(20, 160)}, (FRAGMENTS,))
    done = app.send(up, 2, deletes=(passing[1],), meters=changed)
    assert isinstance(done, BundleDone)
    assert (done.session, done.number, set(done.ended)) == (up.session, 2, {FRAGMENTS})
    dumped = app.dump(up)
    assert dumped.meters is not None
    assert dumped.meters.there == {CONNECTIONS: MeterBand(20, 160)}
    assert dumped.flows == by_key(passing[0])
    assert "meter=7 " in bridge.switch.ofctl("-OOpenFlow14", "dump-meters", bridge.target)


def test_a_meter_that_goes_tells_what_it_has_counted_since_it_was_read(app: AppProcess, bridge: Bridge) -> None:
    bridge.add_ports({"p1": 1, "p2": 2})
    up = connect(bridge, app)
    made = MeterChanges({CONNECTIONS: MeterBand(1, 1), FRAGMENTS: MeterBand(1, 1)}, {}, ())
    actions = Meter(CONNECTIONS), Output(2)
    passing = encode_flow(Flow(0, 1, match(exactly(oxm.IN_PORT, 1)), actions, None, cookie(CookieKind.PIPELINE, 0)))
    app.send(up, 1, adds=(passing,), meters=made)
    for _ in range(20):
        bridge.inject("p1", bytes(64))
    bridge.settle()
    bridge.switch.ofctl("-OOpenFlow14", "del-meter", bridge.target, f"meter={FRAGMENTS}")  # an error, and no harm
    done = app.send(up, 2, deletes=(passing,), meters=MeterChanges({}, {}, (FRAGMENTS, CONNECTIONS)))
    assert isinstance(done, BundleDone) and done.ended.keys() == {CONNECTIONS}
    assert 10 <= done.ended[CONNECTIONS].packets < 20
    dumped = app.dump(up)
    assert dumped.meters is not None and not dumped.meters.there and not dumped.flows


def test_a_meter_that_the_switch_refuses_is_named_and_nothing_of_the_bundle_is_in_force(
    app: AppProcess, bridge: Bridge
) -> None:
    up = connect(bridge, app)
    bridge.add_meters(CONNECTIONS)
    there = MeterChanges({CONNECTIONS: MeterBand(10, 80)}, {}, ())
    failed = app.send(up, 1, adds=(flow(1),), meters=there)
    assert isinstance(failed, BundleFailed)
    assert "new_connections of port 5" in failed.reason
    assert not failed.no_meters  # the switch is asked again, and then it is a change of that meter
    assert app.dump(up).flows == {}
    too_much = MeterChanges({FRAGMENTS: MeterBand(0, 0)}, {}, ())
    failed = app.send(up, 2, adds=(flow(1),), meters=too_much)
    assert isinstance(failed, BundleFailed)
    assert failed.no_meters
    assert app.send(up, 3, adds=(flow(1),)) == BundleDone(DPID, up.session, 3)


def test_a_modify_keeps_counters_and_a_new_cookie_starts_at_zero(app: AppProcess, bridge: Bridge) -> None:
    bridge.add_ports({"p1": 1, "p2": 2})
    up = connect(bridge, app)
    kept = encode_flow(Flow(0, 1, match(exactly(oxm.IN_PORT, 1)), (Output(2),), None, cookie(CookieKind.PIPELINE, 0)))
    app.send(up, 1, adds=(kept,))
    bridge.inject("p1", bytes(64))
    bridge.dump()  # waits for the counters
    assert app.dump(up).counters[kept.key].packets == 1
    changed = encode_flow(Flow(0, 1, match(exactly(oxm.IN_PORT, 1)), (), None, kept.cookie))
    assert app.send(up, 2, modifies=(changed,)) == BundleDone(DPID, up.session, 2)
    dumped = app.dump(up)
    assert dumped.flows == by_key(changed)
    assert dumped.counters[kept.key].packets == 1
    renamed = changed._replace(cookie=cookie(CookieKind.PORT, 1))
    assert app.send(up, 3, adds=(renamed,), deletes=(changed,)) == BundleDone(DPID, up.session, 3)
    dumped = app.dump(up)
    assert dumped.flows == by_key(renamed)
    assert dumped.counters[kept.key].packets == 0


def test_foreign_and_learned_flows_are_not_ours(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    ours, learned = flow(1), flow(2, kind=CookieKind.LEARNED)._replace(table=SCTP_REPLIES.number)
    app.send(up, 1, adds=(ours, learned))
    bridge.switch.ofctl("add-flow", bridge.target, "cookie=0x5,table=3,actions=drop")
    dumped = app.dump(up)
    assert dumped.flows == by_key(ours)
    assert dumped.foreign == 1
    assert dumped.foreign_flows == ()  # in a table that is none of ours


def test_who_changes_flows_by_hand_is_told_at_once_and_our_own_bundles_are_not(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    flows = [flow(number) for number in range(1, 101)]
    app.send(up, 1, adds=tuple(flows))
    app.send(up, 2, modifies=tuple(flow(number, Output(3)) for number in range(1, 11)), deletes=tuple(flows[90:]))
    bridge.switch.ofctl("--strict", "del-flows", bridge.target, "cookie=0x4847000000000000/0xffff000000000000,table=0,"
                        "priority=10,ip,nw_src=0.0.0.50")  # fmt: skip
    seen = app.drifted.get(timeout=10)
    assert seen == FlowsDrifted(DPID, up.session, removed=1)
    bridge.switch.ofctl("add-flow", bridge.target, "table=0,priority=65535,actions=NORMAL")
    bridge.switch.ofctl("add-flow", bridge.target, "table=3,priority=65535,actions=NORMAL")
    bridge.switch.ofctl("add-flow", bridge.target, "table=0,priority=0,actions=NORMAL")  # nothing comes to it
    assert app.drifted.get(timeout=10) == FlowsDrifted(DPID, up.session, foreign=1)
    (found,) = app.dump(up).foreign_flows
    assert describe_foreign(found.flow) == ("", "NORMAL")
    assert app.drifted.empty()


FOREIGN = {
    "ip,nw_dst=10.0.0.0/8,actions=drop": ("ip,nw_dst=10.0.0.0/8", "drop"),
    "mpls,actions=pop_mpls:0x0800,output:3": ("eth_type=34887", "PopMpls(ethertype=2048),Output(max_len=0 port=3)"),
    "tun_id=5,actions=resubmit(,4)": ("tunnel_id=5", "ResubmitTable(in_port=65528 subtype=14 table_id=4)"),
}


def test_foreign_flows_have_a_text_whatever_they_say(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    for number, text in enumerate(FOREIGN, 1):
        bridge.switch.ofctl("add-flow", bridge.target, f"table=0,priority={number},{text}")
    found = {one.flow.priority: describe_foreign(one.flow) for one in app.dump(up).foreign_flows}
    assert [found[number] for number in sorted(found)] == list(FOREIGN.values())


def test_deletes_and_modifies_leave_a_foreign_flow_alone(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    bridge.switch.ofctl("add-flow", bridge.target, "cookie=0x5,table=0,priority=10,ip,nw_src=0.0.0.1,actions=output:9")
    assert app.send(up, 1, modifies=(flow(1, Output(3)),), deletes=(flow(1),)) == BundleDone(DPID, up.session, 1)
    assert [line.split("actions=")[1] for line in bridge.dump()[1:]] == ["output:9"]


def test_a_refused_bundle_names_its_flow_and_changes_nothing(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    good, other = flow(1, Output(1)), flow(2, Output(1))
    app.send(up, 1, adds=(good,))
    bad = flow(77, Conjunction(5, 1, 2), Output(1))  # a conjunction stands alone (ovs-actions(7))
    failed = app.send(up, 2, adds=(other, bad), deletes=(good,), answer=BundleFailed)
    assert isinstance(failed, BundleFailed)
    assert failed.number == 2
    assert "NXBAC_BAD_CONJUNCTION" in failed.reason
    assert "nw_src=0.0.0.77" in failed.reason
    assert app.dump(up).flows == by_key(good)
    assert app.send(up, 3, adds=(other,)) == BundleDone(DPID, up.session, 3)
    assert app.dump(up).flows == by_key(good, other)


def test_flows_that_are_independent_are_committed_at_once_and_a_refused_one_is_told(
    app: AppProcess, bridge: Bridge
) -> None:
    up = connect(bridge, app)

    def send(number: int, *flows: WireFlow) -> None:
        changes = FlowChanges(flows, (), ())
        app.tell("send_bundle", up.dpid, up.session, number, changes, NO_METER_CHANGES, NO_GROUP_CHANGES, True)

    send(1, flow(1), flow(2))
    assert app.next(BundleDone) == BundleDone(DPID, up.session, 1)
    assert app.dump(up).flows == by_key(flow(1), flow(2))
    refused = flow(3, Conjunction(5, 1, 2), Output(1))  # a conjunction stands alone (ovs-actions(7))
    for number in (2, 4):
        send(number, flow(10 + number), refused, flow(20 + number))
        failed = app.next(BundleFailed)
        assert failed.number == number
        assert "NXBAC_BAD_CONJUNCTION" in failed.reason
        app.send(up, number + 1, adds=(flow(30 + number),))
    assert refused.key not in app.dump(up).flows


def test_a_bundle_that_fails_at_its_commit_changes_nothing(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    bridge.switch.vsctl("--id=@t", "create", "Flow_Table", "flow_limit=2", "overflow_policy=refuse", "--", "set",
                        "Bridge", bridge.name, "flow_tables:7=@t")  # fmt: skip
    app.send(up, 1, adds=(flow(1),))
    many = tuple(flow(number, table=7) for number in range(10, 14))
    failed = app.send(up, 2, adds=many, deletes=(flow(1),), answer=BundleFailed)
    assert isinstance(failed, BundleFailed)
    assert "OFPFMFC_TABLE_FULL" in failed.reason
    assert "add cookie=" in failed.reason
    assert app.dump(up).flows == by_key(flow(1))


def test_a_flow_that_is_too_long_fails_its_bundle(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    long = flow(1, *(Conjunction(number, 1, 2) for number in range(4094)))
    assert len(long.instructions) < 1 << 16
    failed = app.send(up, 1, adds=(flow(2), long), answer=BundleFailed)
    assert isinstance(failed, BundleFailed)
    assert "longer than allowed" in failed.reason
    assert app.dump(up).flows == {}
    assert app.send(up, 2, adds=(flow(2),)) == BundleDone(DPID, up.session, 2)


def test_twenty_thousand_flows_there_and_back(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    state = masked(oxm.CT_STATE, oxm.CtState.TRK, oxm.CtState.TRK | oxm.CtState.INV)
    flows = tuple(
        encode_flow(
            Flow(
                50, 100,
                match(exactly(oxm.ETH_TYPE, oxm.ETH_IPV4), state, in_range(registers.INITIATOR_OFPORT, number % 50),
                      exactly(oxm.CT_NW_DST, number)),
                (Conjunction(number % 77, 1, 2),) if number % 2 else (Load(registers.OUTPUT_OFPORT, number % 500),),
                60 if number % 2 == 0 else None, cookie(CookieKind.CLAUSE),
            )
        )
        for number in range(20_000)
    )  # fmt: skip
    assert app.send(up, 1, adds=flows) == BundleDone(DPID, up.session, 1)
    assert app.dump(up).flows == by_key(*flows)
    assert app.send(up, 2, deletes=flows) == BundleDone(DPID, up.session, 2)
    assert app.dump(up).flows == {}


def test_requests_are_answered_in_order(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    for number in range(5):
        app.tell("send_bundle", up.dpid, up.session, number, FlowChanges((flow(number),), (), ()))
    app.tell("dump", DumpFlows(up.dpid, up.session, 1, {}))
    assert [app.next(BundleDone).number for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(app.next(FlowsDumped).flows) == 5


def test_a_switch_that_restarts_comes_back_empty_with_a_new_session(
    app: AppProcess, ovs: OpenVSwitch, bridge: Bridge
) -> None:
    up = connect(bridge, app)
    app.send(up, 1, adds=(flow(1),))
    ovs.stop_switch()
    assert app.next(SwitchDown) == SwitchDown(DPID, up.session)
    assert app.send(up, 2, adds=(flow(1),)) == BundleFailed(DPID, up.session, 2, "the session has ended")
    ovs.start_switch()
    again = app.next(SwitchUp)
    assert again.dpid == DPID
    assert again.session > up.session
    assert app.dump(again).flows == {}


def test_closing_leaves_the_flows_and_no_thread(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    app.send(up, 1, adds=(flow(1),))
    assert app.close() == ["MainThread"]
    assert [line.split("priority=")[1] for line in bridge.dump()[1:]] == ["10,ip,nw_src=0.0.0.1 actions=drop"]


def test_a_second_session_is_refused_while_the_first_one_answers(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    bridge.switch.vsctl("set-controller", bridge.name, f"tcp:127.0.0.1:{app.port}", f"tcp:[::1]:{app.port6}")
    app.wait_for_log("refused: datapath id 0000000000abcdef is served by the session with 127.0.0.1")
    assert app.quiet()
    assert app.send(up, 1, adds=(flow(1),)) == BundleDone(DPID, up.session, 1)


def test_a_switch_without_openflow_14_is_refused_with_words(app: AppProcess, bridge: Bridge) -> None:
    bridge.switch.vsctl("set", "bridge", bridge.name, "protocols=OpenFlow10,OpenFlow13", "--", "set-controller",
                        bridge.name, f"tcp:127.0.0.1:{app.port}")  # fmt: skip
    app.wait_for_log("OpenFlow 1.4 is needed; set protocols=OpenFlow14")
    bridge.switch.vsctl("set", "bridge", bridge.name, "protocols=OpenFlow13,OpenFlow14,OpenFlow15")
    app.next(SwitchUp)


def peer(app: AppProcess) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", app.port))
    one.settimeout(60)
    return one


def read_to_end(one: socket.socket) -> bytes:
    data = b""
    try:
        while more := one.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


FEATURES = struct.pack("!BBHIQIBB2xII", 5, 6, 32, 2, DPID, 0, 254, 0, 0, 0)
PORTS = struct.pack("!BBHIHH4x", 5, 19, 16, 3, 13, 0)
GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: switch\r\n\r\n",
    "zeros": bytes(64),
    "not-a-hello": struct.pack("!BBHI", 5, 10, 8, 1),
    "length-of-zero": struct.pack("!BBHI", 5, 0, 0, 1),
    "long-hello": struct.pack("!BBHI", 5, 0, 0xFFFF, 1),
    "broken-hello-element": struct.pack("!BBHIHH", 5, 0, 12, 1, 1, 0),
    "hello-element-too-long": struct.pack("!BBHIHH", 5, 0, 12, 1, 1, 90),
    "odd-hello": struct.pack("!BBHIH", 5, 0, 10, 1, 1),
    "old-version": struct.pack("!BBHI", 1, 0, 8, 1),
    "short-features": HELLO + struct.pack("!BBHI", 5, 6, 8, 2),
    "features-of-another-version": HELLO + struct.pack("!BBHI", 4, 6, 8, 2),
    "short-ports": HELLO + FEATURES + struct.pack("!BBHIHH", 5, 19, 12, 3, 13, 0),
    "refusal": struct.pack("!BBHIHH", 5, 1, 12, 1, 0, 0),
    "broken-refusal": struct.pack("!BBHI", 5, 1, 8, 1),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_its_connection_and_no_other(app: AppProcess, bridge: Bridge, garbage: bytes) -> None:
    up = connect(bridge, app)
    with peer(app) as stranger:
        stranger.sendall(garbage)
        read_to_end(stranger)
    assert app.quiet()
    assert app.send(up, 1, adds=(flow(1),)) == BundleDone(DPID, up.session, 1)
    assert "Traceback" not in app.log.read_text()


DUMP = (1 << 31) + METER_REQUESTS  # the xid of the first dump: those of questions about meters come before
AFTER_HANDSHAKE = {
    "short-flow-reply": struct.pack("!BBHIHH4x", 5, 19, 16, DUMP, 1, 0)[:14].replace(b"\x00\x10", b"\x00\x0e", 1),
    "cut-flow": struct.pack("!BBHIHH4xHB5x", 5, 19, 24, DUMP, 1, 0, 8, 0),
    "flow-of-length-zero": struct.pack("!BBHIHH4x", 5, 19, 16 + 56, DUMP, 1, 0) + bytes(56),
    "refused-dump": struct.pack("!BBHIHH", 5, 1, 12, DUMP, 1, 2),
    "short-bundle-reply": struct.pack("!BBHI", 5, 33, 8, 1),
    "length-of-zero": struct.pack("!BBHI", 5, 33, 0, 1),
}


@pytest.mark.parametrize("garbage", AFTER_HANDSHAKE.values(), ids=AFTER_HANDSHAKE.keys())
def test_garbage_after_the_handshake_ends_the_session(app: AppProcess, garbage: bytes) -> None:
    with peer(app) as stranger:
        stranger.sendall(HELLO + FEATURES + PORTS)
        up = app.next(SwitchUp)
        app.tell("dump", DumpFlows(up.dpid, up.session, 1, {}))
        app.tell("send_bundle", up.dpid, up.session, 9, FlowChanges((flow(1),), (), ()))
        sent = b""
        while struct.pack("!BBHI", 5, 18, 56, DUMP) not in sent:  # the dump request
            sent += stranger.recv(4096)
        stranger.sendall(garbage)
        failed = app.next(BundleFailed)
        assert (failed.number, failed.session) == (9, up.session)
        assert app.next(SwitchDown) == SwitchDown(DPID, up.session)
        read_to_end(stranger)
    assert "Traceback" not in app.log.read_text()


LONG_BITMAP = struct.pack("!BBHIHHII4x", 5, 0, 24, 1, 1, 12, 1 << 5, 0)
ODD_ELEMENT = struct.pack("!BBHIHH4x", 5, 0, 16, 1, 9, 5)
ENDLESS_PORT = struct.pack("!BBHIHH4xI", 5, 19, 20, 3, 13, 0, 7)


@pytest.mark.parametrize("hello", [LONG_BITMAP, ODD_ELEMENT], ids=["bitmap of two words", "element of odd length"])
def test_what_os_ken_cannot_read_is_kept_from_it(app: AppProcess, hello: bytes) -> None:
    with peer(app) as stranger:
        stranger.sendall(hello + FEATURES + ENDLESS_PORT)
        assert app.next(SwitchUp).dpid == DPID


def test_messages_in_single_bytes_are_read_as_well(app: AppProcess) -> None:
    with peer(app) as stranger:
        stranger.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in HELLO + FEATURES + PORTS:
            stranger.send(bytes([byte]))
        app.next(SwitchUp)


def test_a_silent_peer_is_given_up_and_too_many_are_refused(hub: str, bridge: Bridge) -> None:
    with controller(hub, handshake=1.0, tick=0.2, connections={"unproven_per_address": 3}) as app:
        peers = [peer(app) for _ in range(5)]
        for one in peers:
            read_to_end(one)
            one.close()
        connect(bridge, app)
        assert "no OpenFlow handshake within 1 s" in app.log.read_text()


def test_a_peer_that_asks_and_never_reads_costs_no_memory_and_nobody_else(hub: str, bridge: Bridge) -> None:
    with controller(hub, tick=0.2, request_idle=2.0, unsent_bytes=100_000) as app, peer(app) as stranger:
        stranger.sendall(HELLO + FEATURES.replace(struct.pack("!Q", DPID), struct.pack("!Q", 5)) + PORTS)
        greedy = app.next(SwitchUp)
        up = connect(bridge, app)
        stranger.settimeout(0.5)
        echo = struct.pack("!BBHI", 5, 2, 0xFFF8, 1) + bytes(0xFFF0)
        sent = 0
        with pytest.raises((TimeoutError, ConnectionError)):
            while sent < 1 << 28:
                sent += stranger.send(echo)
        assert app.send(up, 1, adds=(flow(1),)) == BundleDone(DPID, up.session, 1)
        assert app.next(SwitchDown) == SwitchDown(5, greedy.session)
        app.wait_for_log("the switch did not read")


def test_a_bundle_to_a_switch_that_stops_fails_and_other_switches_go_on(hub: str, bridge: Bridge) -> None:
    with controller(hub, tick=0.2, request_idle=2.0, dead_after=60.0) as app, open_vswitch() as other:
        slow = other.add_bridge("br-x", dpid=7)
        slow.switch.vsctl("set-controller", "br-x", f"tcp:[::1]:{app.port6}")
        stopped = app.next(SwitchUp)
        assert stopped.dpid == 7
        up = connect(bridge, app)
        pid = other.pids[-1]
        os.kill(pid, signal.SIGSTOP)
        try:
            many = tuple(flow(number, Output(number)) for number in range(50_000))
            app.tell("send_bundle", 7, stopped.session, 4, FlowChanges(many, (), ()))
            assert app.send(up, 1, adds=(flow(1),)) == BundleDone(DPID, up.session, 1)
            failed = app.next(BundleFailed)
            assert (failed.dpid, failed.number) == (7, 4)
            assert app.next(SwitchDown) == SwitchDown(7, stopped.session)
        finally:
            os.kill(pid, signal.SIGCONT)
        back = app.next(SwitchUp)
        assert back.dpid == 7
        assert app.dump(back).flows == {}


def test_a_half_open_connection_is_found_out(hub: str, ovs: OpenVSwitch, bridge: Bridge) -> None:
    with controller(hub, tick=0.1, echo_after=0.3, dead_after=1.0) as app:
        up = connect(bridge, app)
        pid = ovs.pids[-1]
        os.kill(pid, signal.SIGSTOP)
        try:
            assert app.next(SwitchDown) == SwitchDown(DPID, up.session)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert app.next(SwitchUp).session > up.session
        app.wait_for_log("no message from the switch for")


def test_a_controller_that_had_no_cpu_keeps_a_switch_that_it_has_not_asked(hub: str, bridge: Bridge) -> None:
    """Nothing waits in the socket: the switch asks after 5 s."""
    with controller(hub, tick=0.1, echo_after=1.5, dead_after=2.0) as app:
        up = connect(bridge, app)
        app.process.send_signal(signal.SIGSTOP)
        time.sleep(3.5)
        app.process.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert app.quiet()
        assert app.send(up, 1, adds=(flow(1),)) == BundleDone(DPID, up.session, 1)


def test_an_idle_switch_stays_connected(hub: str, bridge: Bridge) -> None:
    with controller(hub, tick=0.05, echo_after=0.1, dead_after=5.0) as app:
        bridge.switch.vsctl("set-controller", bridge.name, f"tcp:127.0.0.1:{app.port}", "--", "set", "controller",
                            bridge.name, "inactivity_probe=0")  # fmt: skip
        up = app.next(SwitchUp)
        time.sleep(1)
        assert app.quiet()
        assert app.send(up, 1, adds=(flow(1),)) == BundleDone(DPID, up.session, 1)
