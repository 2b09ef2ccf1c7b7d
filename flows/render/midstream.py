"""The flows of packets whose part in their connection conntrack cannot tell, or tells wrongly (docs/adr/0010, 0011).

TCP picked up in its middle, ICMP errors, one port at both ends, a SYN where an old connection still stands. Ordinary
packets pass all of this by; what policy says of any packet stands in `render_rules`.
"""

from __future__ import annotations

from flows.bridge.state import Binding, PodBinding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Conjunction, Ct, Load, Move, Pop, Push, Resubmit
from flows.openflow.match import Term, exactly, in_range, masked
from flows.openflow.register_bits import Range
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    BEHIND_NODE,
    COMPARED_DESTINATION_PORT,
    COMPARED_SOURCE_PORT,
    CONNTRACK_ZONE,
    DESTINATION_EGRESS,
    DESTINATION_INGRESS,
    DESTINATION_OFPORT,
    EGRESS_APPLIES,
    EMPTY_CONNTRACK_ZONE,
    INGRESS_APPLIES,
    INITIATOR_OFPORT,
    INTERPRETATION,
    MALFORMED,
    NODE_ITSELF,
    RESPONDER_OFPORT,
    SCTP_ASSOCIATION,
    SOURCE_EGRESS,
    SOURCE_INGRESS,
    SOURCE_OFPORT,
    Interpretation,
    SctpAssociation,
)
from flows.pipeline.tables import Table
from flows.render.flow_set import FlowSet
from flows.render.terms import (
    HAS_NO_SYN,
    IP_FAMILIES,
    IS_FRAGMENT,
    IS_INVALID_AND_TRACKED,
    IS_IPV4,
    IS_NO_FRAGMENT,
    IS_SCTP,
    IS_SYN_WITHOUT_ACK,
    IS_TCP,
    IS_UDP,
    IS_UNTRACKED,
    address_terms,
    ct_state_term,
)

_STATE = oxm.CtState
# Ports from 32768 on are those that clients get (Linux, net.ipv4.ip_local_port_range): one bit tells.
EPHEMERAL_PORT_BIT = 0x8000
SAME_PORT_CONJUNCTION = 1  # the only one in its table

_PORTS = {
    oxm.IP_PROTO_TCP: (oxm.TCP_SRC, oxm.TCP_DST),
    oxm.IP_PROTO_UDP: (oxm.UDP_SRC, oxm.UDP_DST),
    oxm.IP_PROTO_SCTP: (oxm.SCTP_SRC, oxm.SCTP_DST),
}
_JUDGE = Ct(EMPTY_CONNTRACK_ZONE, tables.DIRECTION.number)  # with the tuple that the header has now


def _whole(field: oxm.Field) -> Range:
    return Range(field, 0, field.width - 1, "")


def swap_ends(family: Term, protocol: Term) -> list[Action]:
    """The packet with source and destination in each other's place, ports too. Twice is the packet itself."""
    addresses = (oxm.IPV4_SRC, oxm.IPV4_DST) if family is IS_IPV4 else (oxm.IPV6_SRC, oxm.IPV6_DST)
    actions: list[Action] = []
    for source, target in (addresses, _PORTS[protocol.value]):
        here, there = _whole(source), _whole(target)
        actions += [Push(here), Push(there), Pop(here), Pop(there)]
    return actions


def judge_as_reply(family: Term, protocol: Term) -> list[Action]:
    """Judge the packet as an answer: turned round it has the tuple of the connection that it would belong to."""
    return [Load(INTERPRETATION, Interpretation.AS_REPLY), *swap_ends(family, protocol), _JUDGE]


def render_interpretations(flows: FlowSet, userspace: bool) -> None:
    """All of it that depends on no port."""
    _midstream(flows)
    _direction(flows)
    _one_port(flows)
    _ends(flows, userspace)
    if userspace:
        _stale(flows)
        _answers_to_both(flows)


def _midstream(flows: FlowSet) -> None:
    """A TCP segment without SYN that conntrack calls new: ports say who opened the connection, or nobody can."""
    table = tables.MIDSTREAM
    new = ct_state_term(_STATE.NEW, _STATE.NEW | _STATE.EST | _STATE.REL | _STATE.RPL)
    for family in IP_FAMILIES:
        flows.add(tables.STATE, priorities.STATE_MIDSTREAM, [new, family, IS_TCP, HAS_NO_SYN], goto=table)

    def ports(source: int, target: int) -> list[Term]:
        ends = masked(oxm.CT_TP_SRC, source, EPHEMERAL_PORT_BIT), masked(oxm.CT_TP_DST, target, EPHEMERAL_PORT_BIT)
        return [new, exactly(oxm.CT_NW_PROTO, oxm.IP_PROTO_TCP), *ends]

    flows.add(table, priorities.MIDSTREAM_FROM_CLIENT, ports(EPHEMERAL_PORT_BIT, 0), goto=tables.DIRECTION)
    for family in IP_FAMILIES:
        # A fragment cannot be turned round: its ports are not all there to be swapped.
        flows.add(table, priorities.MIDSTREAM_FRAGMENT, [family, IS_FRAGMENT])
        flows.add(
            table,
            priorities.MIDSTREAM_TO_CLIENT,
            [*ports(0, EPHEMERAL_PORT_BIT), family, IS_TCP],
            judge_as_reply(family, IS_TCP),
        )
    flows.add(
        table, priorities.MIDSTREAM_UNKNOWN, [], [Load(INTERPRETATION, Interpretation.BOTH_WAYS)], tables.DIRECTION
    )


def render_errors(flows: FlowSet, binding: Binding) -> None:
    """ICMP errors about a connection that is known. Routers behind the uplink and the node may report on any, a pod
    only on its own; conntrack itself wants an error to go to the sender of the packet that it quotes."""
    flows.add(tables.STATE, priorities.STATE_RELATED, [ct_state_term(_STATE.REL, _STATE.REL)], goto=tables.RELATED)
    sources = [NODE_ITSELF, BEHIND_NODE, *([] if binding.uplink is None else [binding.uplink])]
    for source in sources:
        flows.add(tables.RELATED, priorities.RELATED_ALLOWED, [in_range(SOURCE_OFPORT, source)], goto=tables.DIRECTION)


def admit_errors(flows: FlowSet, pod: PodBinding, owner: int) -> None:
    """A pod reports only on connections with itself at the other end."""
    both = _STATE.REL | _STATE.RPL
    for net in pod.addresses:
        for wanted, role in ((both, "responder"), (_STATE.REL, "initiator")):
            terms = [ct_state_term(wanted, both), in_range(SOURCE_OFPORT, pod.ofport), *address_terms(role, net)]
            flows.add(tables.RELATED, priorities.RELATED_ALLOWED, terms, goto=tables.DIRECTION, owner=owner)


def _direction(flows: FlowSet) -> None:
    """Who opened the connection: for a reply it is the destination. Isolation follows: egress of the one, ingress of
    the other."""
    replies = [
        Move(DESTINATION_OFPORT, INITIATOR_OFPORT),
        Move(SOURCE_OFPORT, RESPONDER_OFPORT),
        Move(DESTINATION_EGRESS, EGRESS_APPLIES),
        Move(SOURCE_INGRESS, INGRESS_APPLIES),
    ]
    opens = [
        Move(SOURCE_OFPORT, INITIATOR_OFPORT),
        Move(DESTINATION_OFPORT, RESPONDER_OFPORT),
        Move(SOURCE_EGRESS, EGRESS_APPLIES),
        Move(DESTINATION_INGRESS, INGRESS_APPLIES),
    ]
    table, tracked = tables.DIRECTION, ct_state_term(0, 0)
    flows.add(tables.STATE, priorities.STATE_TRACKED, [tracked], goto=table)
    flows.add(
        table,
        priorities.DIRECTION_AS_REPLY,
        [tracked, in_range(INTERPRETATION, Interpretation.AS_REPLY)],
        replies,
        tables.EGRESS,
    )
    flows.add(table, priorities.DIRECTION_REPLY, [ct_state_term(_STATE.RPL, _STATE.RPL)], replies, tables.EGRESS)
    flows.add(table, priorities.DIRECTION_ORIGINAL, [tracked], opens, tables.EGRESS)


def _one_port(flows: FlowSet) -> None:
    """Where both ends use one port, what looks like a reply may as well open: if policy denies it as the one, it is
    asked about the other. Nothing is recorded, so the first connection is not taken for allowed."""
    reply = ct_state_term(_STATE.RPL, _STATE.RPL | _STATE.REL)
    judged: tuple[tuple[Table, Table], ...] = (
        (tables.EGRESS, tables.EGRESS_DEFAULT),
        (tables.INGRESS, tables.INGRESS_DEFAULT),
    )
    for table, refused in judged:
        # What is judged again has left this way: it is counted there, if policy denies that too.
        flows.add(refused, priorities.DEFAULT_JUDGED_ANEW, [IS_UNTRACKED])
        for family in IP_FAMILIES:
            for protocol in (IS_UDP, IS_SCTP):
                source, target = map(_whole, _PORTS[protocol.value])
                compared: list[Action] = [
                    Move(source, COMPARED_SOURCE_PORT),
                    Move(target, COMPARED_DESTINATION_PORT),
                    Resubmit(tables.SAME_PORT.number),
                ]
                flows.add(
                    table, priorities.RULES_SAME_PORT, [reply, family, protocol, IS_NO_FRAGMENT], compared, refused
                )
    bits = range(COMPARED_SOURCE_PORT.width)
    for bit in bits:
        for value in (0, 1 << bit):
            terms = [
                masked(one.register, one.place(value), one.place(1 << bit))
                for one in (COMPARED_SOURCE_PORT, COMPARED_DESTINATION_PORT)
            ]
            clause = Conjunction(SAME_PORT_CONJUNCTION, bit + 1, len(bits))
            flows.add(tables.SAME_PORT, priorities.SAME_PORT_EQUAL, terms, [clause])
    own: list[Action] = [
        Load(INTERPRETATION, Interpretation.AS_OPENING),
        Load(SCTP_ASSOCIATION, SctpAssociation.UNKNOWN),
        _JUDGE,
    ]
    for family in IP_FAMILIES:
        flows.add(
            tables.SAME_PORT, priorities.SAME_PORT_EQUAL, [exactly(oxm.CONJ_ID, SAME_PORT_CONJUNCTION), family], own
        )


def _ends(flows: FlowSet, userspace: bool) -> None:
    """What becomes of a packet that is allowed in the reading it was given."""
    commit = tables.COMMIT
    for reading in (Interpretation.AS_REPLY, Interpretation.BOTH_WAYS, Interpretation.AS_OPENING):
        # Nothing is recorded, so nothing is counted as a new connection either.
        flows.add(tables.LIMIT, priorities.LIMIT_UNRECORDED, [in_range(INTERPRETATION, reading)], goto=commit)
    flows.add(
        commit, priorities.COMMIT_INTERPRETED, [in_range(INTERPRETATION, Interpretation.AS_OPENING)], goto=tables.OUTPUT
    )
    for family in IP_FAMILIES:
        for protocol in (IS_TCP, IS_SCTP) if userspace else (IS_TCP,):
            terms = [in_range(INTERPRETATION, Interpretation.AS_REPLY), family, protocol]
            flows.add(commit, priorities.COMMIT_INTERPRETED, terms, swap_ends(family, protocol), tables.OUTPUT)
        flows.add(
            commit,
            300,
            [in_range(INTERPRETATION, Interpretation.BOTH_WAYS), family, IS_TCP],
            judge_as_reply(family, IS_TCP),
        )


def _stale(flows: FlowSet) -> None:
    """A new connection with the addresses and ports of an old one. Userspace conntrack calls its SYN invalid; the
    kernel lets it pass and waits for what the other end says. A SYN that is invalid where nothing is recorded is broken
    itself."""
    flows.add(
        tables.DIRECTION, priorities.DIRECTION_MALFORMED, [IS_INVALID_AND_TRACKED], [Load(MALFORMED, 1)], tables.INVALID
    )
    for family in IP_FAMILIES:
        syn = [family, IS_TCP, IS_NO_FRAGMENT, IS_SYN_WITHOUT_ACK]
        flows.add(
            tables.STATE,
            priorities.STATE_STALE_SYN,
            [IS_INVALID_AND_TRACKED, *syn],
            [Load(INTERPRETATION, Interpretation.REPLACING), _JUDGE],
        )
        # Only what comes as a reply replaces: the packet turned round takes the old one's place, and then its own.
        force = (
            Ct(CONNTRACK_ZONE, None, commit=True, force=True),
            Ct(CONNTRACK_ZONE, tables.OUTPUT.number, commit=True, force=True),
        )
        replace = [*swap_ends(family, IS_TCP), force[0], *swap_ends(family, IS_TCP), force[1]]
        flows.add(
            tables.COMMIT,
            priorities.COMMIT_INTERPRETED,
            [in_range(INTERPRETATION, Interpretation.REPLACING), family, IS_TCP],
            replace,
        )


def _answers_to_both(flows: FlowSet) -> None:
    """Where both ends opened SCTP associations userspace conntrack knows one of them, and the answers to the other
    look original: the learned table knows better."""
    original = ct_state_term(0, _STATE.RPL)
    for family in IP_FAMILIES:
        answer = [original, family, IS_SCTP, in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)]
        plain = Load(SCTP_ASSOCIATION, SctpAssociation.UNKNOWN)
        flows.add(tables.STATE, priorities.STATE_SCTP_REPLY, answer, [plain, *judge_as_reply(family, IS_SCTP)])
