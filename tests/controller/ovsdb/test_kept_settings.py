"""What is kept of a database's rows equals what is read anew, whatever changes, and not every change has it read."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from controller.ovsdb.contents_size import ContentsSize
from controller.ovsdb.controller_planner import BridgeConfig
from controller.ovsdb.network_rows import read_network_rows
from controller.ovsdb.replica import Replica
from controller.ovsdb.rows import RowReader, owned_rows
from controller.ovsdb.session import FramedSession, MessageBounds
from controller.ovsdb.settings_rows import read_settings
from controller.ovsdb.writer import BridgeWriter
from controller.peers.limits import OvsdbLimits
from controller.peers.memory_budget import MemoryBudget
from tests.helpers.ovs.node import Node
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch

CHANGES = (
    ("add-port", "br-int", "{port}", "--", "set", "Interface", "{port}", "type=dummy"),
    ("--if-exists", "del-port", "br-int", "{port}"),
    ("add-port", "br-other", "{port}"),
    ("--if-exists", "set", "Interface", "{port}", "external_ids:iface-id=a/{number}"),
    ("--if-exists", "set", "Interface", "{port}", "options:key={number}", "type=vxlan"),
    ("set-controller", "br-int", "tcp:127.0.0.1:{number}", "tcp:127.0.0.2:{number}"),
    ("del-controller", "br-int"),
    ("set-manager", "ptcp:{number}:127.0.0.9"),
    ("del-manager",),
    ("set-fail-mode", "br-int", "standalone"),
    ("set", "Bridge", "br-int", "protocols=OpenFlow1{digit}"),
    ("set", "Bridge", "br-int", "other_config:disable-in-band=true", "external_ids:headgate-network={number}"),
    ("clear", "Bridge", "br-int", "other_config", "external_ids"),
    ("--", "--id=@t", "create", "Flow_Table", "name=t{number}", "--", "set", "Bridge", "br-int", "flow_tables:1=@t",
     "--", "set", "Bridge", "br-other", "flow_tables:{digit}=@t"),
    ("clear", "Bridge", "br-other", "flow_tables"),
)  # fmt: skip


@pytest.fixture
def bare() -> Iterator[Node]:
    node = Node(switch=False)
    try:
        node.vsctl("add-br", "br-int", "--", "add-br", "br-other")
        yield node
    finally:
        node.stop()


@pytest.mark.parametrize("routes", [False, True])
def test_what_is_kept_equals_what_is_read_anew(bare: Node, routes: bool) -> None:
    limits, random_ = OvsdbLimits(), random.Random(7)
    reader = RowReader({"br-int", "br-other"})
    session = FramedSession.connecting(bare.remote, MessageBounds(limits, MemoryBudget(limits.message_share, 1)))
    replica = Replica(session, reader.forget, ContentsSize(limits, MemoryBudget(limits.contents_share, 1)))
    writer = BridgeWriter(BridgeConfig(frozenset({"br-int"}), routes=routes), replica, lambda: "")

    def seen(number: int) -> bool:
        replica.run()
        rows = replica.tables["Open_vSwitch"].rows.values() if replica.synced else ()
        return any(row.external_ids.get("test") == str(number) for row in rows)

    try:
        for number in range(40):
            change = random_.choice(CHANGES)
            port = f"p{random_.randrange(4)}"
            words = {"port": port, "number": 7000 + number, "digit": random_.randrange(6)}
            command = [word.format(**words) for word in change]
            bare.vsctl("--if-exists", "del-port", port)
            bare.vsctl(*command, "--", "set", "Open_vSwitch", ".", f"external_ids:test={number}")
            until(lambda number=number: seen(number), f"change {number}")  # type: ignore[misc]
            kept, fresh = reader.read("db", replica.tables), RowReader({"br-int", "br-other"})
            assert kept == fresh.read("db", replica.tables), command
            for row in owned_rows(replica.tables, {"br-int"}).values():
                read = writer._read_bridge(row)
                assert read.settings == read_settings(row, replica.tables), command
                assert read.network == read_network_rows(row, replica.tables, routes), command
        before = replica.settings_seqno
        bare.vsctl("add-port", "br-int", "last", "--", "set", "Interface", "last", "external_ids:iface-id=a/b")
        until(lambda: replica.run() or any(row.name == "last" for row in replica.tables["Interface"].rows.values()))
        assert replica.settings_seqno == before
    finally:
        replica.close()
