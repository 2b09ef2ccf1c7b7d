"""Services from the cluster to the switches: what a change costs, what it leaves alone, and what is told."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from controller.reconcile.commands import SendBundle
from controller.reconcile.events import ClusterChanged
from controller.reconcile.service_problems import MAX_SERVICE_PROBLEMS, service_problems
from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.bridge.routing import NetworkMode
from flows.bridge.state import BridgeState
from flows.cluster.model import (
    Cluster,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Key,
    Node,
    Protocol,
    Service,
    ServicePort,
)
from flows.cluster.net import Net, parse_address, parse_network
from flows.plan.encoder import EncodedPort, FlowEncoder
from flows.services import limits
from flows.services.frontends import host_port_key
from flows.services.index import ServiceIndex
from flows.services.sctp import without_sctp
from flows.services.served import ServedPort
from flows.wire import groups as wire_groups
from flows.wire.values import WireGroup
from tests.helpers.controller.reconcile_driver import Driver, ValueSwitch

ROUTED = NetworkOptions(NetworkMode.ROUTED, service_cidrs=(parse_network("10.96.0.0/16"),))
TCP, UDP = Protocol.TCP, Protocol.UDP
WEB, API = Key("shop", "web"), Key("shop", "api")
NAMES = ("one", "two")
EXTERNAL = parse_address("198.51.100.7")


def service(key: Key, last: int, protocol: Protocol = TCP, **more: Any) -> Service:
    return Service(key, (Net(4, 0x0A600000 + last, 32),), (ServicePort("", protocol, 80),))._replace(**more)


def slice_of(key: Key, *hosts: int, protocol: Protocol = TCP, **more: Any) -> EndpointSlice:
    endpoints = tuple(Endpoint(Net(4, 0x0A000000 + host, 32))._replace(**more) for host in hosts)
    return EndpointSlice(Key(key.namespace, f"{key.name}-1"), key.name, endpoints, (EndpointPort("", protocol, 8080),))


def cluster(*objects: Service | EndpointSlice, zones: tuple[str, str] = ("", "")) -> Cluster:
    nodes = {name: Node(name, (Net(4, 0xC0000201 + n, 32),), zone=zones[n]) for n, name in enumerate(NAMES)}
    services = {one.key: one for one in objects if isinstance(one, Service)}
    slices = {one.key: one for one in objects if isinstance(one, EndpointSlice)}
    return Cluster(
        nodes=MappingProxyType(nodes),
        services=MappingProxyType(services),
        endpoint_slices=MappingProxyType(slices),
    )


class Play:
    """Two nodes with their switches, and Services that come and go."""

    def __init__(
        self, network: NetworkOptions = ROUTED, datapath_types: tuple[str, str] = ("netdev", "netdev")
    ) -> None:
        self.driver = Driver(network=network)
        for number, name in enumerate(NAMES, 1):
            self.driver.send()
            kind = datapath_types[number - 1]
            self.driver.core.world.set_bridge(BridgeState("db", f"br-{name}", number, name, datapath_type=kind))
        self.driver.send(ClusterChanged(cluster()))
        self.driver.sync()
        for number, _ in enumerate(NAMES, 1):
            self.driver.connect(number)
        self.empty = [dict(switch.flows) for switch in self.switches]

    @property
    def switches(self) -> list[ValueSwitch]:
        return [self.driver.switches[number] for number in (1, 2)]

    def step(self, *objects: Service | EndpointSlice, **more: tuple[str, str]) -> list[SendBundle]:
        """The cluster has these now; returns the bundles that this cost."""
        seen = self.driver.send(ClusterChanged(cluster(*objects, **more)))
        return [one for one in seen if isinstance(one, SendBundle)]

    def targets(self, number: int = 0) -> list[str]:
        """The endpoints in a switch's groups."""
        found = (
            target
            for one in self.switches[number].groups.items()
            for target in wire_groups.nat_targets(WireGroup(*one))
        )
        return sorted(f"{Net(4, target.address, 32)}:{target.port}" for target in found)

    def contained(self) -> list[tuple[str, str]]:
        return [(one.key, one.field) for one in self.driver.core.contained_problems()]


def test_a_service_comes_to_every_switch_and_goes() -> None:
    play = Play()
    play.step(service(WEB, 5), slice_of(WEB, 1, 2))
    assert play.targets(0) == play.targets(1) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert play.switches[0].groups == play.switches[1].groups
    play.step()
    assert [switch.flows for switch in play.switches] == play.empty
    assert [switch.groups for switch in play.switches] == [{}, {}]


def test_in_mode_flat_services_do_nothing() -> None:
    play = Play(FLAT_NETWORK)
    assert play.step(service(WEB, 5), slice_of(WEB, 1)) == []
    assert [switch.flows for switch in play.switches] == play.empty
    assert list(service_problems(play.driver.core.world)) == []


def test_an_endpoint_costs_one_group_of_each_switch_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    play.step(service(WEB, 5), slice_of(WEB, 1, 2), service(API, 6), slice_of(API, 3))
    rendered: list[str] = []
    render = FlowEncoder.service_port

    def counted(encoder: FlowEncoder, served: ServedPort, *rest: Any) -> EncodedPort:
        rendered.append(served.name)
        return render(encoder, served, *rest)

    monkeypatch.setattr(FlowEncoder, "service_port", counted)
    bundles = play.step(service(WEB, 5), slice_of(WEB, 1, 2, 4), service(API, 6), slice_of(API, 3))
    assert [(bundle.dpid, len(bundle.groups.modifies), bool(bundle.changes)) for bundle in bundles] == [
        (1, 1, False),
        (2, 1, False),
    ]
    assert rendered == ["shop/web:80/TCP"]


def test_the_last_endpoint_of_udp_goes_and_its_connections_end() -> None:
    play = Play()
    play.step(service(WEB, 5, UDP), slice_of(WEB, 1, 2, protocol=UDP))
    play.step(service(WEB, 5, UDP), slice_of(WEB, 1, protocol=UDP))
    assert [target.address for target in play.switches[0].flushed] == [0x0A000002]
    play.step(service(WEB, 5, UDP))
    assert [target.address for target in play.switches[0].flushed] == [0x0A000002, 0x0A000001]
    assert play.switches[0].groups == {}


def test_hints_choose_by_the_zone_of_the_node() -> None:
    play = Play()
    east, west = slice_of(WEB, 1, zones=("east",)), slice_of(WEB, 2, zones=("west",))
    west = west._replace(key=Key("shop", "web-2"))
    play.step(service(WEB, 5), east, west, zones=("east", "west"))
    assert (play.targets(0), play.targets(1)) == (["10.0.0.1:8080"], ["10.0.0.2:8080"])
    bundles = play.step(service(WEB, 5), east, west, zones=("west", "west"))
    assert [bundle.dpid for bundle in bundles] == [1]
    assert play.targets(0) == ["10.0.0.2:8080"]


def test_services_that_share_an_external_address_share_its_flow() -> None:
    play = Play()
    shared: dict[str, Any] = {"external_ips": (EXTERNAL,)}
    other = service(API, 6, **shared)._replace(ports=(ServicePort("", TCP, 81),))
    slices = slice_of(WEB, 1), slice_of(API, 2)
    play.step(service(WEB, 5, **shared), *slices)
    alone = len(play.switches[0].flows)
    play.step(service(WEB, 5, **shared), other, *slices)
    assert len(play.switches[0].flows) == alone + 2
    play.step(other, *slices)
    assert len(play.switches[0].flows) == alone
    play.step()
    assert play.switches[0].flows == play.empty[0]


def test_a_port_that_cannot_be_rendered_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    monkeypatch.setattr(wire_groups, "MOST_BODY_BYTES", 200)
    few = service(API, 6), slice_of(API, 9)
    play.step(service(WEB, 5), slice_of(WEB, 1, 2, 3, 4), *few)
    assert play.targets() == ["10.0.0.9:8080"]
    assert play.contained() == [("Service shop/web", "port 80")]
    play.step(service(WEB, 5), slice_of(WEB, 1), *few)
    assert play.targets() == ["10.0.0.1:8080", "10.0.0.9:8080"] and play.contained() == []


@pytest.mark.parametrize("broken", ["put_service", "put_slice", "_serve"])
def test_an_object_that_raises_stops_only_itself(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    play = Play()
    sound = getattr(ServiceIndex, broken)

    def raises(index: ServiceIndex, key: Key, *rest: object) -> object:
        if key.name.startswith("web") and rest != (None,):
            raise ArithmeticError("made up")
        return sound(index, key, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(ServiceIndex, broken, raises)
        play.step(service(WEB, 5), slice_of(WEB, 1), service(API, 6), slice_of(API, 9))
        assert play.targets() == ["10.0.0.9:8080"]
        problems = [
            one.key for one in (*play.driver.core.contained_problems(), *service_problems(play.driver.core.world))
        ]
        assert len(problems) == 1 and "shop/web" in problems[0]
    play.step(service(WEB, 5), slice_of(WEB, 1, 2), service(API, 6), slice_of(API, 9))
    play.step(service(WEB, 5, internal_local=False, affinity_seconds=0, external_ips=(EXTERNAL,)),
              slice_of(WEB, 1), service(API, 6), slice_of(API, 9))  # fmt: skip
    assert play.targets() == ["10.0.0.1:8080", "10.0.0.9:8080"]


def test_a_service_with_too_many_flows_is_cut_and_told() -> None:
    ranges = tuple(Net(4, n << 8, 24) for n in range(1, 400))
    balancers = tuple(Net(4, 0xC6336400 + n, 32) for n in range(100))
    large = service(WEB, 5, ingress_ips=balancers, source_ranges=ranges)
    play = Play()
    play.step(large, slice_of(WEB, 1), service(API, 6), slice_of(API, 9))
    assert play.targets() == ["10.0.0.9:8080"]
    (problem,) = service_problems(play.driver.core.world)
    assert (problem.key, "more than 16384 flows" in problem.reason) == ("Service shop/web", True)


def test_what_all_services_cost_together_is_limited_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes later takes nothing away, and gets room when there is some."""
    monkeypatch.setattr(limits, "MAX_COST_OF_NEW", 5)  # one port of two endpoints costs four
    monkeypatch.setattr(limits, "MAX_COST", 6)
    play = Play()
    web = service(WEB, 5), slice_of(WEB, 1, 2)
    play.step(*web)
    play.step(*web, service(API, 6), slice_of(API, 3))
    assert play.targets(0) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    (problem,) = service_problems(play.driver.core.world)
    assert (problem.key, problem.reason.partition(":")[0]) == ("Service shop/api", "nothing of it is served")
    play.step(service(WEB, 5), slice_of(WEB, 1, 2, 4), service(API, 6), slice_of(API, 3))
    assert len(play.targets(0)) == 3
    play.step(service(API, 6), slice_of(API, 3))
    assert play.targets(0) == play.targets(1) == ["10.0.0.3:8080"]
    assert list(service_problems(play.driver.core.world)) == []


@pytest.mark.parametrize(
    ("datapath_types", "told"),
    [(("", "system"), ()), (("system", "netdev"), ("two",)), (("netdev", "netdev"), ("one, two",))],
)
def test_sctp_is_told_where_a_node_does_not_translate_it(datapath_types: tuple[str, str], told: tuple[str]) -> None:
    play = Play(datapath_types=datapath_types)
    play.step(service(WEB, 5, Protocol.SCTP), slice_of(WEB, 1, protocol=Protocol.SCTP), service(API, 6))
    world = play.driver.core.world
    found = [(one.key, one.reason) for one in service_problems(world)]
    reason = "with the userspace datapath SCTP is refused at nodes: "
    assert found == [("Service shop/web", reason + names) for names in told]
    for number, name in enumerate(NAMES, 1):  # the nodes are installed anew
        world.set_bridge(BridgeState("db", f"br-{name}", number, name, datapath_type="system"))
    assert list(service_problems(world)) == []
    play.step(service(WEB, 5), slice_of(WEB, 1))
    world.set_bridge(BridgeState("db", "br-one", 1, "one", datapath_type="netdev"))
    assert list(service_problems(world)) == []


def test_many_nodes_and_host_ports_are_told_in_short() -> None:
    nodes = [f"n{number}" for number in range(1, 6)]
    assert without_sctp(WEB, nodes).endswith(": n1, n2, n3 and 2 more")
    assert "host ports of SCTP" in without_sctp(host_port_key(WEB), nodes)


def test_only_the_first_problems_are_listed() -> None:
    play = Play()
    thief = tuple(service(Key("x", f"s{n}"), 6 + n, external_ips=(Net(4, 0x0A600005, 32),)) for n in range(1100))
    play.step(service(WEB, 5), *thief)
    found = list(service_problems(play.driver.core.world))
    assert len(found) == MAX_SERVICE_PROBLEMS + 1 and "more Services" in found[-1].reason
