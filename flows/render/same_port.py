"""Replies of UDP and SCTP between one port at both ends: what looks like a reply may as well open a connection.

Example: two NTP servers a and b, both at UDP port 123. Policy once allowed a > b, so conntrack knows that connection,
and now allows b > a only. To conntrack a packet from b to a is a reply to a > b, which is denied; here the packet is
matched once more as one that opens b > a. Nothing is recorded for it, so a > b is not taken for allowed.

OpenFlow cannot compare two fields. So both ports are copied into registers, and a conjunction with one clause for each
bit, in which both registers have 0 or both have 1, matches where they are equal.
"""

from __future__ import annotations

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Conjunction, Load, Move, Resubmit
from flows.openflow.match import exactly, masked
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    COMPARED_DESTINATION_PORT,
    COMPARED_SOURCE_PORT,
    INTERPRETATION,
    SCTP_ASSOCIATION,
    Interpretation,
    SctpAssociation,
)
from flows.pipeline.table import Table
from flows.render.flow_set import FlowSet
from flows.render.interpretations import MATCH_AGAIN, TRANSPORT_PORTS, whole_field
from flows.render.terms import IP_FAMILIES, IS_NO_FRAGMENT, IS_SCTP, IS_UDP, IS_UNTRACKED, ct_state_term

SAME_PORT_CONJUNCTION = 1  # the only one in its table


def render_same_port(flows: FlowSet) -> None:
    """Look a denied reply up in `same_port`, and match it as a packet that opens where both ports are one."""
    for table, default in ((tables.EGRESS, tables.EGRESS_DEFAULT), (tables.INGRESS, tables.INGRESS_DEFAULT)):
        # ct() in `same_port` sends a copy on, to be matched again, and leaves this one untracked: only the copy counts.
        flows.add(default, priorities.DEFAULT_MATCHED_AGAIN, [IS_UNTRACKED])
        look_up_same_port(flows, table, priorities.RULES_SAME_PORT, default)
    bits = range(COMPARED_SOURCE_PORT.width)
    for bit in bits:
        for value in (0, 1 << bit):
            terms = [
                masked(one.register, one.place(value), one.place(1 << bit))
                for one in (COMPARED_SOURCE_PORT, COMPARED_DESTINATION_PORT)
            ]
            clause = Conjunction(SAME_PORT_CONJUNCTION, bit + 1, len(bits))
            flows.add(tables.SAME_PORT, priorities.SAME_PORT_EQUAL, terms, [clause])
    as_opening: list[Action] = [
        Load(INTERPRETATION, Interpretation.AS_OPENING),
        Load(SCTP_ASSOCIATION, SctpAssociation.UNKNOWN),
        MATCH_AGAIN,
    ]
    for family in IP_FAMILIES:
        equal = [exactly(oxm.CONJ_ID, SAME_PORT_CONJUNCTION), family]
        flows.add(tables.SAME_PORT, priorities.SAME_PORT_EQUAL, equal, as_opening)


def look_up_same_port(flows: FlowSet, table: Table, priority: int, default: Table) -> None:
    """Replies that come here are denied: look them up in `same_port`, then go on to `default`."""
    reply = ct_state_term(oxm.CtState.RPL, oxm.CtState.RPL | oxm.CtState.REL)
    for family in IP_FAMILIES:
        for protocol in (IS_UDP, IS_SCTP):
            source, target = map(whole_field, TRANSPORT_PORTS[protocol.value])
            compared: list[Action] = [
                Move(source, COMPARED_SOURCE_PORT),
                Move(target, COMPARED_DESTINATION_PORT),
                Resubmit(tables.SAME_PORT.number),
            ]
            flows.add(table, priority, [reply, family, protocol, IS_NO_FRAGMENT], compared, default)
