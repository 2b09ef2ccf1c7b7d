"""The nodes of a network that routes: what the status says of them, and what their OVSDBs are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.cli.findings import findings
from controller.cli.output import OutputPage
from controller.cli.status_choice import StatusChoice, of_node
from controller.cli.status_page import show_summary, show_tables
from controller.metrics import gauges
from controller.metrics.registry import Metrics
from controller.reconcile.commands import Command, SetNetwork
from controller.reconcile.events import BridgeChanged, BridgeGone, ClusterChanged, Event, OvsdbState, SwitchDown
from controller.reconcile.reconciler import Reconciler
from controller.runtime.status_cache import StatusCache
from controller.status import node_views as words
from controller.status.missing import unrealized
from controller.status.model import NO_CONNECTION, NodeView, StatusView
from controller.status.pod_views import NO_BANDWIDTH
from controller.status.reference import node_views
from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.bridge.routing import NetworkMode
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Node, Pod
from flows.cluster.net import parse_address, parse_network
from tests.helpers.controller.reconcile_driver import port
from tests.helpers.controller.status_driver import StatusDriver

OVERLAY = NetworkOptions(NetworkMode.OVERLAY, service_cidrs=(parse_network("10.96.0.0/12"),))
TUNNEL = port("headgate-tun", 5)


def node(number: int, cidr: str = "") -> Node:
    return Node(f"n{number}", (parse_address(f"192.0.2.{number}"),), (parse_network(cidr or f"10.244.{number}.0/24"),))


def bridge(number: int, **fields: object) -> BridgeState:
    made = BridgeState(f"o{number}", "br-int", number, f"n{number}", datapath_type="netdev", interfaces=(TUNNEL,))
    return replace(made, **fields)  # type: ignore[arg-type]  # its own fields


class Net(StatusDriver):
    """A controller of two nodes, of which the first has a switch."""

    def __init__(self, options: NetworkOptions = OVERLAY) -> None:
        super().__init__()
        self.core = Reconciler(("o1",), 0.0, network=options)
        self.metrics = Metrics("1", "native")
        self.cache = StatusCache(self, self.metrics, lambda: 0)
        self.handled = self.cache.handled
        self.told: list[SetNetwork] = []
        self.nodes({}, node(1), node(2))
        self.bridge_is(bridge(1))
        self.send(OvsdbState("o1", True))
        self.connect(1)

    def send(self, *events: Event) -> list[Command]:
        commands = super().send(*events)
        self.told += [one for one in commands if isinstance(one, SetNetwork) and one not in self.told]
        return commands

    def nodes(self, _: object, *nodes: Node) -> None:
        self.send(ClusterChanged(Cluster(nodes={one.name: one for one in nodes}), generation=1))

    def bridge_is(self, state: BridgeState) -> None:
        self.send(BridgeChanged(state))

    def apply(self, number: int) -> None:
        """The node applies the settings that it was told, as its own program does."""
        told = [one.network for one in self.told if one.ovsdb == f"o{number}"][-1]
        assert told is not None
        self.bridge_is(bridge(number, node_revision=told.external_ids["headgate-revision"]))

    def view(self) -> dict[str, NodeView]:
        views = self.cache._read().nodes
        assert views == node_views(self.core)
        return {one.node: one for one in views}


@pytest.fixture
def net() -> Net:
    return Net()


def test_a_flat_network_has_no_nodes_to_show_and_tells_nothing() -> None:
    net = Net(FLAT_NETWORK)
    assert not net.view() and not net.told


def test_a_node_is_ready_once_it_has_applied_what_it_was_told() -> None:
    net = Net()
    assert net.view()["n1"] == NodeView(
        "n1", "overlay", "br-int", "192.0.2.1", ("10.244.1.0/24",), ("192.0.2.1",), False, (words.NOT_SET_UP,)
    )
    net.apply(1)
    assert net.view()["n1"].ready and net.view()["n1"].missing == ()


def test_a_node_without_a_switch_is_told_how_to_get_one() -> None:
    assert Net().view()["n2"].missing == (
        "no Open vSwitch of this node is known: run deploy/node.sh --cni --name n2 there",
    )


def test_settings_that_change_make_the_node_not_ready_until_it_applies_them() -> None:
    net = Net()
    net.apply(1)
    net.nodes({}, node(1), node(2), node(3))
    assert net.view()["n1"].missing == (words.OLD_SETTINGS,)
    net.apply(1)
    assert net.view()["n1"].ready


def test_what_the_node_says_it_lacks_is_shown() -> None:
    net = Net()
    net.bridge_is(bridge(1, node_missing="nft is missing: apt install nftables"))
    assert net.view()["n1"].missing == ("the node says: nft is missing: apt install nftables",)


def test_a_tunnel_that_the_switch_could_not_make_is_told() -> None:
    net = Net()
    net.bridge_is(bridge(1, interfaces=()))
    assert net.view()["n1"].missing == (words.NO_TUNNEL_PORT, words.NOT_SET_UP)


def test_a_node_that_claims_anothers_range_and_address_is_told_and_changes_nothing_for_it() -> None:
    net = Net()
    net.apply(1)
    before, told = net.view()["n1"], len(net.told)
    thief = Node("a", node(1).addresses, node(1).pod_cidrs, "2000-01-01T00:00:00Z")
    net.nodes({}, node(1), node(2), thief)
    assert net.view()["n1"] == before and len(net.told) == told
    assert net.view()["a"].pod_cidrs == () and "refused: it is that of n1 already" in net.view()["a"].missing[0]


def test_a_switch_that_is_not_served_is_told_nothing() -> None:
    net = Net()
    net.bridge_is(replace(bridge(1), ovsdb="rogue", name="br-x"))
    assert {one.ovsdb for one in net.told} == {"o1"}
    net.send(BridgeGone("o1", "br-int"), BridgeGone("rogue", "br-x"))
    assert net.told[-1] == SetNetwork("o1", "br-int", None)
    assert "no Open vSwitch" in net.view()["n1"].missing[0]


def test_settings_are_told_once_and_again_when_they_differ() -> None:
    net = Net()
    assert [one.bridge for one in net.told] == ["br-int"]
    net.bridge_is(bridge(1, node_missing="x"))
    net.nodes({}, node(1), node(2))
    assert len(net.told) == 1
    net.nodes({}, node(1, "10.244.9.0/24"), node(2))
    assert len(net.told) == 2


def test_a_node_whose_switch_has_no_connection_is_not_ready_and_listed_once(net: Net) -> None:
    net.apply(1)
    net.send(SwitchDown(1, 1))
    assert net.view()["n1"].missing == (NO_CONNECTION,)
    assert not [one for one in findings(status(net)) if one.name == "n1"]
    lines = [line for line in unrealized(net.core, net.core.revision) if "n1" in line]
    assert lines == ["n1 (br-int): the switch has no OpenFlow connection to this controller"]


def test_waiting_names_nodes_until_they_are_ready(net: Net) -> None:
    def waited() -> list[str]:
        return [line for line in unrealized(net.core, net.core.revision) if line.startswith("node ")]

    assert waited() == [
        f"node n1: {words.NOT_SET_UP}",
        "node n2: no Open vSwitch of this node is known: run deploy/node.sh --cni --name n2 there",
    ]
    net.apply(1)
    net.nodes({}, node(1))
    assert waited() == [f"node n1: {words.OLD_SETTINGS}"]
    net.apply(1)
    assert waited() == []


def test_a_flat_network_waits_for_no_node() -> None:
    net = Net(FLAT_NETWORK)
    assert not [line for line in unrealized(net.core, net.core.revision) if line.startswith("node ")]


def ready_series(net: Net) -> dict[str, float]:
    net.cache._read()
    net.cache._gauges.set()
    families = {one.name: one for one in net.metrics.registry.collect()}
    return {sample.labels["node"]: sample.value for sample in families["headgate_node_ready"].samples}


def test_a_series_says_whether_a_node_is_ready_and_goes_with_it(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready_series(net) == {"n1": 0, "n2": 0}
    net.apply(1)
    assert ready_series(net) == {"n1": 1, "n2": 0}
    net.nodes({}, node(1))
    net.apply(1)
    assert ready_series(net) == {"n1": 1}
    monkeypatch.setattr(gauges, "MAX_NODES", 3)
    net.nodes({}, *(node(number) for number in range(1, 9)), replace(node(9), name="m" * 2000))
    assert set(ready_series(net)) == {"m" * 253, "n1", "n2"}
    assert not ready_series(Net(FLAT_NETWORK))


def bandwidth_findings(net: Net, limits: bool) -> list[str]:
    key = Key("x", "a")
    pod = Pod(key, {}, "n1", "", (parse_address("10.244.1.5"),), limits_bandwidth=limits)
    net.send(ClusterChanged(Cluster(nodes={"n1": node(1)}, pods={key: pod}), generation=2))
    ids = {"attached-mac": "02:00:00:00:00:05", "headgate-installed": "true"}
    net.bridge_is(bridge(1, interfaces=(TUNNEL, port("p1", 7, "x/a", **ids))))
    views = net.cache._read()
    assert [one.key for one in views.pods] == ["x/a"]
    return [one.reason for one in views.pods]


def test_a_pod_that_asks_for_a_bandwidth_is_told_that_it_has_none(net: Net) -> None:
    assert bandwidth_findings(net, False) == [""]
    assert bandwidth_findings(net, True) == [NO_BANDWIDTH]
    assert bandwidth_findings(net, False) == [""]
    assert bandwidth_findings(Net(FLAT_NETWORK), True) == [""]  # another CNI plugin may see to it


def status(net: Net) -> StatusView:
    return StatusView("1", 1.0, nodes=net.cache._read().nodes)


def test_the_command_lists_the_nodes_and_counts_what_they_lack(capsys: pytest.CaptureFixture[str]) -> None:
    view = status(Net())
    assert [(one.kind, one.name, one.node) for one in findings(view)] == [("node", "n1", "n1"), ("node", "n2", "n2")]
    show_tables(OutputPage(), view, StatusChoice(("nodes",)))
    printed = capsys.readouterr().out
    for word in ("TUNNEL END", "192.0.2.1", "10.244.1.0/24", "overlay", "not ready", "deploy/node.sh"):
        assert word in printed
    show_summary(OutputPage(), view, StatusChoice())
    assert "2 not ready" in capsys.readouterr().out


def test_one_node_is_shown_alone() -> None:
    assert [one.node for one in of_node(status(Net()), "n2").nodes] == ["n2"]
