"""The flows of packets whose role in their connection conntrack cannot tell, or tells wrongly (docs/adr/0010, 0011).

Theory of operation. Rules match the original direction of a connection, so a packet can be matched only once it is
clear who opened the connection. Conntrack tells for nearly every packet. For the others the pipeline sets register
INTERPRETATION to how the packet is to be matched, and `commit` looks at it again once policy has allowed the packet:

- AS_REPLY: addresses and ports of the packet are swapped, so that it has the tuple of the connection that it would
  belong to; it is matched as a reply. `commit` swaps them back and sends it.
- BOTH_WAYS: it is not known which end opened. The packet is matched as an opening one; `commit` matches it AS_REPLY
  too, so both interpretations must be allowed.
- AS_OPENING: a reply that policy denied is matched once more as a packet that opens (`same_port`).
- REPLACING: a SYN for a tuple of which conntrack still has an old connection. Once allowed, it replaces the old one.

Only REPLACING records anything in conntrack. To be matched again, the packet passes conntrack zone
EMPTY_CONNTRACK_ZONE, where nothing is ever recorded: there its tuple is what its headers say now.

Example: the controller restarts a node's switch while 10.0.0.5:40000 talks to 10.0.0.9:80. The next segment from port
80 is new to conntrack, but has no SYN: `state` sends it to `midstream`. Port 40000 is ephemeral and 80 is not, so the
segment is AS_REPLY: with its ends swapped it is matched as 10.0.0.5:40000 > 10.0.0.9:80, by the same rules as before.

Must not live here: which packets policy allows; see `rules`.
"""

from __future__ import annotations

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Ct, Load, Move, Pop, Push
from flows.openflow.match import Term, exactly, in_range, masked
from flows.openflow.register_bits import Range
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    BROKEN,
    CONNTRACK_ZONE,
    DESTINATION_EGRESS,
    DESTINATION_INGRESS,
    DESTINATION_OFPORT,
    EGRESS_APPLIES,
    EMPTY_CONNTRACK_ZONE,
    INGRESS_APPLIES,
    INITIATOR_OFPORT,
    INTERPRETATION,
    RESPONDER_OFPORT,
    SCTP_ASSOCIATION,
    SOURCE_EGRESS,
    SOURCE_INGRESS,
    SOURCE_OFPORT,
    Interpretation,
    SctpAssociation,
)
from flows.render.flow_set import FlowSet
from flows.render.terms import (
    HAS_NO_SYN,
    IP_FAMILIES,
    IS_FRAGMENT,
    IS_INVALID_AND_TRACKED,
    IS_IPV4,
    IS_NO_FRAGMENT,
    IS_RESET,
    IS_SCTP,
    IS_SYN_WITHOUT_ACK,
    IS_TCP,
    ct_state_term,
)

_STATE = oxm.CtState
# Clients get ports from 32768 on (Linux, net.ipv4.ip_local_port_range), so one bit tells an ephemeral port.
EPHEMERAL_PORT_BIT = 0x8000

TRANSPORT_PORTS = {
    oxm.IP_PROTO_TCP: (oxm.TCP_SRC, oxm.TCP_DST),
    oxm.IP_PROTO_UDP: (oxm.UDP_SRC, oxm.UDP_DST),
    oxm.IP_PROTO_SCTP: (oxm.SCTP_SRC, oxm.SCTP_DST),
}
# Initiator and responder of a reply, and of any other packet.
REPLYING = (
    Move(DESTINATION_OFPORT, INITIATOR_OFPORT),
    Move(SOURCE_OFPORT, RESPONDER_OFPORT),
    Move(DESTINATION_EGRESS, EGRESS_APPLIES),
    Move(SOURCE_INGRESS, INGRESS_APPLIES),
)
OPENING = (
    Move(SOURCE_OFPORT, INITIATOR_OFPORT),
    Move(DESTINATION_OFPORT, RESPONDER_OFPORT),
    Move(SOURCE_EGRESS, EGRESS_APPLIES),
    Move(DESTINATION_INGRESS, INGRESS_APPLIES),
)
MATCH_AGAIN = Ct(EMPTY_CONNTRACK_ZONE, tables.DIRECTION.number)  # with the tuple that the headers have now


def whole_field(field: oxm.Field) -> Range:
    """All bits of a field."""
    return Range(field, 0, field.width - 1, "")


def interpreted(interpretation: Interpretation) -> Term:
    """The packet is matched in this way."""
    return in_range(INTERPRETATION, interpretation)


def swap_ends(family: Term, protocol: Term) -> list[Action]:
    """Swap source and destination: addresses and ports. Twice gives the packet itself."""
    addresses = (oxm.IPV4_SRC, oxm.IPV4_DST) if family is IS_IPV4 else (oxm.IPV6_SRC, oxm.IPV6_DST)
    actions: list[Action] = []
    for source, target in (addresses, TRANSPORT_PORTS[protocol.value]):
        here, there = whole_field(source), whole_field(target)
        actions += [Push(here), Push(there), Pop(here), Pop(there)]
    return actions


def match_as_reply(family: Term, protocol: Term) -> list[Action]:
    """Match the packet as a reply: with its ends swapped it has the tuple of the connection that it would belong to."""
    return [Load(INTERPRETATION, Interpretation.AS_REPLY), *swap_ends(family, protocol), MATCH_AGAIN]


def render_midstream(flows: FlowSet) -> None:
    """A TCP segment without SYN that conntrack calls new: its ports tell which end opened, or nothing does."""
    table = tables.MIDSTREAM
    new = ct_state_term(_STATE.NEW, _STATE.NEW | _STATE.EST | _STATE.REL | _STATE.RPL)
    for family in IP_FAMILIES:
        flows.add(tables.STATE, priorities.STATE_MIDSTREAM, [new, family, IS_TCP, HAS_NO_SYN], goto=table)

    def ports(source: int, target: int) -> list[Term]:
        ends = masked(oxm.CT_TP_SRC, source, EPHEMERAL_PORT_BIT), masked(oxm.CT_TP_DST, target, EPHEMERAL_PORT_BIT)
        return [new, exactly(oxm.CT_NW_PROTO, oxm.IP_PROTO_TCP), *ends]

    # As the kernel's conntrack has it, but of clients only: the node refuses with resets of servers. A server that
    # sends to a client of a Service whose switch forgot the translation gets no reset, and goes on once the client
    # sends.
    for family in IP_FAMILIES:
        reset = [*ports(EPHEMERAL_PORT_BIT, 0), family, IS_TCP, IS_RESET]
        flows.add(table, priorities.MIDSTREAM_RESET, reset)
    flows.add(table, priorities.MIDSTREAM_FROM_CLIENT, ports(EPHEMERAL_PORT_BIT, 0), goto=tables.DIRECTION)
    for family in IP_FAMILIES:
        # The ends of a fragment cannot be swapped: a later fragment has no ports.
        flows.add(table, priorities.MIDSTREAM_FRAGMENT, [family, IS_FRAGMENT])
        to_client = [*ports(0, EPHEMERAL_PORT_BIT), family, IS_TCP]
        flows.add(table, priorities.MIDSTREAM_TO_CLIENT, to_client, match_as_reply(family, IS_TCP))
    both_ways = [Load(INTERPRETATION, Interpretation.BOTH_WAYS)]
    flows.add(table, priorities.MIDSTREAM_UNKNOWN, [], both_ways, tables.DIRECTION)


def render_direction(flows: FlowSet) -> None:
    """Initiator and responder of the connection: the initiator is a reply's destination, any other packet's source.
    Egress isolation of the initiator applies, and ingress isolation of the responder."""
    table, tracked = tables.DIRECTION, ct_state_term(0, 0)
    as_reply = [tracked, interpreted(Interpretation.AS_REPLY)]
    flows.add(tables.STATE, priorities.STATE_TRACKED, [tracked], goto=table)
    flows.add(table, priorities.DIRECTION_AS_REPLY, as_reply, REPLYING, tables.EGRESS)
    flows.add(table, priorities.DIRECTION_REPLY, [ct_state_term(_STATE.RPL, _STATE.RPL)], REPLYING, tables.EGRESS)
    flows.add(table, priorities.DIRECTION_ORIGINAL, [tracked], OPENING, tables.EGRESS)


def render_allowed_interpretations(flows: FlowSet, userspace: bool) -> None:
    """What happens to a packet once it is allowed as it was interpreted."""
    commit, priority = tables.COMMIT, priorities.COMMIT_INTERPRETED
    for interpretation in (Interpretation.AS_REPLY, Interpretation.BOTH_WAYS, Interpretation.AS_OPENING):
        # It is never recorded, so it does not count as a new connection.
        flows.add(tables.LIMIT, priorities.LIMIT_UNRECORDED, [interpreted(interpretation)], goto=commit)
    flows.add(commit, priority, [interpreted(Interpretation.AS_OPENING)], goto=tables.OUTPUT)
    for family in IP_FAMILIES:
        for protocol in (IS_TCP, IS_SCTP) if userspace else (IS_TCP,):
            as_reply = [interpreted(Interpretation.AS_REPLY), family, protocol]
            flows.add(commit, priority, as_reply, swap_ends(family, protocol), tables.OUTPUT)
        both_ways = [interpreted(Interpretation.BOTH_WAYS), family, IS_TCP]
        flows.add(commit, priority, both_ways, match_as_reply(family, IS_TCP))


def render_stale_syns(flows: FlowSet, marks: tuple[Load | Move, ...] = ()) -> None:
    """Userspace datapath: a SYN with addresses and ports of an old connection, which userspace conntrack calls invalid
    (the kernel's does not). A SYN that is invalid in the empty zone too is broken. `marks` are of every commit."""
    broken: list[Action] = [Load(BROKEN, 1)]
    flows.add(tables.DIRECTION, priorities.DIRECTION_BROKEN, [IS_INVALID_AND_TRACKED], broken, tables.INVALID)
    replacing: list[Action] = [Load(INTERPRETATION, Interpretation.REPLACING), MATCH_AGAIN]
    for family in IP_FAMILIES:
        syn = [IS_INVALID_AND_TRACKED, family, IS_TCP, IS_NO_FRAGMENT, IS_SYN_WITHOUT_ACK]
        flows.add(tables.STATE, priorities.STATE_STALE_SYN, syn, replacing)
        # A forced commit replaces an entry only for a packet that conntrack takes for its reply. So the packet with its
        # ends swapped replaces the old entry first, then the packet itself replaces that one.
        swap = swap_ends(family, IS_TCP)
        first = Ct(CONNTRACK_ZONE, None, commit=True, force=True, marks=marks)
        second = Ct(CONNTRACK_ZONE, tables.OUTPUT.number, commit=True, force=True, marks=marks)
        allowed = [interpreted(Interpretation.REPLACING), family, IS_TCP]
        flows.add(tables.COMMIT, priorities.COMMIT_INTERPRETED, allowed, [*swap, first, *swap, second])


def render_sctp_replies(flows: FlowSet) -> None:
    """Userspace datapath: where both ends opened SCTP associations, conntrack knows only one of them, and calls replies
    of the other original. The learned table tells that they are replies."""
    original = ct_state_term(0, _STATE.RPL)
    for family in IP_FAMILIES:
        reply = [original, family, IS_SCTP, in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)]
        plain = Load(SCTP_ASSOCIATION, SctpAssociation.UNKNOWN)
        flows.add(tables.STATE, priorities.STATE_SCTP_REPLY, reply, [plain, *match_as_reply(family, IS_SCTP)])
