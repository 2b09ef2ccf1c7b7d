"""What the core hears of bridges and ports."""

from __future__ import annotations

import pytest

from controller.reconcile.events import BridgeGone, OvsdbState
from tests.helpers.ovs.node import EventCollector, Node, ovsdb_service
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch


@pytest.mark.parametrize("way", ["unix", "tcp", "localhost"])
def test_bridge_is_told_before_synced(node: Node, core: EventCollector, way: str) -> None:
    node.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=n1", "external_ids:system-id=s1")
    remote = {"unix": node.remote, "tcp": node.tcp, "localhost": f"tcp:localhost:{node.port}"}[way]
    with ovsdb_service(core, [remote]) as ovsdb:
        until(core.synced)
        bridge = core.bridge()
        assert bridge is not None
        assert (bridge.ovsdb, bridge.name, bridge.hostname, bridge.system_id) == (remote, "br-int", "n1", "s1")
        assert f"{bridge.dpid:016x}" == node.get("Bridge", "br-int", "datapath_id")
        assert bridge.datapath_type == "dummy"
        assert core.ofport("br-int") == 65534
        assert isinstance(core.events[-1], OvsdbState)
        status = ovsdb.status()
        assert [(one.name, one.direction, one.synced, one.system_id, one.bridges) for one in status] == [
            (remote, "connecting", True, "s1", ("br-int",))
        ]


def test_the_nodes_own_name_comes_before_what_open_vswitch_writes(node: Node, core: EventCollector) -> None:
    node.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=localhost", "external_ids:headgate-node-name=n1")
    with ovsdb_service(core, [node.remote]):
        until(core.synced)
        bridge = core.bridge()
        assert bridge is not None and bridge.node == "n1"


def test_other_bridges_are_not_ours(node: Node, core: EventCollector) -> None:
    node.add_bridge("br-other")
    node.add_bridge("br-too")
    with ovsdb_service(core, [node.remote], bridges=("br-int", "br-too")):
        until(core.synced)
        assert sorted(name for _, name in core.bridges) == ["br-int", "br-too"]


def test_ports_come_change_and_go(node: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [node.remote]):
        until(core.synced)
        first = node.add_port("p1", "external_ids:iface-id=a/b", "ofport_request=7")
        until(lambda: core.ofport("p1") == 7)
        port = core.interfaces()["p1"]
        assert port.uuid == first
        assert dict(port.external_ids) == {"iface-id": "a/b"}
        assert port.mac_in_use
        node.vsctl("set", "Interface", "p1", "ofport_request=8")
        until(lambda: core.ofport("p1") == 8)
        # The same name again in one transaction: another Interface.
        node.vsctl("del-port", "p1", "--", "add-port", "br-int", "p1", "--", "set", "Interface", "p1", "type=dummy")
        second = node.get("Interface", "p1", "_uuid")
        assert second != first
        until(lambda: core.interfaces()["p1"].uuid == second)
        node.vsctl("del-port", "p1")
        until(lambda: "p1" not in core.interfaces())


def test_bridge_gone_and_made_again(node: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [node.remote]):
        until(core.synced)
        node.vsctl("del-br", "br-int")
        until(lambda: core.bridge() is None)
        assert BridgeGone(node.remote, "br-int") in core.events
        node.add_bridge()
        node.vsctl("set", "Bridge", "br-int", "other_config:datapath-id=00000000000000aa")
        until(lambda: (bridge := core.bridge()) and bridge.dpid == 0xAA)


def test_an_interface_without_device_has_no_ofport(node: Node, core: EventCollector) -> None:
    node.vsctl("--no-wait", "add-port", "br-int", "nodev", "--", "set", "Interface", "nodev", "type=nosuchtype")
    until(lambda: node.get("Interface", "nodev", "ofport") in ("-1", "[]"))
    with ovsdb_service(core, [node.remote]):
        until(core.synced)
        assert core.interfaces()["nodev"].ofport is None


def test_database_killed_and_restarted(node: Node, core: EventCollector) -> None:
    node.add_port("p1")
    with ovsdb_service(core, [node.remote]) as ovsdb:
        until(lambda: core.synced() and core.ofport("p1"))
        node.kill_database()
        until(lambda: not core.synced())
        (missing,) = ovsdb.barrier(5)
        assert missing.startswith(f"{node.remote}: ")
        assert not any(isinstance(event, BridgeGone) for event in core.events)
        assert not ovsdb.status()[0].synced
        assert ovsdb.status()[0].last_error
        seen = len(core.events)
        node.start_database()
        node.vsctl("--no-wait", "add-port", "br-int", "p2", "--", "set", "Interface", "p2", "type=dummy")
        until(core.synced)
        until(lambda: core.ofport("p2"))
        assert core.ofport("p1")
        assert not any(isinstance(event, BridgeGone) for event in core.events[seen:])
        assert ovsdb.barrier(5) == []


def test_database_that_is_not_there_yet(core: EventCollector) -> None:
    node = Node(switch=False, init=False)
    try:
        node.kill_database()
        with ovsdb_service(core, [node.remote]) as ovsdb:
            until(lambda: node.remote in core.states())
            assert not core.states()[node.remote].synced
            assert ovsdb.barrier(5)
            node.start_database()
            until(lambda: ovsdb.status()[0].connected)
            assert ovsdb.barrier(5)  # no Open_vSwitch row: the database isn't anyone's yet
            node.vsctl("init")
            node.vsctl("add-br", "br-int")
            until(lambda: core.synced() and core.bridge())
    finally:
        node.stop()


def test_database_made_anew_behind_the_same_remote(node: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [node.remote]):
        until(core.synced)
        node.kill_database()
        node.kill_switch()
        node.create()
        node.start_database()
        node.vsctl("init")
        until(lambda: core.bridge() is None)
        until(core.synced)


def test_barrier_covers_what_was_committed_before(node: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [node.remote, node.tcp]) as ovsdb:
        until(core.synced)
        for number in range(30):
            node.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"external_ids:hostname=h{number}")
            assert ovsdb.barrier(20) == []
            bridge = core.bridge()
            assert bridge is not None
            assert bridge.hostname == f"h{number}"


def test_a_remote_keeps_the_name_it_was_given(
    node: Node, core: EventCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVS_RUNDIR", str(node.folder))
    with ovsdb_service(core, ["unix:db.sock", node.remote]):
        until(lambda: core.synced() and set(core.states()) == {"unix:db.sock", node.remote})
        assert len(core.bridges) == 1
