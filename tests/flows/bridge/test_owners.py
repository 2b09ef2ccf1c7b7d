"""Which OVSDB is served where several claim one datapath id or one node: false claims change nothing for others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.reconcile.away_ovsdbs import FORGET_OVSDB_SECONDS, MAX_AWAY_OVSDBS
from controller.reconcile.commands import ForgetOvsdb, ServePeer
from controller.reconcile.events import (
    BridgeChanged,
    BridgeGone,
    ClusterChanged,
    OvsdbPeer,
    OvsdbState,
    SwitchDown,
    SwitchUp,
    Tick,
)
from controller.status.missing import unrealized
from controller.status.reference import pod_views, switch_views
from flows.bridge.connection_peer import ConnectionPeer
from flows.bridge.owners import PROOF_WAIT_SECONDS
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Direction, Key, Namespace, Node, Pod, Policy
from flows.cluster.net import Net, parse_address
from tests.helpers.controller.reconcile_driver import Driver, ValueSwitch, port

HONEST, EVIL = ConnectionPeer("10.0.0.1"), ConnectionPeer("10.0.0.66")
A, BARE = Key("x", "a"), Key("x", "bare")
CLUSTER = Cluster(
    namespaces={"x": Namespace("x", {})},
    pods={
        A: Pod(A, {}, "n1", "", (parse_address("10.1.0.1"),)),
        BARE: Pod(BARE, {}, "n2"),
        Key("x", "evil"): Pod(Key("x", "evil"), {}, "evil", "", (parse_address("10.1.0.66"),)),
    },
    nodes={name: Node(name) for name in ("n1", "n2", "evil")},
    policies={Key("x", "deny"): Policy(Key("x", "deny"), isolates=frozenset({Direction.INGRESS}))},
)
TRUE = BridgeState("n1-db", "br-int", 0x1001, "n1", "n1", "netdev", interfaces=(port("a0", 2, "x/a"),))
# Roles swapped: the true uplink is a pod's port, the isolated pod's port the uplink.
FALSE = BridgeState(
    "aaa", "br-int", 0x1001, "evil", "aaa", "netdev",
    interfaces=(port("e1", 1, "x/evil"), port("e2", 2, **{"headgate-role": "uplink"})),
)  # fmt: skip


def tell(driver: Driver, bridge: BridgeState, peer: ConnectionPeer) -> None:
    """An OVSDB connects with its one bridge; the events are in the order of a real connection."""
    driver.send(OvsdbPeer(bridge.ovsdb, peer), BridgeChanged(bridge), OvsdbState(bridge.ovsdb, True))


def connect(driver: Driver, dpid: int, peer: ConnectionPeer, session: int = 1) -> None:
    driver.switches.setdefault(dpid, ValueSwitch(dpid))
    driver.send(SwitchUp(dpid, session, peer))


def served(peer: ConnectionPeer = HONEST) -> Driver:
    driver = Driver(())
    tell(driver, TRUE, peer)
    connect(driver, TRUE.dpid, peer)
    driver.send(ClusterChanged(CLUSTER))
    assert driver.core.switches[TRUE.dpid].realized
    return driver


@pytest.mark.parametrize("name", ["aaa", "zzz"])
@pytest.mark.parametrize("peer", [EVIL, HONEST, ConnectionPeer()], ids=["elsewhere", "same address", "unknown"])
def test_a_stolen_datapath_id_changes_nothing_on_the_switch_that_is_served(name: str, peer: ConnectionPeer) -> None:
    driver = served()
    before, marks = dict(driver.switches[0x1001].flows), list(driver.marks)
    tell(driver, replace(FALSE, ovsdb=name), peer)
    driver.now += PROOF_WAIT_SECONDS + 1
    driver.send(Tick())
    assert driver.switches[0x1001].flows == before
    assert driver.marks == marks
    views = {view.ovsdb: view for view in switch_views(driver.core, driver.now)}
    assert views["n1-db"].in_sync and not views["n1-db"].error
    assert not views[name].in_sync and "is used by bridge br-int at n1-db too" in views[name].error
    assert [(view.key, view.node) for view in pod_views(driver.core) if view.port] == [("x/a", "n1")]
    assert ["evil" in line for line in unrealized(driver.core, driver.core.revision)] == [True]
    driver.send(OvsdbState(name, False, "closed"), BridgeGone(name, "br-int"))
    assert driver.switches[0x1001].flows == before


@pytest.mark.parametrize("peer", [EVIL, ConnectionPeer()], ids=["elsewhere", "unknown"])
def test_a_proven_claim_beats_an_earlier_one(peer: ConnectionPeer) -> None:
    driver = Driver(())
    driver.send(ClusterChanged(CLUSTER))
    tell(driver, FALSE, peer)
    if peer.host:
        connect(driver, 0x1001, HONEST)
    tell(driver, TRUE, HONEST)
    if not peer.host:
        connect(driver, 0x1001, HONEST)
        return  # nothing tells them apart: the first one has it
    driver.send(Tick())
    assert driver.core.bridge_of(0x1001) == ("n1-db", "br-int")
    assert driver.switches[0x1001].flows == served().switches[0x1001].flows
    assert len(driver.switches[0x1001].bundles) == 1, "nothing of the thief's was ever sent"


def test_a_claim_doubted_by_its_address_is_served_after_a_while() -> None:
    driver = Driver(())
    driver.send(ClusterChanged(CLUSTER))
    connect(driver, 0x1001, ConnectionPeer("192.0.2.1"))  # an address translation
    tell(driver, TRUE, HONEST)
    assert not driver.switches[0x1001].bundles
    assert "this OVSDB's does not" in switch_views(driver.core, 0.0)[0].error
    driver.now += PROOF_WAIT_SECONDS
    driver.send(Tick())
    assert driver.core.switches[0x1001].realized


def test_certificates_decide_before_addresses_and_are_final() -> None:
    one, two = ConnectionPeer("10.0.0.1", ("n1",)), ConnectionPeer("10.0.0.1", ("evil",))
    driver = Driver(())
    driver.send(ClusterChanged(CLUSTER))
    connect(driver, 0x1001, one)
    tell(driver, FALSE, two)
    for _ in range(3):
        driver.now += PROOF_WAIT_SECONDS
        driver.send(Tick())
    assert not driver.switches[0x1001].bundles
    tell(driver, TRUE, one)
    assert driver.core.switches[0x1001].realized


def test_a_session_with_another_nodes_certificate_is_replaced_by_the_nodes_own() -> None:
    """The thief connects first, and no OVSDB of it claims the id; the claiming OVSDB has the session replaced, once."""
    own, thief = ConnectionPeer("10.0.0.1", ("n1",)), ConnectionPeer("10.0.0.66", ("evil",))
    driver = Driver(())
    driver.send(ClusterChanged(CLUSTER))
    connect(driver, 0x1001, thief)
    driver.send(OvsdbPeer(TRUE.ovsdb, own))
    seen = driver.send(BridgeChanged(TRUE), OvsdbState(TRUE.ovsdb, True))
    assert ServePeer(0x1001, own) in seen
    assert not any(isinstance(command, ServePeer) for command in driver.send(Tick()))
    connect(driver, 0x1001, own, session=2)
    assert driver.core.bridge_of(0x1001) == (TRUE.ovsdb, TRUE.name)
    assert driver.core.switches[0x1001].realized


def test_a_reinstalled_node_is_served_at_once() -> None:
    driver = served()
    driver.send(SwitchDown(0x1001, 1), OvsdbState("n1-db", False, "closed by the peer"))
    again = replace(TRUE, ovsdb="zzz", system_id="zzz", interfaces=(port("new", 5, "x/a"),))
    driver.switches[0x1001].flows = {}
    tell(driver, again, HONEST)
    connect(driver, 0x1001, HONEST, session=2)
    assert driver.core.bridge_of(0x1001) == ("zzz", "br-int")
    assert driver.core.switches[0x1001].realized
    assert {"uuid-new": True} in driver.marks
    views = {view.ovsdb: view for view in switch_views(driver.core, driver.now)}
    assert views["zzz"].in_sync and not views["n1-db"].in_sync
    assert ForgetOvsdb("n1-db") in driver.send(Tick()), "nobody waits for the old one any more"
    assert list(driver.core.world.bridges) == [("zzz", "br-int")]
    assert not list(unrealized(driver.core, driver.core.revision))


def test_an_ovsdb_that_is_away_keeps_its_switch_against_an_unproven_claim() -> None:
    driver = served()
    before = dict(driver.switches[0x1001].flows)
    driver.send(OvsdbState("n1-db", False, "closed by the peer"))
    tell(driver, FALSE, EVIL)
    assert not any(isinstance(command, ForgetOvsdb) for command in driver.send(Tick()))
    driver.now += FORGET_OVSDB_SECONDS * 2
    driver.send(Tick())
    assert driver.switches[0x1001].flows == before
    assert driver.core.bridge_of(0x1001) == ("n1-db", "br-int")


def addresses(driver: Driver) -> tuple[Net, ...]:
    pod = driver.core.world.engine.pod(BARE)
    assert pod is not None
    return pod.addresses


@pytest.mark.parametrize("first", ["liar", "honest"])
def test_only_the_pods_own_node_gives_it_an_address(first: str) -> None:
    said = port("e0", 1, "x/bare", ip_addresses="6.6.6.6")
    own = port("b0", 7, "x/bare", ip_addresses="10.1.0.5")
    driver = served()
    # A node with its own name: its port for another node's pod is refused.
    tell(driver, BridgeState("evil-db", "br-int", 0xBAD, "evil", "evil", interfaces=(said,)), EVIL)
    assert addresses(driver) == ()
    if first == "honest":
        tell(driver, BridgeState("n2-db", "br-int", 0x1002, "n2", "n2", interfaces=(own,)), ConnectionPeer("10.0.0.2"))
        tell(driver, BridgeState("liar", "br-int", 0xBAE, "n2", "liar", interfaces=(said,)), EVIL)
        assert addresses(driver) == (parse_address("10.1.0.5"),)
        assert any("claims too" in view.error for view in switch_views(driver.core, 0.0) if view.ovsdb == "liar")
        return
    # With certificates the node has its name, in any order.
    tell(
        driver,
        BridgeState("liar", "br-int", 0xBAE, "n2", "liar", interfaces=(said,)),
        ConnectionPeer("10.0.0.66", ("evil",)),
    )
    assert addresses(driver) == ()
    tell(
        driver,
        BridgeState("n2-db", "br-int", 0x1002, "n2", "n2", interfaces=(own,)),
        ConnectionPeer("10.0.0.2", ("N2",)),
    )
    assert addresses(driver) == (parse_address("10.1.0.5"),)


def test_a_pod_without_a_node_gets_no_address_from_any_port() -> None:
    driver = served()
    pending = replace(CLUSTER, pods={**CLUSTER.pods, BARE: Pod(BARE)})
    driver.send(ClusterChanged(pending))
    said = port("e0", 1, "x/bare", ip_addresses="6.6.6.6")
    tell(driver, BridgeState("evil-db", "br-int", 0xBAD, "evil", "evil", interfaces=(said,)), EVIL)
    assert addresses(driver) == ()


def test_a_bridge_of_an_unknown_node_has_no_pods_and_says_what_to_set() -> None:
    driver = served()
    nameless = BridgeState("db2", "br-int", 0x2002, interfaces=(port("a1", 1, "x/a"), port("b1", 2, "x/bare")))
    tell(driver, nameless, EVIL)
    connect(driver, 0x2002, EVIL)
    view = next(view for view in switch_views(driver.core, 0.0) if view.ovsdb == "db2")
    assert "external_ids:headgate-node-name" in view.error
    assert len(view.unbound_ports) == 2
    assert all("external_ids:headgate-node-name" in one.reason for one in view.unbound_ports)
    assert [one.node for one in pod_views(driver.core) if one.key == "x/a"] == ["n1"]


@pytest.mark.slow
def test_nothing_is_kept_of_removed_ovsdbs() -> None:
    driver = served()
    for number in range(MAX_AWAY_OVSDBS + 50):
        name = f"old{number}"
        bridge = BridgeState(name, "br-int", 0x5000 + number, name, name, interfaces=(port(f"p{name}", 1, "x/none"),))
        tell(driver, bridge, ConnectionPeer("10.0.0.9"))
        connect(driver, bridge.dpid, ConnectionPeer("10.0.0.9"))
        connect(driver, 0x9000 + number, ConnectionPeer("10.0.0.9"))  # of no OVSDB
        driver.send(SwitchDown(bridge.dpid, 1), SwitchDown(0x9000 + number, 1), OvsdbState(name, False, "closed"))
    assert sorted(driver.core.switches)[0] == 0x1001 and max(driver.core.switches) < 0x9000
    driver.send(Tick())
    assert len(driver.core.world.bridges) <= MAX_AWAY_OVSDBS + 1
    driver.now += FORGET_OVSDB_SECONDS
    driver.send(Tick())
    core = driver.core
    assert list(core.world.bridges) == [("n1-db", "br-int")]
    assert list(core.switches) == [0x1001] and list(core.ovsdb) == ["n1-db"]
    owners = core.world.owners
    kept = len(owners._bridges_of), len(owners._dpids), len(owners._nodes), len(core.world._bridges_of_pods)
    assert kept == (1, 1, 1, 1)
    assert len(core.ports.first_seen) == 1


def test_an_ovsdb_that_returns_after_it_was_dropped_is_served_as_before() -> None:
    driver = served()
    flows = dict(driver.switches[0x1001].flows)
    driver.send(SwitchDown(0x1001, 1), OvsdbState("n1-db", False, "closed"))
    driver.now += FORGET_OVSDB_SECONDS
    driver.send(Tick())
    assert not driver.core.world.bridges
    tell(driver, TRUE, HONEST)
    connect(driver, 0x1001, HONEST, session=2)
    assert driver.core.switches[0x1001].realized
    assert driver.switches[0x1001].flows == flows


def test_peers_are_shown_by_what_proves_them() -> None:
    assert str(ConnectionPeer("10.0.0.1", ("n1", "n1.example"))) == "n1 10.0.0.1"
    assert str(ConnectionPeer()) == "this machine"
