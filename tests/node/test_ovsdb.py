"""The client of OVSDB against a real server, and against one that sends nonsense."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from node.facts import read_facts
from node.ovsdb import Ovsdb, OvsdbError, as_map, as_set, as_uuid, make_map
from tests.helpers.ovs.node import Node


@pytest.fixture(scope="module")
def database() -> Iterator[Node]:
    node = Node(switch=False)
    try:
        node.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev",
                   "external_ids:headgate-network=routed", "external_ids:headgate-pod-cidrs=10.1.0.0/24")  # fmt: skip
        yield node
    finally:
        node.stop()


def connect(node: Node, timeout: float = 10) -> Ovsdb:
    return Ovsdb(str(node.folder / "db.sock"), timeout)


@pytest.mark.switch
def test_transactions_and_selections(database: Node) -> None:
    with connect(database) as ovsdb:
        facts = read_facts(ovsdb)
        assert facts.network == "routed" and facts.userspace
        where = [["_uuid", "==", ["uuid", facts.uuid]]]
        change = ["external_ids", "insert", make_map({"other": "x" * 300_000})]
        assert ovsdb.transact({"op": "mutate", "table": "Bridge", "where": where, "mutations": [change]}) == [
            {"count": 1}
        ]
        row = ovsdb.select("Bridge", where)[0]
        assert len(as_map(row["external_ids"])["other"]) == 300_000 and as_uuid(row["_uuid"]) == facts.uuid
        assert [as_uuid(one) for one in as_set(row["ports"])]


@pytest.mark.switch
def test_a_refusal_has_its_words(database: Node) -> None:
    with connect(database) as ovsdb, pytest.raises(OvsdbError, match="No table named Nothing"):
        ovsdb.select("Nothing")


@pytest.mark.switch
def test_a_change_wakes_who_watches_it_and_nothing_else_does(database: Node) -> None:
    with connect(database) as ovsdb:
        ovsdb.watch("Interface", [["name", "==", "p7"]], ["external_ids"])
        assert ovsdb.wait_for_change(time.monotonic() + 5)
        database.vsctl("add-port", "br-int", "p8")
        assert not ovsdb.wait_for_change(time.monotonic() + 0.3)
        database.vsctl("add-port", "br-int", "p7")
        assert ovsdb.wait_for_change(time.monotonic() + 5)
        database.vsctl("set", "Interface", "p7", "external_ids:headgate-installed=true")
        assert ovsdb.wait_for_change(time.monotonic() + 5)
        assert as_map(ovsdb.select("Interface", [["name", "==", "p7"]])[0]["external_ids"])


def test_without_a_server(tmp_path: Path) -> None:
    with pytest.raises(OvsdbError, match="does not answer"):
        Ovsdb(str(tmp_path / "db.sock"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b'{"id": 1, "result": 3, "error": null}', "something else"),
        (b'{"id": 1, "result": [], "error": null}', "too little"),
        (b"{" * 20_000 + b"}", "did not answer"),
        (b"[[[]", "did not answer"),
        (b'{"id": 1, "error": "no", "result": null}', "refused"),
        (b'{"id": 1, "result": [{"rows": [7]}], "error": null}', "something else"),
        (b"\xff}", "did not answer"),
    ],
)
def test_a_server_that_sends_nonsense_gives_an_error(tmp_path: Path, answer: bytes, words: str) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()

        def serve() -> None:
            connection = server.accept()[0]
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                connection.recv(65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with Ovsdb(str(tmp_path / "s"), timeout=0.5) as ovsdb, pytest.raises(OvsdbError, match=words):
            ovsdb.select("Bridge")
        thread.join(5)
