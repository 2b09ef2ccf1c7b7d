"""The interpreter does what Open vSwitch does: the same tables and frames on both, feature by feature."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from flows.cluster.net import Net, parse_address
from flows.interpret import packet as packets
from flows.interpret.packet import ACK, SYN, Packet
from flows.openflow import match_fields as oxm
from flows.openflow import port_numbers, register_bits
from flows.openflow.actions import Conjunction, Ct, Load, Move, Output, OutputRegister, Resubmit
from flows.openflow.flow import Flow
from flows.openflow.match import Term, exactly, in_range, masked, match
from flows.openflow.match_fields import CtState, Fragment
from flows.pipeline import registers
from tests.helpers.datapath.interpreter_twin import InterpreterTwin
from tests.helpers.datapath.learning import learn_reply
from tests.helpers.ovs.open_vswitch import OpenVSwitch, module_ovs, ovs

__all__ = ["module_ovs", "ovs"]

A4, B4, C4 = (parse_address(f"10.0.0.{n}") for n in (1, 2, 3))
A6, B6, C6 = (parse_address(f"fd00::{n}") for n in (1, 2, 3))
PAIRS = ((A4, B4), (A6, B6))
TCP, UDP, SCTP = 6, 17, 132
ALL_BITS = int(CtState.NEW | CtState.EST | CtState.REL | CtState.RPL | CtState.INV | CtState.TRK)
# One flow for each state conntrack can tell, so that the flow that matches tells the state.
STATES = [
    int(CtState.TRK | bits)
    for bits in (
        CtState.NEW, CtState.EST, CtState.EST | CtState.RPL, CtState.REL, CtState.REL | CtState.RPL, CtState.INV,
        CtState.REL | CtState.NEW, CtState.NEW | CtState.RPL, 0,
    )
]  # fmt: skip
SCTP_MATCH = (exactly(oxm.ETH_TYPE, oxm.ETH_IPV4), exactly(oxm.IP_PROTO, SCTP))
LATER = masked(oxm.IP_FRAG, Fragment.LATER, Fragment.LATER)
TRACKED = masked(oxm.CT_STATE, CtState.TRK, CtState.TRK | CtState.INV)
IP = [exactly(oxm.ETH_TYPE, oxm.ETH_IPV4), exactly(oxm.ETH_TYPE, oxm.ETH_IPV6)]


def flow(table: int, priority: int, terms: Iterable[Term] = (), *actions: object, goto: int | None = None) -> Flow:
    return Flow(table, priority, match(*terms), actions, goto)  # type: ignore[arg-type]


def state(value: int) -> Term:
    return masked(oxm.CT_STATE, value, ALL_BITS)


def tracking(commit_port: int = 1) -> list[Flow]:
    """Look up in zone 7, tell the state by the port that a copy goes to, and commit what comes from `commit_port`."""
    flows = [flow(0, 1, [family], Ct(7, 1)) for family in IP]
    for number, value in enumerate(STATES):
        flows.append(flow(1, 10, [state(value)], Load(registers.OUTPUT_OFPORT, number), goto=2))
    for number in range(len(STATES)):
        # One bit of the number for each of the ports 2 to 4; LOCAL is the fourth.
        targets = [port for bit, port in enumerate((2, 3, 4, port_numbers.LOCAL_32)) if number + 1 >> bit & 1]
        flows.append(
            flow(2, 10, [in_range(registers.OUTPUT_OFPORT, number)], *(Output(port) for port in targets), goto=3)
        )
    port = exactly(oxm.IN_PORT, commit_port)
    new = masked(oxm.CT_STATE, CtState.NEW | CtState.TRK, CtState.NEW | CtState.TRK)
    return flows + [flow(3, 10, [port, new, family], Ct(7, commit=True)) for family in IP] + [flow(3, 1)]


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("proto", [TCP, UDP, SCTP, 47])
def test_states_of_a_connection(module_ovs: OpenVSwitch, here: Net, there: Net, proto: int) -> None:
    twin = InterpreterTwin(module_ovs, tracking())
    first = packets.transport(here, there, proto, 1000, 80, SYN)
    second = replace(first, flags=ACK)
    reply = packets.answer(first)
    elsewhere = packets.transport(here, there, proto, 1000, 81, SYN)
    for in_port, packet in (
        (2, reply), (2, first), (2, reply), (1, first), (1, first), (1, first), (1, second), (1, second), (2, reply),
        (1, first), (1, second), (1, second), (2, replace(reply, flags=ACK)), (1, second), (2, first), (1, reply),
        (2, elsewhere), (1, elsewhere), (2, packets.answer(elsewhere)), (1, second),
        (1, replace(second, corrupt=True)), (2, replace(reply, flags=ACK, corrupt=True)),
    ):  # fmt: skip
        twin.send(in_port, packet)
    twin.check_counters()


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=["IPv4", "IPv6"])
def test_a_tcp_connection_is_picked_up_in_midstream(module_ovs: OpenVSwitch, here: Net, there: Net) -> None:
    twin = InterpreterTwin(module_ovs, tracking())
    data = packets.transport(here, there, TCP, 1000, 80, ACK)
    for in_port, packet in ((2, data), (1, data), (1, data), (2, packets.answer(data)), (1, data)):
        twin.send(in_port, packet)
    twin.check_counters()


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=["IPv4", "IPv6"])
def test_states_of_echo_and_errors(module_ovs: OpenVSwitch, here: Net, there: Net) -> None:
    twin = InterpreterTwin(module_ovs, tracking())
    request = packets.echo(here, there, 5)
    reply = packets.answer(request)
    for in_port, packet in ((2, reply), (1, request), (1, request), (2, reply), (1, request), (2, reply), (1, reply)):
        twin.send(in_port, packet)
    twin.send(1, packets.echo(here, there, 6))
    for proto in (TCP, UDP, SCTP):
        first = packets.transport(here, there, proto, 1000, 80, SYN)
        error, back = packets.icmp_error(there, first), packets.icmp_error(here, packets.answer(first))
        twin.send(2, error)
        twin.send(1, first)
        twin.send(2, error)
        twin.send(1, back)
        twin.send(2, packets.answer(first))
        twin.send(1, first)
        twin.send(2, error)
        twin.send(1, back)
        twin.send(2, packets.icmp_error(there, replace(first, dport=81)))
    twin.send(2, packets.icmp_error(there, request))
    twin.send(2, replace(reply, sport=77))
    twin.check_counters()


def original_fields(version: int) -> tuple[oxm.Field, oxm.Field]:
    return (oxm.CT_NW_SRC, oxm.CT_NW_DST) if version == 4 else (oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST)


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("proto", [TCP, UDP, SCTP, 47, 1])
def test_the_original_direction_tuple(module_ovs: OpenVSwitch, here: Net, there: Net, proto: int) -> None:
    """Replies and errors show the addresses and the port that their connection was opened with."""
    family = exactly(oxm.ETH_TYPE, packets.ETHER[here.version])
    proto = packets.ICMP[here.version] if proto == 1 else proto
    source, target = original_fields(here.version)
    valid = TRACKED
    forward = [valid, family, exactly(source, here.value), exactly(target, there.value)]
    forward.append(exactly(oxm.CT_NW_PROTO, proto))
    twin = InterpreterTwin(module_ovs, [
        flow(0, 1, [family], Ct(7, 1)),
        flow(1, 20, [*forward, masked(oxm.CT_TP_DST, 80, 0xFFF0)], Output(2), Output(3), goto=2),
        flow(1, 15, [*forward, exactly(oxm.CT_TP_DST, 0)], Output(2), Output(4), goto=2),
        flow(1, 10, forward, Output(4), goto=2),
        flow(1, 9, [valid, family, masked(source, here.value & ~3, here.mask & ~3)], Output(3), goto=2),
        flow(1, 1, [], Output(port_numbers.LOCAL_32)),
        flow(2, 10, [family, exactly(oxm.IN_PORT, 1)], Ct(7, commit=True)),
        flow(2, 1),
    ])  # fmt: skip
    first = packets.transport(here, there, proto, 1000, 80, SYN)
    other = replace(first, dport=96)
    if proto in (1, 58):
        first, other = packets.echo(here, there, 80), packets.echo(here, there, 96)
    for packet in (first, other):
        reply = packets.answer(packet)
        error = packets.icmp_error(there, packet)
        for in_port, one in ((1, packet), (2, reply), (1, replace(packet, flags=ACK)), (2, error)):
            twin.send(in_port, one)
    twin.check_counters()


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_fragments_are_held_back_at_each_conntrack(
    ovs: OpenVSwitch, here: Net, there: Net, order: tuple[int, ...]
) -> None:
    """Later fragments show no port; those that policy drops keep the others from leaving the next conntrack."""
    valid = masked(oxm.CT_STATE, CtState.TRK, CtState.TRK | CtState.INV)
    flows = []
    for family in IP:
        flows += [
            flow(0, 1, [family], Load(registers.SOURCE_OFPORT, 1), Ct(7, 1)),
            flow(1, 20, [family, LATER], Output(4), goto=3),
            flow(1, 10, [valid, family, exactly(oxm.CT_NW_PROTO, UDP), exactly(oxm.CT_TP_DST, 80)], Output(3), goto=3),
            flow(3, 10, [family, exactly(oxm.IN_PORT, 1)], Ct(7, 4, commit=True)),
            flow(3, 9, [family], Ct(7, 4)),
        ]
    flows += [flow(1, 1), flow(4, 1, [], Output(2), Output(1))]
    twin = InterpreterTwin(ovs, flows)
    train = 1
    for in_port, dport in ((1, 80), (1, 81), (2, 80), (1, 80), (1, 80)):
        sport, dport, source, target = (1000, dport, here, there) if in_port == 1 else (dport, 1000, there, here)
        whole = packets.transport(source, target, UDP, sport, dport)
        pieces = packets.split(whole, train, 3)
        for position in order:
            twin.send(in_port, pieces[position])
        train += 1
        twin.send(in_port, whole)
    twin.check_counters()


def test_a_reassembled_packet_goes_the_way_of_its_last_fragment(ovs: OpenVSwitch) -> None:
    family = IP[0]
    twin = InterpreterTwin(ovs, [
        flow(0, 2, [family, exactly(oxm.IN_PORT, 1)], Load(registers.SOURCE_OFPORT, 1), Ct(7, 1)),
        flow(0, 2, [family, exactly(oxm.IN_PORT, 2)], Load(registers.SOURCE_OFPORT, 2), Ct(7, 1)),
        flow(1, 5, [in_range(registers.SOURCE_OFPORT, 1)], Output(3)),
        flow(1, 5, [in_range(registers.SOURCE_OFPORT, 2)], Output(4)),
    ])  # fmt: skip
    for train, order in enumerate(((0, 1), (1, 0)), 1):
        pieces = packets.split(packets.transport(A4, B4, UDP, 1000, 80), train)
        twin.send(1, pieces[order[0]])
        twin.send(2, pieces[order[1]])
    twin.check_counters()


def test_ports_of_fragments_are_not_seen(module_ovs: OpenVSwitch) -> None:
    sctp = [IP[0], exactly(oxm.IP_PROTO, SCTP)]
    fragments = [
        flow(0, 20, [*sctp, exactly(oxm.SCTP_DST, 80)], Output(2)),
        flow(0, 15, [*sctp, exactly(oxm.SCTP_DST, 0), exactly(oxm.IP_FRAG, Fragment.ANY)], Output(3)),
        flow(0, 14, [*sctp, masked(oxm.SCTP_DST, 0, 0xF)], Output(4)),
        flow(0, 10, [IP[1], exactly(oxm.IP_PROTO, SCTP)], Output(2), Output(3)),
        flow(0, 10, [IP[1], exactly(oxm.IP_PROTO, 44)], Output(3), Output(4)),
        flow(0, 1, [], Output(port_numbers.LOCAL_32)),
    ]
    twin = InterpreterTwin(module_ovs, fragments)
    whole = packets.transport(A4, B4, SCTP, 1000, 80)
    six = packets.transport(A6, B6, SCTP, 1, 80)
    for packet in (whole, *packets.split(whole, 9, 3), six, *packets.split(six, 9, 3)):
        twin.send(1, packet)
    twin.check_counters()


@pytest.mark.parametrize("version", [4, 6])
def test_learned_replies(module_ovs: OpenVSwitch, version: int) -> None:
    here, there = (A4, B4) if version == 4 else (A6, B6)
    sctp = [IP[version == 6], exactly(oxm.IP_PROTO, SCTP)]
    allowed = learn_reply(version, 1, 0x1111, 2)
    denied = learn_reply(version, 2, 0x2222, 100)
    twin = InterpreterTwin(module_ovs, [
        flow(0, 10, sctp, Resubmit(25), goto=1),
        flow(0, 1, [], Output(port_numbers.LOCAL_32)),
        flow(1, 10, [in_range(registers.SCTP_ASSOCIATION, 1)], Output(1)),
        flow(1, 10, [in_range(registers.SCTP_ASSOCIATION, 2)]),
        flow(1, 5, [exactly(oxm.IN_PORT, 1), *sctp, masked(oxm.SCTP_DST, 80, 0xFFFC)], allowed, Output(2)),
        flow(1, 4, [exactly(oxm.IN_PORT, 1), *sctp], denied),
        flow(1, 1, [], Output(3)),
    ])  # fmt: skip
    for dport in (80, 81, 82, 90, 80):
        first = packets.transport(here, there, SCTP, 1000, dport)
        twin.send(2, packets.answer(first))
        twin.send(1, first)
        twin.send(2, packets.answer(first))
        twin.send(2, packets.answer(replace(first, sport=1001)))
    one = packets.split(packets.transport(here, there, SCTP, 5, 80), 3)[0]
    twin.send(1, one)
    twin.check_counters()
    learned = [line for line in twin.bridge.dump() if "table=25, n_packets" in line]
    assert len(learned) == len(twin.interpreter.learned[25])


def test_registers_moves_and_outputs(module_ovs: OpenVSwitch) -> None:
    low = register_bits.Range(oxm.REGISTERS[6], 0, 7, "test")
    high = register_bits.Range(oxm.REGISTERS[6], 8, 15, "test")
    whole = register_bits.Range(oxm.REGISTERS[6], 0, 15, "test")
    twin = InterpreterTwin(module_ovs, [
        flow(0, 10, [exactly(oxm.IN_PORT, 1)], Load(low, 3), Move(low, high), goto=1),
        flow(0, 10, [exactly(oxm.IN_PORT, 2)], Load(whole, 0xFFFE), Resubmit(9), Resubmit(1), goto=5),
        flow(0, 10, [exactly(oxm.IN_PORT, 3)], Load(registers.OUTPUT_OFPORT, 3),
             OutputRegister(registers.OUTPUT_OFPORT), Output(3),
             Output(port_numbers.IN_PORT_32), Output(2), Output(99), Load(registers.OUTPUT_OFPORT, 0xFFF8),
             OutputRegister(registers.OUTPUT_OFPORT)),
        flow(0, 10, [exactly(oxm.IN_PORT, port_numbers.LOCAL_32)], Load(registers.OUTPUT_OFPORT, 0xFFFE),
             OutputRegister(registers.OUTPUT_OFPORT), Output(port_numbers.LOCAL_32), Output(1)),
        flow(1, 10, [in_range(whole, 0x0303)], OutputRegister(low), goto=5),
        flow(1, 9, [], OutputRegister(whole), Load(low, 4)),
        flow(5, 10, [in_range(low, 4)], OutputRegister(low)),
        flow(5, 10, [in_range(high, 3)], Output(1), Output(2)),
    ])  # fmt: skip
    packet = packets.transport(A4, B4, UDP, 1, 2)
    for port in (1, 2, 3, 4, port_numbers.LOCAL_32):
        twin.send(port, packet)
    twin.check_counters()


def test_arp_discovery_and_tags(module_ovs: OpenVSwitch) -> None:
    icmpv6 = [IP[1], exactly(oxm.IP_PROTO, 58)]
    solicit = [*icmpv6, exactly(oxm.ICMPV6_TYPE, 135), exactly(oxm.ICMPV6_CODE, 0)]
    advertise = [*icmpv6, exactly(oxm.ICMPV6_TYPE, 136), exactly(oxm.ICMPV6_CODE, 0)]
    arp = exactly(oxm.ETH_TYPE, oxm.ETH_ARP)
    twin = InterpreterTwin(module_ovs, [
        flow(0, 50, [masked(oxm.VLAN_VID, oxm.VLAN_PRESENT, oxm.VLAN_PRESENT), IP[1]], Output(4)),
        flow(0, 40, [exactly(oxm.VLAN_VID, oxm.VLAN_PRESENT | 5)], Output(3)),
        flow(0, 30, [arp, exactly(oxm.ARP_OP, 1), exactly(oxm.ARP_SPA, A4.value), exactly(oxm.ARP_SHA, 5)], Output(2)),
        flow(0, 29, [arp, masked(oxm.ARP_TPA, B4.value & ~0xF, 0xFFFFFFF0)], Output(3)),
        flow(0, 28, [exactly(oxm.VLAN_VID, 0), *solicit, exactly(oxm.ND_TARGET, B6.value), exactly(oxm.ND_SLL, 5)],
             Output(2)),
        flow(0, 27, [*solicit, exactly(oxm.ND_SLL, 0)], Output(3)),
        flow(0, 26, [*advertise, exactly(oxm.ND_TLL, 5), exactly(oxm.IPV6_SRC, B6.value)], Output(4)),
        flow(0, 25, [*advertise, masked(oxm.ND_TARGET, A6.value & ~0xFF, (1 << 128) - 256)], Output(2), Output(4)),
        flow(0, 20, icmpv6, Output(2), Output(3)),
        flow(0, 1, [masked(oxm.ETH_DST, 1 << 40, 1 << 40)], Output(port_numbers.LOCAL_32)),
    ])  # fmt: skip
    seen: list[Packet] = []
    for mac in (5, 6):
        seen += [packets.arp(op, (mac, A4.value), (7, t.value)) for op in (1, 2) for t in (B4, Net(4, 99, 32))]
        for link in (None, 5, 6):
            seen.append(packets.neighbor(135, mac, 7, A6.value, B6.value, B6.value, link))
            seen.append(packets.neighbor(136, mac, 7, B6.value, A6.value, A6.value, link))
            seen.append(packets.neighbor(136, mac, 7, C6.value, A6.value, 99, link))
    seen += [packets.echo(A6, B6, 1), packets.transport(A4, B4, UDP, 1, 1), Packet(1, (1 << 48) - 1, 0x88B5)]
    for packet in seen:
        for vlan in (None, 5, 6, 0):
            twin.send(1, replace(packet, vlan=vlan))
    twin.check_counters()


def test_conjunctions_merge_and_step_down_priorities(module_ovs: OpenVSwitch) -> None:
    """A clause that belongs to two conjunctions, a higher one that is not complete, and hard flows in between."""
    valid = masked(oxm.CT_STATE, CtState.TRK, CtState.TRK | CtState.INV)

    def peer(net: Net) -> list[Term]:
        return [valid, IP[0], exactly(oxm.CT_NW_SRC, net.value)]

    def port(number: int, mask: int = 0xFFFF) -> list[Term]:
        return [valid, exactly(oxm.CT_NW_PROTO, UDP), masked(oxm.CT_TP_DST, number & mask, mask)]

    subject = exactly(oxm.IN_PORT, 1)
    twin = InterpreterTwin(module_ovs, [
        flow(0, 1, [IP[0]], Ct(7, 1)),
        flow(1, 300, [subject], Conjunction(1, 1, 3), Conjunction(2, 1, 2)),
        flow(1, 300, peer(A4), Conjunction(1, 2, 3)),
        flow(1, 300, peer(B4), Conjunction(1, 2, 3), Conjunction(2, 2, 2)),
        flow(1, 300, port(80, 0xFFF0), Conjunction(1, 3, 3)),
        flow(1, 300, [exactly(oxm.CONJ_ID, 1)], Output(2)),
        flow(1, 250, [exactly(oxm.CONJ_ID, 2)], Output(3)),
        flow(1, 200, [subject], Conjunction(3, 1, 2)),
        flow(1, 200, port(81), Conjunction(3, 2, 2)),
        flow(1, 200, port(97), Conjunction(3, 2, 2)),
        flow(1, 200, [exactly(oxm.CONJ_ID, 3), IP[0]], Output(4)),
        flow(1, 150, peer(C4), Output(port_numbers.LOCAL_32)),
        flow(1, 350, port(82), Output(2), Output(3)),
        flow(1, 100, [subject], Conjunction(4, 2, 2)),
        flow(1, 100, port(98), Conjunction(4, 1, 2)),
        flow(1, 100, [exactly(oxm.CONJ_ID, 4)], Output(3), Output(4)),
        flow(1, 1, [], Output(1), Output(port_numbers.IN_PORT_32)),
    ])  # fmt: skip
    for source in (A4, C4, Net(4, 99, 32)):
        for dport in (80, 81, 82, 96, 97, 98, 99):
            for in_port in (1, 2):
                twin.send(in_port, packets.transport(source, Net(4, 77, 32), UDP, 1, dport))
    for dport in (81, 82, 99, 97):
        # Conjunctions 1 and 2 are both complete for B4 and the right ports; only unambiguous packets are compared.
        if dport not in (81, 82):
            twin.send(1, packets.transport(B4, Net(4, 77, 32), UDP, 1, dport))
    twin.check_counters()
