"""Services on the real userspace datapath: every packet goes where the choice of endpoints says, and comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from flows.cluster.model import Direction, Protocol
from flows.cluster.net import Net, parse_address, parse_network
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import ACK, RST, SYN, icmp_error, transport
from flows.pipeline.gateway import GATEWAY_MAC
from flows.pipeline.pod_limits import Limit, meter_number
from flows.policy.rule import NodePolicy
from flows.render.flow_set import FlowSet
from flows.render.service_ports import PortNumbers, render_service_port
from flows.services.choice import choose
from flows.services.limits import MAX_BUCKETS
from flows.wire.groups import decode_group, encode_group
from tests.helpers.datapath.service_switch import (
    BINDING,
    CLIENT,
    EXTERNAL,
    LOCAL_MAC,
    NODE,
    NODE_HAIRPIN,
    NODE_PORT,
    OUTSIDE,
    POD_HAIRPIN,
    PODS,
    TCP,
    UDP,
    VIP,
    Switch,
    backend,
    frame,
    mac,
    pod_address,
    read_frame,
    served,
)  # fmt: skip
from tests.helpers.ovs.open_vswitch import open_vswitch

pytestmark = pytest.mark.switch

VERSIONS = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def switch() -> Iterator[Switch]:
    with open_vswitch() as ovs:
        yield Switch(ovs)


@pytest.fixture(autouse=True)
def _flush(switch: Switch) -> None:
    switch.bridge.switch.appctl("dpctl/flush-conntrack")


@VERSIONS
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("target", [VIP, EXTERNAL, NODE_PORT, NODE])
def test_a_pod_reaches_an_endpoint_and_gets_its_answer(
    switch: Switch, version: int, protocol: Protocol, target: dict[int, Net]
) -> None:
    client, endpoint, address = pod_address(1, version), pod_address(2, version), target[version]
    switch.install(served(version, backend(endpoint), protocol=protocol))
    number = 30080 if target in (NODE_PORT, NODE) else 80
    for flags, reply in ((SYN, SYN | ACK), (ACK, ACK)):
        asked = switch.send(1, client, address, 4000, number, flags, protocol)
        assert asked == frame("p2", client, endpoint, 4000, 8080)
        answered = switch.send(2, endpoint, client, 8080, 4000, reply, protocol)
        assert answered == frame("p1", address, client, number, 4000)
    # The endpoint itself is reached as ever.
    asked = switch.send(1, client, endpoint, 4001, 8080, SYN, protocol)
    assert asked == frame("p2", client, endpoint, 4001, 8080)
    answered = switch.send(2, endpoint, client, 8080, 4001, SYN | ACK, protocol)
    assert answered == frame("p1", endpoint, client, 8080, 4001)


@VERSIONS
def test_connections_spread_and_stay(switch: Switch, version: int) -> None:
    client = pod_address(1, version)
    switch.install(served(version, *(backend(pod_address(n, version)) for n in (2, 3))))
    chosen = {sport: switch.send(1, client, VIP[version], sport, 80)[0] for sport in range(5000, 5040)}
    assert {one.port for one in chosen.values()} == {"p2", "p3"}
    # With one endpoint gone, its connections stay where they are; new ones go to the other.
    for sport, one in chosen.items():
        endpoint = pod_address(int(one.port[1]), version)
        switch.send(int(one.port[1]), endpoint, client, 8080, sport, SYN | ACK)
    switch.install(served(version, backend(pod_address(2, version))))
    for sport, one in chosen.items():
        assert switch.send(1, client, VIP[version], sport, 80, ACK) == [one]
        assert switch.send(1, client, VIP[version], sport + 1000, 80)[0].port == "p2"


@VERSIONS
def test_the_most_endpoints_fit_one_message(switch: Switch, version: int) -> None:
    base = pod_address(2, version)
    backends = [backend(base._replace(value=base.value + n * 256)) for n in range(MAX_BUCKETS)]
    one = served(version, *backends)
    (group,) = render_service_port(FlowSet(), one, choose(one.service, one.port, backends, "n1", ""), PortNumbers(1, 2))
    assert decode_group(encode_group(group)) == group


@VERSIONS
def test_a_pod_reaches_itself(switch: Switch, version: int) -> None:
    pod, hairpin, vip = pod_address(1, version), POD_HAIRPIN[version], VIP[version]
    isolated = NodePolicy({PODS[0].pod: frozenset({Direction.EGRESS, Direction.INGRESS})}, ())
    switch.install(served(version, backend(pod)), policy=isolated)
    for flags in (SYN, ACK):
        assert switch.send(1, pod, vip, 4000, 80, flags) == frame("p1", hairpin, pod, 4000, 8080)
        assert switch.send(1, pod, hairpin, 8080, 4000, flags | ACK) == frame("p1", vip, pod, 80, 4000)
    # Nothing else uses that address.
    assert switch.send(1, pod, hairpin, 8080, 4001, SYN) == []
    assert switch.send(2, pod_address(2, version), hairpin, 8080, 4000, ACK) == []


@VERSIONS
def test_policy_sees_the_endpoint_and_the_real_source(switch: Switch, version: int) -> None:
    client, endpoint = pod_address(1, version), pod_address(2, version)
    one = served(version, backend(endpoint))
    switch.install(one)
    assert switch.send(1, client, VIP[version], 4000, 80) == frame("p2", client, endpoint, 4000, 8080)
    assert switch.send(2, endpoint, client, 8080, 4000, SYN | ACK) != []
    for pod, direction in ((PODS[0], Direction.EGRESS), (PODS[1], Direction.INGRESS)):
        switch.install(one, policy=NodePolicy({pod.pod: frozenset({direction})}, ()))
        # New connections, and both directions of the old one.
        assert switch.send(1, client, VIP[version], 4100, 80) == []
        assert switch.send(1, client, VIP[version], 4000, 80, ACK) == []
        assert switch.send(2, endpoint, client, 8080, 4000, ACK) == []


@VERSIONS
def test_the_node_reaches_pods_and_itself(switch: Switch, version: int) -> None:
    node, endpoint, vip = NODE[version], pod_address(2, version), VIP[version]
    switch.install(served(version, backend(endpoint)))
    assert switch.send(0, node, vip, 4000, 80) == frame("p2", node, endpoint, 4000, 8080)
    assert switch.send(2, endpoint, node, 8080, 4000, SYN | ACK) == frame("br0", vip, node, 80, 4000)
    for place in (node, OUTSIDE[version]):  # a hostNetwork pod here, and an API server elsewhere
        hairpin = NODE_HAIRPIN[version]
        switch.install(served(version, backend(place)))
        assert switch.send(0, node, vip, 4001, 80) == frame("br0", hairpin, place, 4001, 8080)
        assert switch.send(0, place, hairpin, 8080, 4001, SYN | ACK) == frame("br0", vip, node, 80, 4001)
        switch.bridge.switch.appctl("dpctl/flush-conntrack")
        client = pod_address(1, version)
        assert switch.send(1, client, vip, 4002, 80) == frame("br0", client, place, 4002, 8080)
        assert switch.send(0, place, client, 8080, 4002, SYN | ACK) == frame("p1", vip, client, 80, 4002)
        switch.bridge.switch.appctl("dpctl/flush-conntrack")


@VERSIONS
def test_a_client_outside_keeps_its_address(switch: Switch, version: int) -> None:
    client, endpoint, address = CLIENT[version], pod_address(2, version), NODE_PORT[version]
    for local in (False, True):
        switch.install(served(version, backend(endpoint), external_local=local))
        assert switch.send(0, client, address, 4000, 30080) == frame("p2", client, endpoint, 4000, 8080)
        assert switch.send(2, endpoint, client, 8080, 4000, SYN | ACK) == frame("br0", address, client, 30080, 4000)


@VERSIONS
def test_local_policies_without_an_endpoint_here(switch: Switch, version: int) -> None:
    elsewhere = backend(OUTSIDE[version], "n2")
    switch.install(served(version, elsewhere, external_local=True))
    assert switch.send(0, CLIENT[version], NODE_PORT[version], 4000, 30080) == []
    assert [one.target for one in switch.send(1, pod_address(1, version), NODE_PORT[version], 4000, 30080)] == [
        str(OUTSIDE[version])
    ]
    switch.install(served(version, elsewhere, internal_local=True))
    assert switch.send(1, pod_address(1, version), VIP[version], 4000, 80) == []


@VERSIONS
def test_without_endpoints_the_node_gets_it_to_refuse(switch: Switch, version: int) -> None:
    pod, vip = pod_address(1, version), VIP[version]
    switch.install(served(version))
    assert switch.send(1, pod, vip, 4000, 80) == frame("br0", pod, vip, 4000, 80)
    assert switch.send(0, NODE[version], vip, 4000, 80) == frame("br0", NODE[version], vip, 4000, 80)
    # No Service has this port.
    assert switch.send(1, pod, vip, 4000, 81) == frame("br0", pod, vip, 4000, 81)
    isolated = NodePolicy({PODS[0].pod: frozenset({Direction.EGRESS, Direction.INGRESS})}, ())
    for policy in (NodePolicy({}, ()), isolated):
        switch.install(served(version), policy=policy)
        assert switch.send(0, vip, pod, 80, 4000, RST | ACK) == frame("p1", vip, pod, 80, 4000)
        # Anything else with such a source is what the node forwards from outside.
        assert policy is not isolated or switch.send(0, vip, pod, 80, 4000, SYN) == []


@VERSIONS
@pytest.mark.parametrize("isolated", [False, True])
def test_what_a_pod_opens_through_a_service_passes_its_meter_once(switch: Switch, version: int, isolated: bool) -> None:
    """The Services' zone records a connection before policy does: without the meter there, a pod that policy denies
    everything could fill conntrack."""
    meter = meter_number(Limit.CONNECTIONS, 1)
    switch.bridge.add_meters(meter)
    limited = replace(BINDING, pods=(PODS[0]._replace(limits=(Limit.CONNECTIONS,)), *PODS[1:]))
    policy = NodePolicy({PODS[0].pod: frozenset(Direction)} if isolated else {}, ())
    switch.install(served(version, backend(pod_address(2, version))), policy=policy, binding=limited)
    client = pod_address(1, version)
    for number in range(3):
        for _ in range(2):  # the second is of the same connection
            assert bool(switch.send(1, client, VIP[version], 4000 + number, 80)) != isolated
    assert not isolated or not switch.send(1, client, pod_address(2, version), 5000, 8080)
    ovs, target = switch.bridge.switch, switch.bridge.target
    (count,) = re.findall(r"packet_in_count:(\d+)", ovs.ofctl("meter-stats", target, f"meter={meter}"))
    ovs.ofctl("del-meter", target, f"meter={meter}")
    assert int(count) == 3


@VERSIONS
def test_without_endpoints_policy_judges_what_others_may_have(switch: Switch, version: int) -> None:
    """Anybody may name any address in spec.externalIPs: without an endpoint it is no way past policy to the node."""
    isolated = NodePolicy({PODS[0].pod: frozenset({Direction.EGRESS})}, ())
    for policy, passes in ((NodePolicy({}, ()), True), (isolated, False)):
        for protocol in (TCP, UDP):
            switch.install(served(version, protocol=protocol), policy=policy)
            made = transport(pod_address(1, version), EXTERNAL[version], protocol, 4000, 80, SYN)
            frame_ = replace(made, eth_src=mac(1), eth_dst=GATEWAY_MAC)
            assert list(switch.bridge.inject("p1", encode(frame_))) == (["br0"] if passes else [])


@VERSIONS
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_service_takes_no_replies_to_an_address_that_it_claims(
    switch: Switch, version: int, protocol: Protocol
) -> None:
    """A Service that names a pod's address gets neither the replies to the pod nor its running connections."""
    client, server, thief = (pod_address(number, version) for number in (1, 2, 3))
    switch.install(served(version, backend(thief), protocol=protocol, external_ips=(client, server)))
    for source, target, sport, dport in ((client, server, 80, 9000), (client, server, 4000, 8080)):
        for answer in (False, True):
            ends = (target, source, dport, sport) if answer else (source, target, sport, dport)
            made = transport(*ends[:2], protocol, *ends[2:], SYN | ACK if answer else SYN)
            port = "p2" if answer else "p1"
            out = switch.bridge.inject(
                port, encode(replace(made, eth_src=mac(2 if answer else 1), eth_dst=GATEWAY_MAC))
            )
            assert [read_frame(at, one).source for at, frames in out.items() for one in frames] == [str(ends[0])]
            assert list(out) == ["p1" if answer else "p2"]


@VERSIONS
@pytest.mark.parametrize("isolated", [False, True])
def test_the_nodes_refusal_of_udp_comes_back(switch: Switch, version: int, isolated: bool) -> None:
    pod, vip = pod_address(1, version), VIP[version]
    directions = {PODS[0].pod: frozenset({Direction.EGRESS, Direction.INGRESS})}
    switch.install(served(version, protocol=UDP), policy=NodePolicy(directions if isolated else {}, ()))
    refused = transport(pod, vip, UDP, 4000, 80)
    error = icmp_error(NODE[version], replace(refused, hop_limit=60), 3 if version == 4 else 4)
    made = replace(error, eth_src=LOCAL_MAC, eth_dst=GATEWAY_MAC, hop_limit=60)
    out = switch.bridge.inject("br0", encode(made))
    assert list(out) == ["p1"]
    # Of a client outside, the same is no refusal of the node.
    assert switch.bridge.inject("br0", encode(replace(made, source=CLIENT[version].value))) == {}


@VERSIONS
def test_sources_of_a_load_balancer(switch: Switch, version: int) -> None:
    inside = parse_network("203.0.113.0/24" if version == 4 else "2001:db8::/64")
    other = parse_address("203.0.114.1" if version == 4 else "2001:db8:1::1")
    balancer: dict[str, Any] = {"ingress_ips": (EXTERNAL[version],), "external_ips": (), "source_ranges": (inside,)}
    switch.install(served(version, backend(pod_address(2, version)), **balancer))
    assert len(switch.send(0, CLIENT[version], EXTERNAL[version], 4000, 80)) == 1
    assert switch.send(0, other, EXTERNAL[version], 4000, 80) == []
    assert len(switch.send(0, other, NODE_PORT[version], 4000, 30080)) == 1
