"""OVSDB peers that send without an end or without a measure: each ends with its own connection, and is told why."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ovsdb import json_stream
from controller.ovsdb.contents_size import ContentsTooLarge, check_columns
from controller.ovsdb.json_stream import JsonStreamError, MessageSplitter
from controller.ovsdb.service import OvsdbBounds
from controller.peers.limits import ConnectionLimits, OvsdbLimits
from controller.peers.memory_budget import MemoryBudget
from tests.helpers.controller.fake_switch import ended
from tests.helpers.ovs.node import EventCollector, Node, ovsdb_service
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch


SMALL = OvsdbLimits(message_bytes=1 << 20, message_values=20_000, message_seconds=2.0, sync=4.0, unsent_bytes=1 << 16)
ENDLESS = {
    "string": (b'{"a":"', b"a" * 65536, "more than 1,048,576 bytes"),
    "array": (b'{"a":[', b"1," * 32768, "more than 20,000 values"),
    "lists": (b'{"a":[', b"[]," * 20000, "more than 20,000 values"),
    "depth": (b"", b'{"a":' * 1000, "more than 64 levels"),
    "escapes": (b'{"a":"', b'\\"' * 32768, "more than 1,048,576 bytes"),
}


@pytest.fixture
def database() -> Iterator[Node]:
    """A database without a switch."""
    one = Node(switch=False)
    try:
        one.vsctl("add-br", "br-int")
        yield one
    finally:
        one.stop()


def dial(ovsdb: Any, source: str = "127.0.0.1") -> socket.socket:
    address = ovsdb.listen_address
    one = socket.create_connection(("127.0.0.1", address[1]), source_address=(source, 0))
    one.settimeout(30)
    return one


@pytest.mark.parametrize("name", ENDLESS)
def test_a_message_without_end_ends_its_connection(
    database: Node, core: EventCollector, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    start, more, words = ENDLESS[name]
    bounds = OvsdbBounds(SMALL)
    with (
        ovsdb_service(core, [database.remote], listen="tcp:127.0.0.1:0", bounds=bounds) as ovsdb,
        dial(ovsdb) as stranger,
    ):
        until(core.synced)
        with contextlib.suppress(OSError):
            stranger.sendall(start)
            for _ in range(64):
                stranger.sendall(more)
        assert ended(stranger)
        database.vsctl("add-port", "br-int", "p1")
        until(lambda: "p1" in core.interfaces())
    assert words in capfd.readouterr().out


def test_a_message_that_never_gets_on_ends_its_connection(database: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [database.remote], listen="tcp:127.0.0.1:0", bounds=OvsdbBounds(SMALL)) as ovsdb:
        with dial(ovsdb) as stranger:
            stranger.sendall(b'{"a":"')
            began = time.monotonic()
            with contextlib.suppress(OSError):
                while time.monotonic() - began < 20:
                    stranger.sendall(b"a")
                    time.sleep(0.1)
            assert ended(stranger)
            assert time.monotonic() - began < 15
        until(core.synced)


def test_a_configured_remote_is_bounded_alike(core: EventCollector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        with ovsdb_service(core, [f"tcp:127.0.0.1:{server.getsockname()[1]}"], bounds=OvsdbBounds(SMALL)) as ovsdb:
            one, _ = server.accept()
            with one, contextlib.suppress(OSError):
                one.sendall(b'{"a":"')
                for _ in range(64):
                    one.sendall(b"a" * 65536)
                ended(one)
            until(lambda: "more than 1,048,576 bytes" in ovsdb.status()[0].last_error)


def test_echoes_to_a_peer_that_does_not_read_are_bounded(database: Node, core: EventCollector) -> None:
    with (
        ovsdb_service(core, [database.remote], listen="tcp:127.0.0.1:0", bounds=OvsdbBounds(SMALL)) as ovsdb,
        dial(ovsdb) as one,
    ):
        one.settimeout(5)
        echo = json.dumps({"id": 1, "method": "echo", "params": ["x" * 60_000]}).encode()
        with pytest.raises((TimeoutError, OSError)):
            for _ in range(2000):
                one.sendall(echo)
        until(core.synced)
        assert ovsdb.barrier(10) == []


def test_silent_connections_lock_no_database_out(database: Node, core: EventCollector) -> None:
    bounds = OvsdbBounds(
        connections=ConnectionLimits(
            unproven=30, unproven_new_address=20, unproven_per_address=10, min_unproven_age=0.2
        )
    )
    with (
        ovsdb_service(core, [], listen="tcp:127.0.0.1:0", bounds=bounds) as ovsdb,
        ExitStack() as stack,
    ):
        for number in range(100):
            stack.enter_context(dial(ovsdb, f"127.0.1.{number % 5 + 1}"))
        assert len(ovsdb.status()) <= 30
        address = ovsdb.listen_address
        assert address is not None
        time.sleep(0.3)
        database.vsctl("set-manager", f"tcp:127.0.0.1:{address[1]}")
        until(core.synced)
        assert core.bridge() is not None


def test_a_column_of_too_many_values_is_refused_before_it_is_read() -> None:
    limits = OvsdbLimits(row_values=3, wide_row_values=5)

    def tables(table: str, count: int) -> dict[str, Any]:
        return {table: {"u": {"new": {"x": ["map", [["k", "v"]] * count]}}}}

    check_columns(tables("Interface", 3), limits)
    check_columns(tables("Bridge", 5), limits)
    for table, count in (("Interface", 4), ("Bridge", 6), ("Nonsense", 4)):
        with pytest.raises(ContentsTooLarge):
            check_columns(tables(table, count), limits)
    odd: list[object] = [None, [], {"T": []}, {"T": {"u": None}}, {"T": {"u": {"new": 5}}}]
    for one in odd:
        check_columns(one, limits)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\{}[],\u00e9 \n', max_size=12),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(alphabet='k"\\{}', max_size=5), one, max_size=4),
    max_leaves=12,
)


MESSAGES = st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), max_size=4)


@given(MESSAGES, st.lists(st.integers(1, 40)), st.booleans())
def test_messages_are_cut_alike_however_they_arrive(messages: list[Any], sizes: list[int], plain: bool) -> None:
    data = b"\n ".join(json.dumps(one, ensure_ascii=plain).encode() for one in messages)
    budget = MemoryBudget(0, 1 << 20)
    splitter, texts, at = MessageSplitter(budget=budget), [], 0
    for size in [*sizes, len(data) + 1]:
        texts += splitter.feed(data[at : at + size])
        at += size
    assert [json.loads(text) for text in texts] == messages
    assert splitter.pending == 0
    splitter.close()
    assert budget.resize(0, 1 << 20), "what was kept has been given back"


def test_a_string_in_a_thousand_parts_is_scanned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: the scanner is given each byte once, and never what came before."""
    scanned = 0

    class Counting:
        """The pattern, with the bytes that it is given counted."""

        def match(self, data: bytes, at: int) -> re.Match[bytes] | None:
            nonlocal scanned
            scanned += len(data) - at
            return original.match(data, at)

    original = json_stream._REST_OF_STRING
    monkeypatch.setattr(json_stream, "_REST_OF_STRING", Counting())
    splitter = MessageSplitter()
    splitter.feed(b'{"a":"')
    for _ in range(1000):
        splitter.feed(b"a" * 100)
    assert splitter.feed(b'"}') == [b'{"a":"' + b"a" * 100_000 + b'"}']
    assert scanned <= 100_010
    with pytest.raises(JsonStreamError):
        splitter.feed(b"}")
