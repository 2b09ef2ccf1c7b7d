"""What a bridge that routes gets in its OVSDB, only when it differs, and that it is gone when the network is flat."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controller.ovsdb.network_rows import NetworkRows, TunnelRow, plan_network
from controller.ovsdb.service import Ovsdb
from flows.bridge.network import NO_NETWORK, NodeNetwork
from flows.bridge.state import BridgeState
from tests.helpers.ovs.node import EventCollector, Node, ovsdb_service
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch

SETTINGS = NodeNetwork({"headgate-network": "overlay", "headgate-mtu": "1450", "headgate-revision": "a1"}, "geneve")
OPERATORS = {"headgate-node-addresses": "192.0.2.99", "owner": "me"}


def ids(node: Node) -> dict[str, str]:
    text = node.get("Bridge", "br-int", "external_ids").strip("{}")
    found = dict(one.split("=", 1) for one in text.split(", ") if one)
    return {key: value.strip('"') for key, value in found.items()}


def tunnel(node: Node) -> tuple[str, str, str]:
    """Type, options and external_ids of the tunnel's Interface."""
    found = (node.get("Interface", "headgate-tun", column) for column in ("type", "options", "external_ids"))
    return tuple(one.replace('"', "") for one in found)  # type: ignore[return-value]  # there are three


def has_tunnel(node: Node) -> bool:
    return "headgate-tun" in node.vsctl("list-ports", "br-int").split()


def written(node: Node, network: NodeNetwork | None, done: Callable[[], bool], routes: bool = True) -> int:
    """Have the bridge's settings written; returns the count of transactions at the end."""
    core = EventCollector()
    with ovsdb_service(core, [node.remote], routes=routes) as ovsdb:
        until(core.synced)
        ovsdb.set_network(node.remote, "br-int", network)
        until(done, "written")
        settle(ovsdb)
    return node.transactions()


def settle(ovsdb: Ovsdb) -> None:
    for _ in range(3):
        assert ovsdb.barrier(10) == []


def keep_operators(node: Node) -> None:
    node.vsctl("set", "Bridge", "br-int", *(f"external_ids:{key}={value}" for key, value in OPERATORS.items()))


def test_settings_and_tunnel_are_written_once_and_nothing_twice(node: Node) -> None:
    keep_operators(node)
    count = written(node, SETTINGS, lambda: has_tunnel(node))
    assert ids(node) == {**OPERATORS, **SETTINGS.external_ids}
    assert tunnel(node) == ("geneve", "{key=0, remote_ip=flow}", "{headgate=true}")
    assert written(node, SETTINGS, lambda: True) == count


def test_the_switch_gives_the_tunnel_a_port(node: Node) -> None:
    def has_ofport() -> bool:
        return has_tunnel(node) and node.get("Interface", "headgate-tun", "ofport").isdigit()

    written(node, SETTINGS, has_ofport)


def test_only_what_differs_is_written(node: Node) -> None:
    keep_operators(node)
    written(node, SETTINGS, lambda: has_tunnel(node))
    uuid = node.get("Interface", "headgate-tun", "_uuid")
    after = NodeNetwork({"headgate-network": "overlay", "headgate-encap": "vxlan", "headgate-revision": "b2"}, "vxlan")
    written(node, after, lambda: tunnel(node)[0] == "vxlan")
    assert ids(node) == {**OPERATORS, **after.external_ids}
    assert node.get("Interface", "headgate-tun", "_uuid") == uuid


def test_without_tunnels_the_port_goes(node: Node) -> None:
    written(node, SETTINGS, lambda: has_tunnel(node))
    routed = NodeNetwork({"headgate-network": "routed", "headgate-revision": "c3"})
    written(node, routed, lambda: not has_tunnel(node))
    assert ids(node) == routed.external_ids


def test_a_flat_network_removes_what_a_routing_one_has_set(node: Node) -> None:
    keep_operators(node)
    written(node, SETTINGS, lambda: has_tunnel(node))
    count = written(node, None, lambda: not has_tunnel(node), routes=False)
    assert ids(node) == OPERATORS
    assert written(node, None, lambda: True, routes=False) == count


def test_nothing_is_changed_while_it_is_not_known_what_there_must_be(node: Node) -> None:
    count = written(node, SETTINGS, lambda: has_tunnel(node))
    assert written(node, None, lambda: True) == count


def test_what_somebody_else_changes_is_restored(node: Node, core: EventCollector) -> None:
    with ovsdb_service(core, [node.remote], routes=True) as ovsdb:
        until(core.synced)
        ovsdb.set_network(node.remote, "br-int", SETTINGS)
        until(lambda: has_tunnel(node))
        node.vsctl(
            "set", "Bridge", "br-int", "external_ids:headgate-mtu=9000", "external_ids:headgate-node-ips=1.2.3.4"
        )
        until(lambda: ids(node) == SETTINGS.external_ids, "restored")
        node.vsctl("set", "Interface", "headgate-tun", "options:remote_ip=198.51.100.66")
        until(lambda: tunnel(node)[1] == "{key=0, remote_ip=flow}", "restored")
        node.vsctl("del-port", "br-int", "headgate-tun")
        until(lambda: has_tunnel(node), "restored")


def test_a_port_of_that_name_elsewhere_is_left_alone_and_told(node: Node, core: EventCollector) -> None:
    node.add_bridge("br-other")
    node.vsctl("add-port", "br-other", "headgate-tun", "--", "set", "Interface", "headgate-tun", "type=internal")
    with ovsdb_service(core, [node.remote], routes=True) as ovsdb:
        until(core.synced)
        ovsdb.set_network(node.remote, "br-int", SETTINGS)
        until(lambda: ids(node) == SETTINGS.external_ids)
        settle(ovsdb)
        assert any("del-port headgate-tun" in note for note in ovsdb.status()[0].notes)
    assert node.vsctl("port-to-br", "headgate-tun").strip() == "br-other"


def test_what_the_node_says_of_itself_is_short_and_printable(node: Node, core: EventCollector) -> None:
    def seen() -> BridgeState:
        found = core.bridge()
        assert found is not None
        return found

    with ovsdb_service(core, [node.remote], routes=True):
        until(core.synced)
        assert (seen().node_revision, seen().node_missing) == ("", "")
        node.vsctl("set", "Open_vSwitch", ".", "external_ids:headgate-node-ready=a1",
                   "external_ids:headgate-node-missing=\"nft is missing: apt install nftables\"")  # fmt: skip
        until(lambda: seen().node_revision == "a1")
        assert seen().node_missing == "nft is missing: apt install nftables"
        node.vsctl("set", "Open_vSwitch", ".", f"external_ids:headgate-node-ready={'x' * 5000}",
                   f"external_ids:headgate-node-missing=\"{'y' * 9000}\"")  # fmt: skip
        until(lambda: seen().node_revision == "x" * 64)
        assert seen().node_missing == "y" * 1000
        node.vsctl("set", "Open_vSwitch", ".", 'external_ids:headgate-node-missing="\\u001b[2Jgone\\n"')
        until(lambda: "gone" in seen().node_missing)
        assert seen().node_missing.isprintable()


def test_a_tunnel_of_the_operator_stays_where_none_is_needed() -> None:
    theirs = TunnelRow("p", "i", "geneve", {"remote_ip": "192.0.2.1"}, ours=False)
    assert plan_network(NetworkRows("b", "br-int", {}, theirs), NO_NETWORK) == []
