"""OpenFlow peers that mean no good: they harm nobody else, under both hubs. Each was an attack that worked once."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from controller.base.hub import HUBS
from controller.reconcile.commands import DumpFlows
from controller.reconcile.events import BundleDone, FlowsDumped, SwitchDown, SwitchUp
from tests.helpers.controller.fake_switch import (
    HELLO,
    PORTS,
    FakeSwitch,
    asks_for_flows,
    dial,
    ended,
    fake_switch,
    features,
    flow_entry,
    flow_reply,
    message,
)
from tests.helpers.controller.openflow_app import AppProcess, controller

pytestmark = pytest.mark.process


HONEST, THIEF, OTHER = "127.0.0.2", "127.0.0.3", "127.0.0.4"
DPID = 0x1002


@pytest.fixture(params=HUBS)
def hub(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(hub: str) -> Iterator[AppProcess]:
    with controller(hub, tick=0.1, challenge=0.5) as one:
        yield one


def works(app: AppProcess, up: SwitchUp, number: int = 1) -> bool:
    return app.send(up, number) == BundleDone(up.dpid, up.session, number)


def up_of(app: AppProcess, dpid: int) -> SwitchUp:
    up = app.next(SwitchUp)
    assert up.dpid == dpid
    return up


def test_a_datapath_id_stays_with_the_session_that_answers(app: AppProcess) -> None:
    with fake_switch(app.port, DPID, HONEST) as honest:
        up = up_of(app, DPID)
        for _ in range(30):
            with fake_switch(app.port, DPID, THIEF) as thief:
                thief.join(20)
        assert app.quiet()
        assert works(app, up)
        # After a few claims it is refused without the switch being asked.
        assert honest.seen.count(2) <= 15
        app.tell("report")
        (trouble,) = app.next(list)
        assert "127.0.0.3 claims it too; the session with 127.0.0.2:" in trouble[1]


def test_who_does_not_answer_gives_way(app: AppProcess) -> None:
    with fake_switch(app.port, DPID, HONEST, lambda _, kind, *__: kind == 2):
        up = up_of(app, DPID)
        with fake_switch(app.port, DPID, OTHER):
            assert app.next(SwitchDown) == SwitchDown(DPID, up.session)
            assert works(app, up_of(app, DPID))


def test_a_waiting_session_takes_over_when_the_first_ends(hub: str) -> None:
    with (
        controller(hub, tick=0.1, challenge=60.0) as app,
        fake_switch(app.port, DPID, HONEST, lambda _, kind, *__: kind == 2) as a,
    ):
        up = up_of(app, DPID)
        with fake_switch(app.port, DPID, OTHER) as other:
            while 5 not in other.seen:
                time.sleep(0.01)
            time.sleep(0.5)
            a.close()
            assert app.next(SwitchDown) == SwitchDown(DPID, up.session)
            assert works(app, up_of(app, DPID))


def test_a_switch_gets_its_place_back_from_whoever_took_it_meanwhile(app: AppProcess) -> None:
    with fake_switch(app.port, DPID, HONEST):
        first = up_of(app, DPID)
    assert app.next(SwitchDown) == SwitchDown(DPID, first.session)
    with fake_switch(app.port, DPID, THIEF):
        stolen = up_of(app, DPID)
        with fake_switch(app.port, DPID, HONEST):
            assert app.next(SwitchDown) == SwitchDown(DPID, stolen.session)
            assert works(app, up_of(app, DPID))


def insist(app: AppProcess, stack: ExitStack, dpid: int, source: str) -> SwitchUp:
    """Come up as a switch does, which tries again when it is refused."""
    for _ in range(40):
        one = stack.enter_context(fake_switch(app.port, dpid, source))
        while one.is_alive():
            if not app.quiet():
                return up_of(app, dpid)
            time.sleep(0.05)
        time.sleep(0.5)
    raise AssertionError(app.log.read_text()[-2000:])


def flood(padding: int, count: int, same: bool = False) -> Callable[[FakeSwitch, int, int, bytes], bool]:
    """Answers a flow dump without an end."""

    def answer(fake_switch: FakeSwitch, kind: int, xid: int, whole: bytes) -> bool:
        number = 0
        while asks_for_flows(kind, whole):
            entries = b"".join(flow_entry(1 if same else number + one, padding) for one in range(count))
            number += count
            fake_switch.socket.sendall(flow_reply(xid, entries, more=True))
        return False

    return answer


def _slowly(fake_switch: FakeSwitch, kind: int, xid: int, whole: bytes) -> bool:
    while asks_for_flows(kind, whole):
        fake_switch.socket.sendall(flow_reply(xid, flow_entry(1), more=True))
        time.sleep(0.1)
    return False


Case = tuple[Callable[[FakeSwitch, int, int, bytes], bool], dict[str, float], str]
ENDLESS: dict[str, Case] = {
    "flows": (flood(0, 900), {"dump_flows": 50_000}, "more than 50,000 flows"),
    "the same flow": (flood(0, 900, same=True), {"dump_flows": 50_000}, "more than 50,000 flows"),
    "long flows": (flood(65_000, 1), {"dump_kept": 2_000_000}, "more than 2,000,000 bytes of flows"),
    "bytes": (flood(65_000, 1, same=True), {"dump_bytes": 3_000_000}, "more than 3,000,000 bytes"),
    "all together": (flood(65_000, 1), {"dump_share": 100_000, "dumps_pot": 1_000_000}, "leave no room"),
    "time": (_slowly, {"dump_seconds": 1.0}, "a flow dump took longer than 1 s"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_dump_without_end_ends_its_session(hub: str, name: str) -> None:
    answer, limits, words = ENDLESS[name]
    with controller(hub, tick=0.1, retry=2.0, **limits) as app, fake_switch(app.port, 1, HONEST):
        honest = up_of(app, 1)
        with fake_switch(app.port, DPID, THIEF, answer) as liar:
            up = up_of(app, DPID)
            app.tell("dump", DumpFlows(DPID, up.session, 1, {}))
            assert app.next(SwitchDown) == SwitchDown(DPID, up.session)
            liar.join(20)
        app.wait_for_log(words)
        # It may not be back at once, and meanwhile the other goes on.
        with fake_switch(app.port, DPID, THIEF) as liar:
            liar.join(20)
        app.wait_for_log("dropped for a fault")
        assert app.dump(honest).flows == {}
        time.sleep(2)
        with fake_switch(app.port, DPID, THIEF):
            up_of(app, DPID)


def test_a_dump_of_forty_thousand_flows_is_no_fault(app: AppProcess) -> None:
    def answer(fake_switch: FakeSwitch, kind: int, xid: int, whole: bytes) -> bool:
        for part in range(80 if asks_for_flows(kind, whole) else 0):
            entries = b"".join(flow_entry(part * 500 + one) for one in range(500))
            fake_switch.socket.sendall(flow_reply(xid, entries, more=part < 79))
        return asks_for_flows(kind, whole)

    with fake_switch(app.port, DPID, HONEST, answer):
        assert len(app.dump(up_of(app, DPID)).flows) == 40_000


@pytest.mark.parametrize(
    "early", [message(2), message(10, bytes(24)), message(19, bytes(8))], ids=["echo", "packet", "reply"]
)
def test_nothing_but_a_hello_comes_before_the_hello(app: AppProcess, early: bytes) -> None:
    with dial(app.port, THIEF) as stranger:
        stranger.sendall(early)
        assert ended(stranger)
    app.wait_for_log("the peer does not speak OpenFlow")


@pytest.mark.parametrize("flood", [message(2), message(19, struct.pack("!HHI", 13, 1, 0)), message(12, bytes(8))],
                         ids=["echoes", "ports", "port changes"])  # fmt: skip
def test_a_handshake_has_few_messages(hub: str, flood: bytes) -> None:
    with controller(hub, tick=0.1, handshake_messages=50) as app, dial(app.port, THIEF) as stranger:
        stranger.sendall(HELLO + flood * 100)
        assert ended(stranger)
        app.wait_for_log("messages before the OpenFlow handshake was done")


@pytest.mark.parametrize("kind", [message(2), message(10, bytes(32)), message(1, bytes(4)), message(33, bytes(8)),
                                  flow_reply(99, flow_entry(1), more=True)],
                         ids=["echoes", "packets", "errors", "bundles", "replies"])  # fmt: skip
def test_a_flood_is_read_at_a_pace(hub: str, kind: bytes) -> None:
    """Counted: of 60,000 messages that nobody asked for, no more are read than the declared burst and rate allow."""
    limits = {"burst": 2000, "rate": 200, "packet_burst": 2000, "packet_rate": 200}
    with controller(hub, tick=0.1, **limits) as app, fake_switch(app.port, 1, HONEST):
        honest = up_of(app, 1)
        began = time.monotonic()  # the budget grows from the connection on
        with dial(app.port, THIEF) as stranger:
            stranger.sendall(HELLO + features(DPID) + PORTS)
            up = up_of(app, DPID)
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            stranger.settimeout(1.0)
            sent, some = 0, kind * 256
            with pytest.raises(TimeoutError):
                while sent < 1 << 24:
                    sent += stranger.send(some)
            assert works(app, honest)
            app.tell("read_of", DPID)
            read = app.next(int)
            assert read <= 2000 + 200 * (time.monotonic() - began) + 64
        assert app.next(SwitchDown) == SwitchDown(DPID, up.session)


def test_of_many_that_flood_one_has_its_turn_between_two_rounds() -> None:
    """Counted under eventlet, where threads run in rounds: what others wait for does not grow with the peers."""
    with controller("eventlet") as app, ExitStack() as stack:
        floods = []
        for number in range(16):
            one = stack.enter_context(dial(app.port, THIEF))
            one.sendall(HELLO + features(100 + number) + PORTS + message(2) * 200)
            up_of(app, 100 + number)
            floods.append(one)
        app.tell("count_turns")
        assert app.next(str) == "count_turns"
        threads = [threading.Thread(target=one.sendall, args=(message(2) * 5000,), daemon=True) for one in floods]
        for thread in threads:
            thread.start()
        with fake_switch(app.port, 1, HONEST):
            assert works(app, up_of(app, 1))
        for thread in threads:
            thread.join(60)
        time.sleep(0.5)
        app.tell("most_turns")
        assert 1 <= app.skip_to(int) <= 6  # a turn or two, and those of switches that say little


def test_errors_to_everything_are_answered_by_ever_longer_waits(hub: str) -> None:
    def refuse(fake_switch: FakeSwitch, kind: int, xid: int, whole: bytes) -> bool:
        if asks_for_flows(kind, whole) or kind == 33:
            fake_switch.socket.sendall(message(1, struct.pack("!HH", 1, 5), xid))
        return asks_for_flows(kind, whole) or kind == 33

    with controller(hub, tick=0.1, retry=0.5) as app:
        ups, until = 0, time.monotonic() + 5
        while time.monotonic() < until:
            try:
                with fake_switch(app.port, DPID, THIEF, refuse) as one:
                    while one.is_alive() and time.monotonic() < until:
                        if not app.quiet() and isinstance(event := app.next(object), SwitchUp):
                            ups += 1
                            app.tell("dump", DumpFlows(DPID, event.session, 1, {}))
                        time.sleep(0.01)
            except OSError:
                time.sleep(0.01)
        assert 1 <= ups <= 5
        assert app.log.read_text().count("OpenFlow session") < 150


FEW = {"unproven": 200, "unproven_new_address": 150, "min_unproven_age": 0.2}


def test_half_open_connections_lock_nobody_out(hub: str) -> None:
    with (
        controller(
            hub, tick=0.1, connections={"unproven": 200, "unproven_new_address": 150, "min_unproven_age": 0.2}
        ) as app,
        ExitStack() as stack,
    ):
        for number in range(560):
            stack.enter_context(dial(app.port, f"127.0.1.{number % 8 + 1}"))
        time.sleep(0.3)
        for number, source in enumerate((HONEST, OTHER, "127.0.1.1"), 1):
            assert works(app, insist(app, stack, number, source))


def test_a_switch_that_stops_reading_and_one_that_reads_slowly_are_given_up(hub: str) -> None:
    with controller(hub, tick=0.1, request_idle=1.5, dead_after=60.0) as app, dial(app.port, THIEF) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(HELLO + features(DPID) + PORTS)
        up = up_of(app, DPID)
        slow.settimeout(0.1)
        echo, echoed = message(2, bytes(60_000)), 0
        while app.quiet():  # it takes a few bytes now and then, so something always moves
            try:
                echoed += slow.send(echo)
                slow.recv(10)
            except TimeoutError:
                slow.recv(10)
            except OSError:
                break
        assert app.next(SwitchDown) == SwitchDown(DPID, up.session)


def test_a_bundle_without_an_answer_fails_and_the_switch_goes(hub: str) -> None:
    with (
        controller(hub, tick=0.1, request_idle=1.0) as app,
        fake_switch(app.port, DPID, THIEF, lambda _, kind, *__: kind == 33),
    ):
        up = up_of(app, DPID)
        failed = app.send(up, 7)
        assert "no answer to bundle 7 within 1 s" in str(failed)
        assert app.next(SwitchDown) == SwitchDown(DPID, up.session)


def test_sessions_that_end_together_are_all_told(app: AppProcess) -> None:
    with ExitStack() as stack:
        for number in range(300):
            one = stack.enter_context(dial(app.port, HONEST))
            one.sendall(HELLO + features(number + 1) + PORTS)
        ups = {app.next(SwitchUp).dpid for _ in range(300)}
    assert ups == {app.next(SwitchDown).dpid for _ in range(300)}
    with fake_switch(app.port, 1, OTHER):
        assert isinstance(app.dump(up_of(app, 1)), FlowsDumped)


def test_an_exception_in_a_handler_ends_no_thread(app: AppProcess) -> None:
    """os-ken's native hub takes it for the wish to end the thread of events, and says nothing."""
    app.tell("break_next_event")
    assert app.next(str) == "break_next_event"
    with dial(app.port, THIEF) as stranger:
        stranger.sendall(HELLO + features(5) + PORTS)
        app.wait_for_log("broken for a test")
        with fake_switch(app.port, 6, HONEST):
            assert works(app, up_of(app, 6))
