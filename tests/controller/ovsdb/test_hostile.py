"""Databases and peers that mean no good, or are merely odd or large: nothing stops, and the others don't notice."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controller.ovsdb.service import Ovsdb
from tests.helpers.ovs.node import EventCollector, Node, ovsdb_service
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch


ODD = (
    "",
    " ",
    "\u00e9" * 3000,
    "\U0001f9ea" * 5000,
    'quote " backslash \\ brace } {',
    "line\nbreak\ttab",
    "x" * 100_000,
    "\x7f",
)


@pytest.fixture
def database() -> Iterator[Node]:
    """A database without a switch."""
    one = Node(switch=False)
    try:
        one.vsctl("add-br", "br-int")
        yield one
    finally:
        one.stop()


def transact(node: Node, *operations: dict[str, Any]) -> None:
    request = {"method": "transact", "params": ["Open_vSwitch", *operations], "id": 1}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(node.remote.removeprefix("unix:"))
        sock.sendall(json.dumps(request).encode())
        reply = b""
        while not reply.endswith(b"}"):
            reply += sock.recv(65536)
    results = json.loads(reply)["result"]
    assert not [one for one in results if "error" in one], results


def insert_ports(node: Node, names: list[str], external_ids: dict[str, str]) -> None:
    operations: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        ids = ["map", list(external_ids.items())]
        row = {"name": name, "external_ids": ids, "ofport": number % 60000 + 1}
        operations.append({"op": "insert", "table": "Interface", "uuid-name": f"i{number}", "row": row})
        row = {"name": name, "interfaces": ["named-uuid", f"i{number}"]}
        operations.append({"op": "insert", "table": "Port", "uuid-name": f"p{number}", "row": row})
    ports = ["set", [["named-uuid", f"p{number}"] for number in range(len(names))]]
    where = [["name", "==", "br-int"]]
    operations.append({"op": "mutate", "table": "Bridge", "where": where, "mutations": [["ports", "insert", ports]]})
    transact(node, *operations)


def test_odd_strings_come_through_as_they_are(database: Node, core: EventCollector) -> None:
    database.vsctl("add-port", "br-int", "p1")
    ids = {f"key {number} {text[:20]}": text for number, text in enumerate(ODD)}
    with ovsdb_service(core, [database.remote]) as ovsdb:
        until(core.synced)
        mutation = ["external_ids", "insert", ["map", list(ids.items())]]
        where = [["name", "==", "p1"]]
        transact(database, {"op": "mutate", "table": "Interface", "where": where, "mutations": [mutation]})
        assert ovsdb.barrier(10) == []
        assert dict(core.interfaces()["p1"].external_ids) == ids
    again = EventCollector()
    with ovsdb_service(again, [database.remote]):
        until(again.synced)
        assert dict(again.interfaces()["p1"].external_ids) == ids


def test_thousands_of_ports(database: Node, core: EventCollector) -> None:
    names = [f"port{number}" for number in range(3000)]
    with ovsdb_service(core, [database.remote]) as ovsdb:
        until(core.synced)
        insert_ports(database, names, {"iface-id": "ns/pod", "note": "\u00e9"})
        assert ovsdb.barrier(30) == []
        assert core.interfaces().keys() >= set(names)
        flags = {one.uuid: True for name, one in core.interfaces().items() if name in names}
        ovsdb.write_marks(database.remote, flags)
        until(lambda: sum("headgate-installed" in one.external_ids for one in core.interfaces().values()) == 3000)
    again = EventCollector()
    with ovsdb_service(again, [database.remote]) as ovsdb:
        until(again.synced)
        assert again.interfaces() == core.interfaces()


@contextmanager
def peer(ovsdb: Ovsdb, talk: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """A peer that connects to the listener and talks in a thread of its own."""
    address = ovsdb.listen_address
    assert address is not None
    sock = socket.create_connection(address)

    def run() -> None:
        with contextlib.suppress(OSError):
            talk(sock)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield sock
    finally:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        thread.join(10)  # the descriptor is closed when nobody waits on it any more
        sock.close()


RUBBISH = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"}" * 10,
    b"{" * 200_000 + b"}" * 200_000,
    b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"id": 1, "method": 5, "params": []}',
    b'{"id": 1, "method": "echo", "params": {}}',
    b'{"id": null, "method": "update3", "params": [1, 2, 3]}' * 3,
    b'{"id": null, "method": "monitor_canceled", "params": []}',
    b'{"id": 1, "result": ' + b"9" * 10_000 + b', "error": null}',
    b'{"id": "\xff\xfe", "method": "echo", "params": []}',
    b'{"id": "echo", "result": [], "error": null}' * 1000,
    b"\x00" * 1000,
)


def test_rubbish_at_the_listener(database: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [], listen="tcp:127.0.0.1:0") as ovsdb, contextlib.ExitStack() as stack:
        for data in RUBBISH:

            def talk(sock: socket.socket, data: bytes = data) -> None:
                sock.sendall(data)

            stack.enter_context(peer(ovsdb, talk))
        address = ovsdb.listen_address
        assert address is not None
        database.vsctl("set-manager", f"tcp:127.0.0.1:{address[1]}")
        until(core.synced)
        assert core.bridge() is not None
        assert ovsdb.barrier(10) == []
        assert len(core.states()) == 1


def uuids() -> Iterator[str]:
    while True:
        yield str(uuid.uuid4())


def lie(name: str) -> dict[str, Any]:
    """The contents of a database, as a reply to `monitor`, that no ovsdb-server would hold."""
    system, bridge, port, interface = (next(uuids()) for _ in range(4))
    rows: dict[str, Any] = {
        "Open_vSwitch": {
            system: {"new": {"bridges": ["uuid", bridge], "external_ids": ["map", [["system-id", "liar"]]]}}
        },
        "Bridge": {bridge: {"new": {"name": "br-int", "ports": ["uuid", port], "datapath_id": "00000000000000bb"}}},
        "Port": {port: {"new": {"interfaces": ["uuid", interface]}}},
        "Interface": {interface: {"new": {"name": "p1", "ofport": 5}}},
    }
    the_interface = rows["Interface"][interface]["new"]
    the_bridge = rows["Bridge"][bridge]["new"]
    changes: dict[str, Callable[[], Any]] = {
        "truth": lambda: None,
        "surrogates": lambda: the_interface.update(external_ids=["map", [["a", "\ud800"], ["\udfff", "b"]]]),
        "huge ofport": lambda: the_interface.update(ofport=2**62),
        "huger ofport": lambda: the_interface.update(ofport=2**80),
        "ofport text": lambda: the_interface.update(ofport="five"),
        "name number": lambda: the_interface.update(name=5),
        "dpid text": lambda: the_bridge.update(datapath_id="zz"),
        "dpid long": lambda: the_bridge.update(datapath_id="f" * 500),
        "dangling": lambda: rows.pop("Interface"),
        "two of a name": lambda: rows["Bridge"].update({next(uuids()): {"new": {"name": "br-int"}}}),
        "unknown table": lambda: rows.update(Nonsense={}),
        "rows a list": lambda: rows.update(Port=[]),
        "bad uuid": lambda: rows["Port"].update({"no": {"new": {}}}),
        "no row": lambda: rows["Port"].update({next(uuids()): {}}),
        "row a text": lambda: rows["Port"].update({next(uuids()): "x"}),
        "bad map": lambda: the_interface.update(external_ids=["map", [["a"], 5, None]]),
        "duplicate key": lambda: the_interface.update(external_ids=["map", [["a", "1"], ["a", "2"]]]),
    }
    changes[name]()
    return rows


LIES = ("truth", "surrogates", "huge ofport", "huger ofport", "ofport text", "name number", "dpid text", "dpid long",
        "dangling", "two of a name", "unknown table", "rows a list", "bad uuid", "no row", "row a text", "bad map",
        "duplicate key")  # fmt: skip
READ_ALL_THE_SAME = ("truth", "surrogates", "huge ofport", "dpid text", "dpid long", "dangling", "two of a name")


def liar(rows: dict[str, Any], told: threading.Event) -> Callable[[socket.socket], None]:
    """A peer that answers as an old ovsdb-server would, but with these contents; `told` says that they were heard."""

    def talk(sock: socket.socket) -> None:
        text, decoder = "", json.JSONDecoder()
        while data := sock.recv(65536):
            text += data.decode()
            while text:
                try:
                    message, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                if message.get("id") is None or "method" not in message:
                    continue
                reply: dict[str, Any] = {"id": message["id"], "result": None, "error": "unknown method"}
                if message["method"] == "echo":
                    reply.update(result=message["params"], error=None)
                elif message["method"] == "monitor":
                    reply.update(result=rows, error=None)
                    told.set()
                elif message["method"] == "lock":
                    reply.update(result={"locked": True}, error=None)
                elif message["method"] == "transact":
                    reply.update(result=[{"error": "no"}], error=None)
                sock.sendall(json.dumps(reply).encode())

    return talk


@pytest.mark.parametrize("name", LIES)
def test_contents_that_cannot_be(database: Node, core: EventCollector, name: str) -> None:
    settings = {"tables": {0: "classify"}, "openflow": ("127.0.0.1", 6653), "listen": "tcp:127.0.0.1:0"}
    told = threading.Event()
    with ovsdb_service(core, [database.remote], **settings) as ovsdb, peer(ovsdb, liar(lie(name), told)):
        until(lambda: (database.remote, "br-int") in core.bridges)
        until(told.is_set)
        if name in READ_ALL_THE_SAME:
            until(lambda: ("manager:liar", "br-int") in core.bridges)
            bridge = core.bridges["manager:liar", "br-int"]
            json.dumps([dict(one.external_ids) for one in bridge.interfaces], ensure_ascii=False).encode()
            if name == "truth":
                assert bridge.dpid == 0xBB
                assert [(one.name, one.ofport) for one in bridge.interfaces] == [("p1", 5)]
        database.vsctl("add-port", "br-int", "other")
        until(lambda: [one for one in core.bridges[database.remote, "br-int"].interfaces if one.name == "other"])
        assert not [line for line in ovsdb.barrier(10) if line.startswith(database.remote)]
