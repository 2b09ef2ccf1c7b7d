"""Packets whose ends are swapped, and replaced entries of conntrack, on the switch and in the interpreter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.cluster.net import Net, parse_address
from flows.interpret import packet as packets
from flows.interpret.packet import ACK, SYN
from flows.openflow import match_fields as oxm
from flows.openflow import port_numbers, register_bits
from flows.openflow.actions import Ct, Move, Output
from flows.openflow.flow import Flow
from flows.openflow.match import Term, exactly, in_range, masked, match
from flows.openflow.match_fields import CtState
from flows.pipeline import registers
from flows.render.interpretations import swap_ends
from flows.render.terms import HAS_NO_SYN, IP_FAMILIES, IS_SCTP, IS_SYN_WITHOUT_ACK, IS_TCP, IS_UDP
from tests.helpers.datapath.interpreter_twin import InterpreterTwin
from tests.helpers.ovs.open_vswitch import OpenVSwitch, module_ovs, ovs

__all__ = ["module_ovs", "ovs"]

PAIRS = [tuple(parse_address(f"{net}{n}") for n in (1, 2)) for net in ("10.0.0.", "fd00::")]
IDS = ["IPv4", "IPv6"]
ZONE, EMPTY = 7, 9
NEW = masked(oxm.CT_STATE, CtState.NEW | CtState.TRK, CtState.NEW | CtState.TRK)
REPLY = masked(oxm.CT_STATE, CtState.RPL | CtState.TRK, CtState.RPL | CtState.TRK)


def each(table: int, priority: int, terms: list[Term], *actions: object) -> list[Flow]:
    """The same flow for both families; a flow with ct() must match one."""
    return [Flow(table, priority, match(family, *terms), actions) for family in IP_FAMILIES]  # type: ignore[arg-type]


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=IDS)
@pytest.mark.parametrize("protocol", [IS_TCP, IS_UDP, IS_SCTP], ids=["TCP", "UDP", "SCTP"])
def test_with_swapped_ends_the_tuple_is_that_of_the_reply(
    module_ovs: OpenVSwitch, here: Net, there: Net, protocol: Term
) -> None:
    flows = each(0, 1, [], Ct(ZONE, 1))
    for family in IP_FAMILIES:
        both_ways = swap_ends(family, protocol)
        flows.append(Flow(1, 1, match(family, protocol, NEW), (*both_ways, Ct(EMPTY, 2))))
        for port, number in ((2, 40000), (3, 80)):
            tuple_says = [NEW, exactly(oxm.CT_NW_PROTO, protocol.value), exactly(oxm.CT_TP_DST, number)]
            if protocol is IS_SCTP:  # userspace conntrack has no ports for it
                tuple_says = [NEW, exactly(oxm.SCTP_DST, number)]
            flows.append(Flow(2, 5, match(family, protocol, *tuple_says), (*both_ways, Output(port))))
    twin = InterpreterTwin(module_ovs, flows)
    for sport, dport, port in ((40000, 80, 2), (80, 40000, 3), (81, 80, 0)):
        packet = packets.transport(here, there, protocol.value, sport, dport, ACK)
        assert twin.send(1, packet).outputs == (((port, packet),) if port else ())
    twin.check_counters()


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=IDS)
def test_a_forced_commit_replaces_the_entry_of_a_reply(module_ovs: OpenVSwitch, here: Net, there: Net) -> None:
    flows = each(0, 1, [], Ct(ZONE, 1))
    flows += each(1, 5, [REPLY, exactly(oxm.IN_PORT, 3)], Ct(ZONE, None, commit=True, force=True), Output(4))
    flows += each(1, 3, [REPLY], Output(2)) + each(1, 2, [NEW], Ct(ZONE, commit=True), Output(3))
    twin = InterpreterTwin(module_ovs, flows)
    first = packets.transport(here, there, 17, 7946, 7946)
    second = packets.answer(first)
    sends = [(1, first, 3), (2, second, 0), (1, second, 2), (3, second, 4), (1, first, 2), (1, second, 0)]
    for in_port, packet, port in sends:
        assert twin.send(in_port, packet).ports == ((port,) if port else ()), (in_port, port)
    twin.check_counters()


@pytest.mark.parametrize(("here", "there"), PAIRS, ids=IDS)
def test_flags_and_both_ports_of_the_tuple(module_ovs: OpenVSwitch, here: Net, there: Net) -> None:
    high = masked(oxm.CT_TP_SRC, 0x8000, 0x8000), masked(oxm.CT_TP_DST, 0, 0x8000)
    flows = each(0, 1, [], Ct(ZONE, 1))
    flows += each(1, 9, [NEW, IS_TCP, IS_SYN_WITHOUT_ACK], Output(2))
    flows += each(1, 8, [NEW, IS_TCP, HAS_NO_SYN, exactly(oxm.CT_NW_PROTO, 6), *high], Output(3))
    flows += each(
        1,
        7,
        [NEW, IS_TCP, HAS_NO_SYN],
        Move(register_bits.Range(oxm.TCP_DST, 0, 15, ""), registers.COMPARED_DESTINATION_PORT),
        Output(4),
    )
    flows = [replace(flow, goto=2) if flow.priority == 7 else flow for flow in flows]
    flows += each(2, 1, [in_range(registers.COMPARED_DESTINATION_PORT, 50000)], Output(port_numbers.LOCAL_32))
    twin = InterpreterTwin(module_ovs, flows)
    for sport, dport, flags, ports in (
        (40000, 80, SYN, (2,)), (40000, 80, ACK, (3,)), (80, 40000, ACK, (4,)), (40000, 50000, SYN, (2,)),
        (40000, 50000, ACK, (4, port_numbers.LOCAL_32)), (32768, 32767, ACK, (3,)), (32767, 32768, ACK, (4,)),
        (40000, 80, SYN | ACK, ()),
    ):  # fmt: skip
        packet = packets.transport(here, there, 6, sport, dport, flags)
        assert twin.send(1, packet).ports == ports, (sport, dport, flags)
    twin.check_counters()
