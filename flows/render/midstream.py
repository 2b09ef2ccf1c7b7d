"""The flows of packets whose part in their connection conntrack cannot tell, or tells wrongly (docs/adr/0010, 0011).

TCP picked up in its middle, ICMP errors, one port at both ends, a SYN where an old connection still stands. Ordinary
packets pass all of this by; what policy says of any packet stands in `render_rules`.
"""

from __future__ import annotations

from flows.bridge.state import Attachment, Binding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Conjunction, Ct, Load, Move, Pop, Push, Resubmit
from flows.openflow.match import Term, exactly, in_range, masked
from flows.openflow.register_bits import Range
from flows.pipeline import tables
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
from flows.render.flow_set import FAMILIES, IPV4, FlowSet, address_terms

_STATE = oxm.CtState
# Without TRK: fragments that waited in vain come out of userspace conntrack invalid but not tracked.
INVALID = masked(oxm.CT_STATE, _STATE.INV, _STATE.INV)
INVALID_NOW = masked(oxm.CT_STATE, _STATE.INV | _STATE.TRK, _STATE.INV | _STATE.TRK)
NEW = masked(oxm.CT_STATE, _STATE.NEW | _STATE.TRK, _STATE.NEW | _STATE.TRK)
UNTRACKED = masked(oxm.CT_STATE, 0, _STATE.TRK)
FRAGMENT = masked(oxm.IP_FRAG, oxm.Fragment.ANY, oxm.Fragment.ANY)
WHOLE = exactly(oxm.IP_FRAG, 0)
TCP = exactly(oxm.IP_PROTO, oxm.IP_PROTO_TCP)
UDP = exactly(oxm.IP_PROTO, oxm.IP_PROTO_UDP)
SCTP = exactly(oxm.IP_PROTO, oxm.IP_PROTO_SCTP)
SYN_ALONE = masked(oxm.TCP_FLAGS, oxm.TcpFlags.SYN, oxm.TcpFlags.SYN | oxm.TcpFlags.ACK)
NO_SYN = masked(oxm.TCP_FLAGS, 0, oxm.TcpFlags.SYN)
# Ports from 32768 on are those that clients get (Linux, net.ipv4.ip_local_port_range): one bit tells.
EPHEMERAL_PORT_BIT = 0x8000
SAME_PORT_CONJUNCTION = 1  # the only one in its table

_PORTS = {
    oxm.IP_PROTO_TCP: (oxm.TCP_SRC, oxm.TCP_DST),
    oxm.IP_PROTO_UDP: (oxm.UDP_SRC, oxm.UDP_DST),
    oxm.IP_PROTO_SCTP: (oxm.SCTP_SRC, oxm.SCTP_DST),
}
_JUDGE = Ct(EMPTY_CONNTRACK_ZONE, tables.DIRECTION.number)  # with the tuple that the header has now


def state(wanted: int, looked_at: int) -> Term:
    """A tracked, valid packet with these of those bits of ct_state."""
    return masked(oxm.CT_STATE, wanted | _STATE.TRK, looked_at | _STATE.TRK | _STATE.INV)


def _whole(field: oxm.Field) -> Range:
    return Range(field, 0, field.width - 1, "")


def swap_ends(family: Term, protocol: Term) -> list[Action]:
    """The packet with source and destination in each other's place, ports too. Twice is the packet itself."""
    addresses = (oxm.IPV4_SRC, oxm.IPV4_DST) if family is IPV4 else (oxm.IPV6_SRC, oxm.IPV6_DST)
    actions: list[Action] = []
    for source, target in (addresses, _PORTS[protocol.value]):
        here, there = _whole(source), _whole(target)
        actions += [Push(here), Push(there), Pop(here), Pop(there)]
    return actions


def judge_as_reply(family: Term, protocol: Term) -> list[Action]:
    """Judge the packet as an answer: turned round it has the tuple of the connection that it would belong to."""
    return [Load(INTERPRETATION, Interpretation.BACKWARD), *swap_ends(family, protocol), _JUDGE]


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
    new = state(_STATE.NEW, _STATE.NEW | _STATE.EST | _STATE.REL | _STATE.RPL)
    for family in FAMILIES:
        flows.add(tables.STATE, 150, [new, family, TCP, NO_SYN], goto=table)

    def ports(source: int, target: int) -> list[Term]:
        ends = masked(oxm.CT_TP_SRC, source, EPHEMERAL_PORT_BIT), masked(oxm.CT_TP_DST, target, EPHEMERAL_PORT_BIT)
        return [new, exactly(oxm.CT_NW_PROTO, oxm.IP_PROTO_TCP), *ends]

    flows.add(table, 100, ports(EPHEMERAL_PORT_BIT, 0), goto=tables.DIRECTION)
    for family in FAMILIES:
        # A fragment cannot be turned round: its ports are not all there to be swapped.
        flows.add(table, 90, [family, FRAGMENT])
        flows.add(table, 80, [*ports(0, EPHEMERAL_PORT_BIT), family, TCP], judge_as_reply(family, TCP))
    flows.add(table, 10, [], [Load(INTERPRETATION, Interpretation.EITHER)], tables.DIRECTION)


def render_errors(flows: FlowSet, binding: Binding) -> None:
    """ICMP errors about a connection that is known. Routers behind the uplink and the node may report on any, a pod
    only on its own; conntrack itself wants an error to go to the sender of the packet that it quotes."""
    flows.add(tables.STATE, 185, [state(_STATE.REL, _STATE.REL)], goto=tables.RELATED)
    sources = [NODE_ITSELF, BEHIND_NODE, *([] if binding.uplink is None else [binding.uplink])]
    for source in sources:
        flows.add(tables.RELATED, 100, [in_range(SOURCE_OFPORT, source)], goto=tables.DIRECTION)


def admit_errors(flows: FlowSet, pod: Attachment, owner: int) -> None:
    """A pod reports only on connections with itself at the other end."""
    both = _STATE.REL | _STATE.RPL
    for net in pod.addresses:
        for wanted, role in ((both, "responder"), (_STATE.REL, "initiator")):
            terms = [state(wanted, both), in_range(SOURCE_OFPORT, pod.ofport), *address_terms(role, net)]
            flows.add(tables.RELATED, 100, terms, goto=tables.DIRECTION, owner=owner)


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
    table, tracked = tables.DIRECTION, state(0, 0)
    flows.add(tables.STATE, 110, [tracked], goto=table)
    flows.add(table, 120, [tracked, in_range(INTERPRETATION, Interpretation.BACKWARD)], replies, tables.EGRESS)
    flows.add(table, 110, [state(_STATE.RPL, _STATE.RPL)], replies, tables.EGRESS)
    flows.add(table, 100, [tracked], opens, tables.EGRESS)


def _one_port(flows: FlowSet) -> None:
    """Where both ends use one port, what looks like a reply may as well open: if policy denies it as the one, it is
    asked about the other. Nothing is recorded, so the first connection is not taken for allowed."""
    reply = state(_STATE.RPL, _STATE.RPL | _STATE.REL)
    judged: tuple[tuple[Table, Table], ...] = (
        (tables.EGRESS, tables.EGRESS_DEFAULT),
        (tables.INGRESS, tables.INGRESS_DEFAULT),
    )
    for table, refused in judged:
        # What is judged again has left this way: it is counted there, if policy denies that too.
        flows.add(refused, 200, [UNTRACKED])
        for family in FAMILIES:
            for protocol in (UDP, SCTP):
                source, target = map(_whole, _PORTS[protocol.value])
                compared: list[Action] = [
                    Move(source, COMPARED_SOURCE_PORT),
                    Move(target, COMPARED_DESTINATION_PORT),
                    Resubmit(tables.SAME_PORT.number),
                ]
                flows.add(table, 10, [reply, family, protocol, WHOLE], compared, refused)
    bits = range(COMPARED_SOURCE_PORT.width)
    for bit in bits:
        for value in (0, 1 << bit):
            terms = [
                masked(one.register, one.place(value), one.place(1 << bit))
                for one in (COMPARED_SOURCE_PORT, COMPARED_DESTINATION_PORT)
            ]
            clause = Conjunction(SAME_PORT_CONJUNCTION, bit + 1, len(bits))
            flows.add(tables.SAME_PORT, 100, terms, [clause])
    own: list[Action] = [
        Load(INTERPRETATION, Interpretation.ITS_OWN),
        Load(SCTP_ASSOCIATION, SctpAssociation.UNKNOWN),
        _JUDGE,
    ]
    for family in FAMILIES:
        flows.add(tables.SAME_PORT, 100, [exactly(oxm.CONJ_ID, SAME_PORT_CONJUNCTION), family], own)


def _ends(flows: FlowSet, userspace: bool) -> None:
    """What becomes of a packet that is allowed in the reading it was given."""
    commit = tables.COMMIT
    for reading in (Interpretation.BACKWARD, Interpretation.EITHER, Interpretation.ITS_OWN):
        # Nothing is recorded, so nothing is counted as a new connection either.
        flows.add(tables.LIMIT, 300, [in_range(INTERPRETATION, reading)], goto=commit)
    flows.add(commit, 300, [in_range(INTERPRETATION, Interpretation.ITS_OWN)], goto=tables.OUTPUT)
    for family in FAMILIES:
        for protocol in (TCP, SCTP) if userspace else (TCP,):
            terms = [in_range(INTERPRETATION, Interpretation.BACKWARD), family, protocol]
            flows.add(commit, 300, terms, swap_ends(family, protocol), tables.OUTPUT)
        flows.add(
            commit, 300, [in_range(INTERPRETATION, Interpretation.EITHER), family, TCP], judge_as_reply(family, TCP)
        )


def _stale(flows: FlowSet) -> None:
    """A new connection with the addresses and ports of an old one. Userspace conntrack calls its SYN invalid; the
    kernel lets it pass and waits for what the other end says. A SYN that is invalid where nothing is recorded is broken
    itself."""
    flows.add(tables.DIRECTION, 130, [INVALID_NOW], [Load(MALFORMED, 1)], tables.INVALID)
    for family in FAMILIES:
        syn = [family, TCP, WHOLE, SYN_ALONE]
        flows.add(tables.STATE, 210, [INVALID_NOW, *syn], [Load(INTERPRETATION, Interpretation.REPLACING), _JUDGE])
        # Only what comes as a reply replaces: the packet turned round takes the old one's place, and then its own.
        force = (
            Ct(CONNTRACK_ZONE, None, commit=True, force=True),
            Ct(CONNTRACK_ZONE, tables.OUTPUT.number, commit=True, force=True),
        )
        replace = [*swap_ends(family, TCP), force[0], *swap_ends(family, TCP), force[1]]
        flows.add(tables.COMMIT, 300, [in_range(INTERPRETATION, Interpretation.REPLACING), family, TCP], replace)


def _answers_to_both(flows: FlowSet) -> None:
    """Where both ends opened SCTP associations userspace conntrack knows one of them, and the answers to the other
    look original: the learned table knows better."""
    original = state(0, _STATE.RPL)
    for family in FAMILIES:
        answer = [original, family, SCTP, in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)]
        plain = Load(SCTP_ASSOCIATION, SctpAssociation.UNKNOWN)
        flows.add(tables.STATE, 180, answer, [plain, *judge_as_reply(family, SCTP)])
