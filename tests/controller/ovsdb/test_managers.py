"""Switches that come by themselves (`ovs-vsctl set-manager`), and databases that are reached in more than one way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from controller.ovsdb.service import Ovsdb
from controller.reconcile.events import BridgeGone
from tests.helpers.ovs.node import EventCollector, Node, ovsdb_service
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch


def manager(ovsdb: Ovsdb, host: str = "127.0.0.1") -> str:
    address = ovsdb.listen_address
    assert address is not None
    return f"tcp:{host}:{address[1]}"


@pytest.mark.parametrize("listen", ["tcp:127.0.0.1:0", "tcp:0.0.0.0:0", "tcp:[::]:0"])
def test_a_switch_that_comes_by_itself(node: Node, core: EventCollector, listen: str) -> None:
    node.vsctl("set", "Open_vSwitch", ".", "external_ids:system-id=s1")
    with ovsdb_service(core, [], listen=listen, openflow=("0.0.0.0", 6653)) as ovsdb:
        node.vsctl("set-manager", manager(ovsdb))
        until(core.synced)
        assert list(core.bridges) == [("manager:s1", "br-int")]
        (one,) = ovsdb.status()
        assert (one.name, one.direction, one.synced) == ("manager:s1", "listening", True)
        assert one.remote.startswith("tcp:127.0.0.1:")
        port = node.add_port("p1")
        until(lambda: core.ofport("p1"))
        ovsdb.write_marks("manager:s1", {port: True})
        until(lambda: node.get("Interface", "p1", "external_ids") == "{headgate-installed=true}")
        controller = node.get("Bridge", "br-int", "controller").strip("[]")
        assert node.get("Controller", controller, "target") == "tcp:127.0.0.1:6653"
        assert ovsdb.barrier(10) == []


def test_a_switch_that_comes_back_is_the_same(node: Node, core: EventCollector) -> None:
    node.vsctl("set", "Open_vSwitch", ".", "external_ids:system-id=s1")
    with ovsdb_service(core, [], listen="tcp:127.0.0.1:0") as ovsdb:
        node.vsctl("set-manager", manager(ovsdb))
        until(core.synced)
        node.kill_database()
        until(lambda: not core.synced())
        (missing,) = ovsdb.barrier(5)
        assert missing.startswith("manager:s1: ")
        (one,) = ovsdb.status()
        assert (one.name, one.connected, one.synced, one.bridges) == ("manager:s1", False, False, ("br-int",))
        node.start_database()
        until(core.synced)
        assert ovsdb.barrier(10) == []
        assert not any(isinstance(event, BridgeGone) for event in core.events)
        assert list(core.bridges) == [("manager:s1", "br-int")]


def test_one_that_is_forgotten_keeps_nobody_waiting_and_comes_back_as_new(node: Node, core: EventCollector) -> None:
    node.vsctl("set", "Open_vSwitch", ".", "external_ids:system-id=s1")
    with ovsdb_service(core, [], listen="tcp:127.0.0.1:0") as ovsdb:
        node.vsctl("set-manager", manager(ovsdb))
        until(core.synced)
        ovsdb.forget("manager:s1")  # too late: it is there
        ovsdb.forget("manager:nobody")
        assert [one.name for one in ovsdb.status()] == ["manager:s1"]
        node.kill_database()
        until(lambda: not core.synced())
        ovsdb.forget("manager:s1")  # at once, whether or not its thread has ended
        assert ovsdb.barrier(5) == []
        node.start_database()
        until(core.synced)
        assert list(core.bridges) == [("manager:s1", "br-int")]
        assert ovsdb.barrier(10) == []


def test_two_machines_with_one_system_id_are_kept_apart(node: Node, core: EventCollector) -> None:
    other = Node(switch=False)
    try:
        other.vsctl("add-br", "br-int")
        with ovsdb_service(core, [], listen="tcp:127.0.0.1:0") as ovsdb:
            for one in (node, other):
                one.vsctl("set", "Open_vSwitch", ".", "external_ids:system-id=same")
                one.vsctl("set-manager", manager(ovsdb))
            until(lambda: len(core.bridges) == 2 and core.synced())
            assert {name.partition("/")[0] for name, _ in core.bridges} == {"manager:same"}
            assert len({one.name for one in ovsdb.status()}) == 2
    finally:
        other.stop()


def test_configured_wins_over_a_manager_that_comes_later(node: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [node.remote], listen="tcp:127.0.0.1:0") as ovsdb:
        until(core.synced)
        node.vsctl("set-manager", manager(ovsdb))
        until(lambda: [one.standby for one in ovsdb.status() if one.direction == "listening" and one.standby])
        assert list(core.bridges) == [(node.remote, "br-int")]
        assert ovsdb.barrier(10) == []
        node.add_port("p1")
        until(lambda: core.ofport("p1"))
        assert list(core.bridges) == [(node.remote, "br-int")]


def test_configured_wins_over_a_manager_that_came_first(node: Node, core: EventCollector) -> None:
    late = f"unix:{node.folder}/late.sock"
    with ovsdb_service(core, [late], listen="tcp:127.0.0.1:0", openflow=("127.0.0.1", 6653)) as ovsdb:
        node.vsctl("set-manager", manager(ovsdb))
        until(core.bridge)
        node.appctl("ovsdb-server/add-remote", f"p{late}")
        until(lambda: list(core.bridges) == [(late, "br-int")])
        until(core.synced)
        assert ovsdb.barrier(10) == []
        node.add_port("p1")
        until(lambda: core.ofport("p1"))
        assert list(core.bridges) == [(late, "br-int")]


def test_two_ways_by_manager_are_one(node: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [], listen="tcp:0.0.0.0:0") as ovsdb:
        node.vsctl("set-manager", manager(ovsdb), manager(ovsdb, "127.0.0.2"))
        until(lambda: sorted(bool(one.standby) for one in ovsdb.status()) == [False, True])
        until(core.synced)
        assert len(core.bridges) == 1
        (speaking,) = (one for one in ovsdb.status() if not one.standby)
        # The way that spoke is taken away: the other one takes over, under the same name.
        kept = next(
            one for one in (manager(ovsdb), manager(ovsdb, "127.0.0.2")) if not is_peer(node, one, speaking.remote)
        )
        node.vsctl("set-manager", kept)
        until(lambda: [one.standby for one in ovsdb.status()] == [""])
        until(lambda: ovsdb.barrier(5) == [])
        assert len(core.bridges) == 1
        assert not any(isinstance(event, BridgeGone) for event in core.events)


def is_peer(node: Node, target: str, peer: str) -> bool:
    """Whether the database's connection to `target` comes from the local end that we know as `peer`."""
    host, _, port = target.removeprefix("tcp:").rpartition(":")
    local = peer.rpartition(":")[2]
    wanted = f":{int(local):04X} {bytes(reversed(socket.inet_aton(host))).hex().upper()}:{int(port):04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        return any(wanted in line for line in table)


@contextmanager
def cable(target: tuple[str, int]) -> Iterator[tuple[int, threading.Event]]:
    """A TCP relay that goes dead, without closing anything, when the event is set: a switch that lost its power."""
    cut = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = [server]
    threads: list[threading.Thread] = []

    def start(work: Callable[..., None], *given: socket.socket) -> None:
        threads.append(threading.Thread(target=work, args=given, daemon=True))
        threads[-1].start()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not cut.is_set():
                    sink.sendall(data)
        except OSError:
            return

    def serve() -> None:
        try:
            while True:
                inner, _ = server.accept()
                outer = socket.create_connection(target)
                kept.extend((inner, outer))
                start(copy, inner, outer)
                start(copy, outer, inner)
        except OSError:
            return

    start(serve)
    try:
        yield server.getsockname()[1], cut
    finally:
        for one in kept:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in threads:  # a descriptor is closed when nobody waits on it any more
            thread.join(10)
        for one in kept:
            one.close()


def test_a_newer_connection_takes_the_place_of_a_dead_one(node: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [], listen="tcp:127.0.0.1:0") as ovsdb:
        address = ovsdb.listen_address
        assert address is not None
        with cable(address) as (port, cut):
            node.vsctl("set-manager", f"tcp:127.0.0.1:{port}")
            until(core.synced)
            cut.set()
            node.vsctl("set-manager", manager(ovsdb))
            node.add_port("p1")
            until(lambda: core.ofport("p1"))
            until(core.synced)
            assert len(core.bridges) == 1
            assert not any(isinstance(event, BridgeGone) for event in core.events)
