"""Endpoints without a group on the real userspace datapath: session affinity, and ports with very many endpoints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows.cluster.model import Protocol
from flows.cluster.net import Net, parse_address
from flows.interpret.packet import ACK, SYN
from flows.openflow.actions import Ct, Load
from flows.pipeline import affinity
from flows.pipeline.group_numbers import group_id
from flows.pipeline.registers import ENDPOINT_ADDRESS, ENDPOINT_INDEX, ENDPOINT_PORT, SERVICE_PORT
from flows.render.flow_set import FlowSet
from flows.render.service_endpoints import render_endpoints
from flows.services.choice import Backend, Target
from tests.helpers.datapath.service_switch import (
    CLIENT,
    EXTERNAL,
    NODE,
    NODE_PORT,
    TCP,
    UDP,
    VIP,
    Frame,
    Switch,
    backend,
    frame,
    pod_address,
    served,
)  # fmt: skip
from tests.helpers.ovs.open_vswitch import open_vswitch
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch

VERSIONS = pytest.mark.parametrize("version", [4, 6])
LOOK_UP = (SERVICE_PORT, ENDPOINT_PORT, ENDPOINT_INDEX, *ENDPOINT_ADDRESS)
BOTH = pytest.mark.parametrize("protocol", [TCP, UDP])


@pytest.fixture(scope="module")
def switch() -> Iterator[Switch]:
    with open_vswitch() as ovs:
        yield Switch(ovs)


@pytest.fixture(autouse=True)
def _flush(switch: Switch) -> None:
    switch.bridge.switch.appctl("dpctl/flush-conntrack")


def elsewhere(number: int, version: int) -> Net:
    """The address of an endpoint that is reached through the node."""
    base = parse_address("192.0.3.0" if version == 4 else "fd10:1::")
    return base._replace(value=base.value + number)


def many(count: int, version: int) -> list[Backend]:
    return [backend(elsewhere(n, version)) for n in range(count)]


def targets(frames: list[Frame]) -> set[str]:
    return {one.target for one in frames}


@VERSIONS
@BOTH
def test_a_client_keeps_its_endpoint(switch: Switch, version: int, protocol: Protocol) -> None:
    switch.install(served(version, *many(20, version), protocol=protocol, affinity_seconds=600))
    own = {}
    for port, source, target, number in (
        (1, pod_address(1, version), VIP[version], 80),
        (2, pod_address(2, version), VIP[version], 80),
        (3, pod_address(3, version), EXTERNAL[version], 80),
        (0, CLIENT[version], NODE_PORT[version], 30080),
        (0, NODE[version], VIP[version], 80),
    ):
        sent = switch.send_all(port, source, target, range(4000, 4100), number, proto=protocol)
        assert len(sent) == 100
        (own[source],) = targets(sent)
    # One address of the Service is like another.
    again = switch.send(1, pod_address(1, version), NODE_PORT[version], 5000, 30080, proto=protocol)
    assert targets(again) == {own[pod_address(1, version)]}
    assert len(switch.learned()) == len(own)


@VERSIONS
def test_a_reply_comes_from_the_service(switch: Switch, version: int) -> None:
    client, endpoint, vip = pod_address(1, version), pod_address(2, version), VIP[version]
    for seconds in (60, 0):
        more = [] if seconds else many(600, version)
        one = served(version, backend(endpoint), *more, affinity_seconds=seconds)
        switch.install(one)
        for sport in range(4000, 4000 + 40 * len(one.backends)):
            sent = switch.send(1, client, vip, sport, 80)
            if sent == frame("p2", client, endpoint, sport, 8080):
                break
        else:
            pytest.fail("the endpoint is never reached")
        for flags in (SYN | ACK, ACK):
            assert switch.send(2, endpoint, client, 8080, sport, flags) == frame("p1", vip, client, 80, sport)
            assert switch.send(1, client, vip, sport, 80, ACK) == sent


@VERSIONS
def test_affinity_outlives_changes_of_other_endpoints(switch: Switch, version: int) -> None:
    client, vip, endpoints = pod_address(1, version), VIP[version], many(20, version)
    switch.install(served(version, *endpoints, affinity_seconds=600))
    (own,) = targets(switch.send(1, client, vip, 4000, 80))
    mine = next(one for one in endpoints if str(one.endpoint.address) == own)
    # Half of the others go, and more come: every place in the list is another one's now.
    more = [*(one for one in endpoints[::2] if one != mine), mine, *many(50, version)[25:]]
    switch.install(served(version, *sorted(more), affinity_seconds=600), keep=True)
    assert targets(switch.send_all(1, client, vip, range(4100, 4150), 80)) == {own}
    # Its own goes: another one is chosen, and kept.
    more.remove(mine)
    switch.install(served(version, *sorted(more), affinity_seconds=600), keep=True)
    (other,) = targets(switch.send_all(1, client, vip, range(4200, 4250), 80))
    assert other != own
    # It comes back, and the client stays where it is.
    switch.install(served(version, *sorted([*more, mine]), affinity_seconds=600), keep=True)
    assert targets(switch.send_all(1, client, vip, range(4300, 4350), 80)) == {other}
    assert len(switch.learned()) == 1


@VERSIONS
def test_affinity_ends_after_its_timeout(switch: Switch, version: int) -> None:
    switch.install(served(version, *many(200, version), affinity_seconds=1))
    chosen: set[str] = set()
    for sport in range(4000, 4010):
        client = pod_address(1, version)
        chosen |= targets(switch.send_all(1, client, VIP[version], range(sport, sport + 5000, 1000), 80))
        until(lambda: not switch.learned(), "the learned flow ends")
        if len(chosen) > 1:
            return
    pytest.fail(f"ten times the client got {chosen}")


@VERSIONS
def test_ports_and_policies_have_affinity_of_their_own(switch: Switch, version: int) -> None:
    other = VIP[version]._replace(value=VIP[version].value + 1)
    ports = [
        served(version, *many(200, version), affinity_seconds=600, cluster_ips=(vip,)) for vip in (VIP[version], other)
    ]
    switch.install(*(one._replace(frontends=one.frontends[:1]) for one in ports))
    client = pod_address(1, version)
    for vip in (VIP[version], other):
        assert len(targets(switch.send_all(1, client, vip, range(4000, 4020), 80))) == 1
    assert len(switch.learned()) == 2


def test_clients_beyond_the_limit_have_no_affinity(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "MOST_OF_POOL", 3)
    switch.install(served(4, *many(200, 4), affinity_seconds=600))
    clients = [CLIENT[4]._replace(value=CLIENT[4].value + n) for n in range(6)]
    spread = [len(targets(switch.send_all(0, client, NODE_PORT[4], range(4000, 4020), 30080))) for client in clients]
    assert spread[:3] == [1, 1, 1]
    assert min(spread[3:]) > 1
    assert len(switch.learned()) == 3


@VERSIONS
@BOTH
def test_every_one_of_600_endpoints_is_reached(switch: Switch, version: int, protocol: Protocol) -> None:
    switch.install(served(version, *many(600, version), protocol=protocol))
    counts: dict[str, int] = {}
    for start in range(10000, 24000, 1000):
        sent = switch.send_all(1, pod_address(1, version), VIP[version], range(start, start + 1000), 80, proto=protocol)
        assert len(sent) == 1000
        for one in sent:
            counts[one.target] = counts.get(one.target, 0) + 1
        switch.bridge.switch.appctl("dpctl/flush-conntrack")
    assert len(counts) == 600
    # 50 connections each: what is hashed evenly lies within six deviations.
    assert min(counts.values()) >= 8 and max(counts.values()) <= 92


@VERSIONS
def test_nothing_of_the_look_up_is_left_after_it(version: int) -> None:
    """Else each endpoint would have megaflows of its own in the tables after conntrack."""
    flows, group = FlowSet(), group_id(5)
    targets = [Target(one.endpoint.address, one.number) for one in many(3, version)]
    render_endpoints(flows, group, targets, 60)
    sent = [flow for flow in flows.flows() if isinstance(flow.actions[-1], Ct)]
    assert len(sent) == 6
    for flow in sent:
        zeroed = {action.place for action in flow.actions if isinstance(action, Load) and not action.value}
        matched = {
            place for place in LOOK_UP for term in flow.match if term.field is place.register and term.mask & place.mask
        }
        assert matched <= zeroed
