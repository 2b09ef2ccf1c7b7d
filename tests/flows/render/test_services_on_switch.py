"""Groups and translation in the interpreter and on the real switch: the same packets come out, both ways."""

from __future__ import annotations

from collections import Counter

import pytest

from flows.cluster.net import Net, parse_address
from flows.interpret import packet as packets
from flows.interpret.flow_lookup import Refused
from flows.interpret.interpreter import Interpreter
from flows.interpret.packet import ACK, SYN
from flows.openflow import match_fields as oxm
from flows.openflow import register_bits
from flows.openflow.actions import Ct, Load, Move, Nat, NatKind, Output, ToGroup
from flows.openflow.flow import Flow
from flows.openflow.group import Bucket, Group
from flows.openflow.match import exactly, in_range, match
from flows.pipeline import registers
from flows.pipeline.group_numbers import group_id
from tests.helpers.datapath.interpreter_twin import ANY_TABLE, InterpreterTwin
from tests.helpers.ovs.open_vswitch import OpenVSwitch, module_ovs

__all__ = ["module_ovs"]

CLIENT = {4: parse_address("10.0.0.1"), 6: parse_address("fd00::1")}
SERVICE = {4: parse_address("10.96.0.1"), 6: parse_address("fd96::1")}
ENDPOINT = {4: parse_address("10.0.0.2"), 6: parse_address("fd00::2")}
OTHER = {4: parse_address("10.0.0.3"), 6: parse_address("fd00::3")}
TCP, UDP = 6, 17
ZONE = 9
GROUP = group_id(1)
THROUGH = register_bits.Range(oxm.CT_MARK, 1, 1, "")
BIT = registers.SOURCE_EGRESS


def bucket(version: int, net: Net) -> Bucket:
    nat = Nat(NatKind.DESTINATION, version, net.value, 8080)
    return Bucket((Ct(ZONE, 2, True, nat=nat, marks=(Move(BIT, THROUGH),)),))


def groups() -> list[Group]:
    return [Group(GROUP + version, (bucket(version, ENDPOINT[version]),)) for version in (4, 6)]


def flows() -> list[Flow]:
    """Port 1 is the client's, 2 the endpoint's, 3 the client's where the endpoint comes by itself."""
    some: list[Flow] = []
    for version, target in ((4, oxm.IPV4_DST), (6, oxm.IPV6_DST)):
        family = exactly(oxm.ETH_TYPE, packets.ETHER[version])
        to_service = match(family, exactly(target, SERVICE[version].value))
        to_group = Load(BIT, 1), ToGroup(GROUP + version), Output(4)
        some += [
            Flow(0, 2, to_service, to_group),
            Flow(0, 1, match(family), (Ct(ZONE, 2, nat=Nat()),)),
            Flow(2, 3, match(family, exactly(target, ENDPOINT[version].value), in_range(THROUGH, 1)), (Output(2),)),
            Flow(2, 2, match(family, exactly(oxm.IN_PORT, 2)), (Output(3),)),
        ]
    return [*some, Flow(2, 0, match(), ())]


@pytest.mark.switch
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("proto", [TCP, UDP])
def test_a_group_translates_requests_and_conntrack_the_replies(
    module_ovs: OpenVSwitch, version: int, proto: int
) -> None:
    twin = InterpreterTwin(module_ovs, without_copy(flows()), groups=groups())
    client, service, endpoint = CLIENT[version], SERVICE[version], ENDPOINT[version]
    request = packets.transport(client, service, proto, 1000, 80, SYN)
    reply = packets.transport(endpoint, client, proto, 8080, 1000, SYN | ACK)
    stranger = packets.transport(OTHER[version], client, proto, 8080, 1000)
    assert twin.send(2, reply).outputs[0][1].source == endpoint.value  # no connection yet
    ((port, sent),) = twin.send(1, request).outputs
    assert (port, sent.target, sent.dport) == (2, endpoint.value, 8080)
    ((port, back),) = twin.send(2, reply).outputs
    assert (port, back.source, back.sport) == (3, service.value, 80)
    assert twin.send(1, request).ports == (2,)
    assert twin.send(2, stranger).outputs[0][1].source == OTHER[version].value
    twin.check_counters()


def without_copy(some: list[Flow]) -> list[Flow]:
    """The flows without an output after the group, which the interpreter does not model."""
    return [Flow(f.table, f.priority, f.match, tuple(a for a in f.actions if a != Output(4)), f.goto) for f in some]


@pytest.mark.switch
def test_what_a_bucket_changes_ends_with_it(module_ovs: OpenVSwitch) -> None:
    one = Group(GROUP, (Bucket((Load(registers.SOURCE_OFPORT, 7), Output(2))),))
    some = [
        Flow(0, 1, match(), (ToGroup(GROUP),), 1),
        Flow(1, 1, match(in_range(registers.SOURCE_OFPORT, 0)), (Output(3),)),
    ]
    twin = InterpreterTwin(module_ovs, some, groups=[one])
    assert twin.send(1, packets.transport(CLIENT[4], OTHER[4], UDP, 1, 2)).ports == (2, 3)
    twin.check_counters()


@pytest.mark.switch
def test_a_group_without_buckets_drops(module_ovs: OpenVSwitch) -> None:
    twin = InterpreterTwin(module_ovs, [Flow(0, 1, match(), (ToGroup(GROUP),))], groups=[Group(GROUP, ())])
    assert twin.send(1, packets.transport(CLIENT[4], OTHER[4], UDP, 1, 2)).ports == ()


def test_buckets_are_taken_by_weight_and_hash() -> None:
    one = Group(GROUP, (Bucket((Output(2),), 1), Bucket((Output(3),), 3)))
    bridge = Interpreter(
        [Flow(0, 1, match(), (ToGroup(GROUP),))], tables=ANY_TABLE, groups=[one], hashed=lambda packet: packet.sport
    )
    taken = Counter(bridge.receive(1, packets.transport(CLIENT[4], OTHER[4], UDP, n, 2)).ports for n in range(100))
    assert taken == {(2,): 25, (3,): 75}


def test_a_flow_to_a_group_that_is_not_there_is_refused() -> None:
    with pytest.raises(Refused):
        Interpreter([Flow(0, 1, match(), (ToGroup(GROUP),))], tables=ANY_TABLE)


def test_a_source_is_translated_with_a_free_port() -> None:
    family = exactly(oxm.ETH_TYPE, oxm.ETH_IPV4)
    hairpin = parse_address("169.254.72.3")
    some = [
        Flow(0, 1, match(family), (Ct(ZONE, 1, True, nat=Nat(NatKind.SOURCE, 4, hairpin.value)),)),
        Flow(1, 1, match(), (Output(2),)),
    ]
    bridge = Interpreter(some, tables=ANY_TABLE)
    first, second = (
        bridge.receive(1, packets.transport(one, OTHER[4], UDP, 53, 80)).outputs[0][1]
        for one in (CLIENT[4], ENDPOINT[4])
    )
    assert (first.source, first.sport) == (hairpin.value, 53)
    assert (second.source, second.sport) == (hairpin.value, 1024)
    back = bridge.receive(2, packets.transport(OTHER[4], hairpin, UDP, 80, 1024)).reasons
    assert back == ("a packet is not sent back to the port it came from",)
