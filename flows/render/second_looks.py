"""The flows that look once more at what policy denied to a pod with rules for domain names (docs/adr/0021).

Why. A pod gets an answer of DNS when the switch has the flows for its addresses. But Open vSwitch caches its decisions
as megaflows, and revises these after the commit, in other threads, when they get a processor. A pod that was denied
something shortly before has a megaflow that drops, for this address too. The first packet of the connection that the
answer was for would meet it, and come again after a second.

Theory of operation. A denied packet that opens a connection passes a meter of the pod, and then conntrack, once more:
so the datapath looks for a megaflow again, of those for second looks. When they deny, they match the packet's own
source port and destination. So a new connection has none: the packet gets to the flows that the switch has now.

    deny            first look               meter:0x484d0005,load:2->LOOK,ct(table=destination)
    destination...  the same tables, which judge it by what they have now
    egress_default  second look, denied      > deny: dropped, and not counted again
    deny            second look              by source port and destination

The meter bounds what a pod can make the switch do: a packet that it drops was denied in any case. Packets without
ports, those of SCTP on the userspace datapath, and a socket that tries one address again and again may still meet an
outdated megaflow, for as long as the switch has it.

An audited packet would be lost to `audit` with the meter, so a copy of it gets the second look.
"""

from __future__ import annotations

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Clone, Ct, Load, Meter, Move
from flows.openflow.match import exactly, in_range
from flows.openflow.register_bits import Range
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.pod_limits import Limit, meter_number
from flows.pipeline.registers import (
    AUDITED,
    COMPARED_SOURCE_PORT,
    CONNTRACK_ZONE,
    ENDPOINT_ADDRESS,
    INITIATOR_OFPORT,
    INTERPRETATION,
    LOOK,
    Audited,
    Interpretation,
    Look,
)
from flows.render.flow_set import FlowSet
from flows.render.interpretations import TRANSPORT_PORTS, whole_field
from flows.render.terms import IP_FAMILIES, IS_IPV4, IS_NO_FRAGMENT, IS_OPENING, IS_SCTP, IS_TCP, IS_UDP

_FROM_DESTINATION = Ct(CONNTRACK_ZONE, tables.DESTINATION.number)


def render_second_look(flows: FlowSet, ofport: int) -> None:
    """Look once more at what the pod at this port opens, and policy denies."""
    of_port = cookie(CookieKind.DNS, ofport)
    again: list[Action] = [Meter(meter_number(Limit.LOOKS, ofport)), Load(LOOK, Look.SECOND), _FROM_DESTINATION]
    copied: list[Action] = [
        Load(LOOK, Look.COPY),
        Load(AUDITED, Audited.NOT),
        Clone(_FROM_DESTINATION),
        Load(AUDITED, Audited.DENIED_EGRESS),
        Load(LOOK, Look.FIRST),
    ]
    for family in IP_FAMILIES:
        denied = [
            in_range(INITIATOR_OFPORT, ofport),
            IS_OPENING,
            exactly(oxm.CT_ZONE, CONNTRACK_ZONE),  # not SCTP that userspace conntrack does not know
            family,
            IS_NO_FRAGMENT,
            in_range(INTERPRETATION, Interpretation.AS_TRACKED),
            in_range(LOOK, Look.FIRST),
        ]
        for reason, actions in ((Audited.NOT, again), (Audited.DENIED_EGRESS, copied)):
            terms = [*denied, in_range(AUDITED, reason)]
            flows.add(tables.DENY, priorities.DENY_SECOND_LOOK, terms, actions, cookie=of_port)


def render_second_looks(flows: FlowSet) -> None:
    """What second looks of all pods share."""
    meet: list[Action] = [Load(LOOK, Look.FIRST)]
    copy, second = in_range(LOOK, Look.COPY), in_range(LOOK, Look.SECOND)
    flows.add(tables.DESTINATION, priorities.DESTINATION_COPY, [copy], meet, tables.DENY)
    for table in (tables.EGRESS_DEFAULT, tables.INGRESS_DEFAULT):
        flows.add(table, priorities.DEFAULT_LOOKED_AGAIN, [second], goto=tables.DENY)
    for family in IP_FAMILIES:
        target = oxm.IPV4_DST if family is IS_IPV4 else oxm.IPV6_DST
        for protocol in (IS_TCP, IS_UDP, IS_SCTP):
            # A field of which a bit is read becomes part of the megaflow as a whole.
            own: list[Action] = [
                Move(whole_field(TRANSPORT_PORTS[protocol.value][0]), COMPARED_SOURCE_PORT),
                Move(Range(target, 0, 31, ""), ENDPOINT_ADDRESS[0]),
            ]
            flows.add(tables.DENY, priorities.DENY_LOOKED_AGAIN, [second, family, protocol], own)
