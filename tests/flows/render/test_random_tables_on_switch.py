"""Random flow tables and packets on the interpreter and the real switch: conjunctions, priorities, masks, conntrack."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

import pytest

from flows.cluster.net import parse_address
from flows.interpret import packet as packets
from flows.interpret.flow_lookup import Ambiguous
from flows.interpret.packet import ACK, SYN, Packet
from flows.openflow import match_fields as oxm
from flows.openflow import port_numbers, register_bits
from flows.openflow.actions import Action, Conjunction, Ct, Load, Move, Output, OutputRegister, Resubmit
from flows.openflow.flow import Flow
from flows.openflow.match import Match, Term, exactly, in_range, masked, match
from flows.openflow.match_fields import CtState
from flows.pipeline import registers
from tests.helpers.datapath.interpreter_twin import InterpreterTwin
from tests.helpers.ovs.open_vswitch import OpenVSwitch, module_ovs

__all__ = ["module_ovs"]

ADDRESSES = [parse_address(f"10.0.0.{n}") for n in range(1, 6)]
ADDRESSES6 = [parse_address(f"fd00::{n}") for n in range(1, 6)]
DPORTS = (79, 80, 81, 96, 443)
PROTOCOLS = (6, 17, 132)
FAMILIES = (exactly(oxm.ETH_TYPE, oxm.ETH_IPV4), exactly(oxm.ETH_TYPE, oxm.ETH_IPV6))
TRACKED = masked(oxm.CT_STATE, CtState.TRK, CtState.TRK | CtState.INV)
SPREAD = register_bits.Range(oxm.REGISTERS[6], 4, 9, "test")
LAST = 5


def some_terms(chance: random.Random) -> list[Term]:
    """A match for a table behind conntrack: on the original tuple, the state, a port, or a register."""
    version = chance.choice((4, 6))
    net = chance.choice(ADDRESSES if version == 4 else ADDRESSES6)
    length = chance.choice((net.prefix, net.prefix - 1, net.prefix - 2))
    mask = (1 << net.prefix) - (1 << net.prefix - length)
    names = (oxm.CT_NW_SRC, oxm.CT_NW_DST) if version == 4 else (oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST)
    own = (oxm.IPV4_SRC, oxm.IPV4_DST) if version == 4 else (oxm.IPV6_SRC, oxm.IPV6_DST)
    family = FAMILIES[version == 6]
    port_mask = chance.choice((0xFFFF, 0xFFFE, 0xFFF0, 0xFF00))
    flag = chance.choice((CtState.NEW, CtState.EST, CtState.RPL, CtState.INV))
    return chance.choice(
        (
            [TRACKED, family, masked(chance.choice(names), net.value & mask, mask)],
            [family, masked(chance.choice(own), net.value & mask, mask)],
            [TRACKED, exactly(oxm.CT_NW_PROTO, chance.choice(PROTOCOLS)),
             masked(oxm.CT_TP_DST, chance.choice(DPORTS) & port_mask, port_mask)],
            [masked(oxm.CT_STATE, CtState.TRK | chance.choice((flag, 0)), CtState.TRK | flag)],
            [exactly(oxm.IN_PORT, chance.choice((1, 2)))],
            [family, exactly(oxm.IP_PROTO, 132), masked(oxm.SCTP_DST, chance.choice(DPORTS) & port_mask, port_mask)],
            [in_range(SPREAD, chance.randrange(4))],
            [],
        )
    )  # fmt: skip


def some_actions(chance: random.Random, table: int) -> tuple[tuple[Action, ...], int | None]:
    """Up to three actions and perhaps a further table. Conntrack and resubmits only lead onwards, so that all ends."""
    onward = chance.randrange(table + 1, LAST + 1) if table < LAST else None
    choices: list[Action] = [Output(chance.choice((1, 2, 3, 4, port_numbers.LOCAL_32, port_numbers.IN_PORT_32))),
                             Load(SPREAD, chance.randrange(4)),
                             Load(registers.OUTPUT_OFPORT, chance.choice((1, 2, 3, 4, 99))),
                             OutputRegister(registers.OUTPUT_OFPORT),
                             Move(registers.OUTPUT_OFPORT, registers.INITIATOR_OFPORT)]  # fmt: skip
    if onward is not None:
        choices.append(Resubmit(onward))
    actions = tuple(chance.sample(choices, chance.randrange(3)))
    return actions, onward if chance.random() < 0.7 else None


def table_of(chance: random.Random, number: int, first_id: int) -> list[Flow]:
    """A table with two conjunctions of random clauses and some plain flows."""
    flows: list[Flow] = []
    clauses: dict[tuple[int, Match], list[Conjunction]] = {}
    for conj_id in range(first_id, first_id + 2):
        priority, count = chance.choice((100, 200)), chance.choice((2, 3))
        for clause in range(1, count + 1):
            for _ in range(chance.choice((1, 2, 3))):
                terms = match(*some_terms(chance))
                others = clauses.setdefault((priority, terms), [])
                if all(one.conj_id != conj_id for one in others):
                    others.append(Conjunction(conj_id, clause, count))
        actions, onward = some_actions(chance, number)
        flows.append(Flow(number, priority, match(exactly(oxm.CONJ_ID, conj_id)), actions, onward))
    flows += [Flow(number, priority, terms, tuple(own)) for (priority, terms), own in clauses.items()]
    for priority in chance.sample((50, 120, 150, 220, 250), 3):
        actions, onward = some_actions(chance, number)
        flow = Flow(number, priority, match(*some_terms(chance)), actions, onward)
        if (priority, flow.match) not in clauses:
            flows.append(flow)
    if chance.random() < 0.5 and number < LAST:
        commit = Ct(7, chance.choice((None, LAST)), commit=True)
        flows += [Flow(number, 20, match(family), (commit,), LAST) for family in FAMILIES]
    return [*flows, Flow(number, 1, (), (Output(4),), LAST if number < LAST else None)]


def some_packets(chance: random.Random) -> list[tuple[int, Packet]]:
    """Connections in both directions between few addresses and ports, and errors about them, in random order."""
    drawn: list[tuple[int, Packet]] = []
    for _ in range(12):
        source, target = chance.sample(chance.choice((ADDRESSES, ADDRESSES6)), 2)
        first = packets.transport(source, target, chance.choice(PROTOCOLS), 1000, chance.choice(DPORTS), SYN)
        back = packets.answer(first)
        error = packets.icmp_error(target, first)
        drawn += [(1, first), (2, back), (1, replace(first, flags=ACK)), (2, replace(back, flags=ACK)), (2, error)]
    # A TCP handshake in the wrong order is told apart more finely by the switch than here.
    loose = [(port, packet) for port, packet in drawn if packet.proto != 6 or not packet.flags & SYN]
    return drawn + chance.sample(loose, 20)


@pytest.mark.parametrize("number", range(40))
def test_random_tables(module_ovs: OpenVSwitch, number: int) -> None:
    chance = random.Random(number)
    flows = [Flow(0, 1, match(family), (Ct(7, 1),)) for family in FAMILIES]
    for table in range(1, LAST + 1):
        flows += table_of(chance, table, table * 10)
    seen: dict[tuple[int, int, Match], Flow] = {(flow.table, flow.priority, flow.match): flow for flow in flows}
    twin = InterpreterTwin(module_ovs, list(seen.values()))
    # Where two flows are equally good the switch may take either: such a packet ends the comparison.
    with suppress(Ambiguous):
        for in_port, packet in some_packets(chance):
            twin.send(in_port, packet)
        twin.check_counters()
