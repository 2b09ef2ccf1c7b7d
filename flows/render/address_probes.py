"""The flows by which a node is asked whether an address is its own, and what follows where it says so (docs/adr/0014).

A packet of the node with an address that nobody knows looks like one that the node forwards. Where policy refuses it,
the controller gets a bounded copy, and asks the node's own stack; the answers come by flows of their own. An address
that the node answered for is the node's in what the node sends, and in the replies to that. It takes nothing from
anybody: what pods open to it, and what others send with it, are judged as before.
"""

from __future__ import annotations

from flows.bridge.state import Binding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Meter, Output
from flows.openflow.match import Term, exactly, in_range
from flows.openflow.port_numbers import CONTROLLER_32, LOCAL_16, LOCAL_32
from flows.pipeline import priorities, tables
from flows.pipeline.pod_limits import CopyReason, Limit, meter_number
from flows.pipeline.registers import (
    BEHIND_NODE,
    DESTINATION_OFPORT,
    INITIATOR_OFPORT,
    INTERPRETATION,
    NODE_ITSELF,
    OUTPUT_OFPORT,
    PROBE_MAC,
    SCTP_ASSOCIATION,
    SOURCE_OFPORT,
    Interpretation,
    SctpAssociation,
)
from flows.render.discovery import NEIGHBOR_ADVERTISEMENT, discovery
from flows.render.flow_set import FlowSet
from flows.render.terms import IP_FAMILIES, IS_ARP, IS_SCTP, address_terms, ct_state_term

_ANSWERED = ct_state_term(oxm.CtState.RPL, oxm.CtState.RPL)


def render_address_probes(flows: FlowSet, binding: Binding) -> None:
    """All of it. Only a switch with meters asks, for without them nothing would bound the copies; and only with a known
    MAC address of its LOCAL port, for that is how an answer is the node's."""
    if binding.confirmed_addresses is None or binding.local_mac is None:
        return
    # A packet that is turned round has the pod's address as its source by now.
    refused = [
        in_range(SOURCE_OFPORT, BEHIND_NODE),
        in_range(INITIATOR_OFPORT, BEHIND_NODE),
        in_range(INTERPRETATION, Interpretation.AS_TRACKED),
    ]
    for family in IP_FAMILIES:
        flows.add(tables.DENY, priorities.DENY_COPY, [*refused, family], _copy(CopyReason.REFUSED))
    _answers(flows, binding.local_mac)
    for net in binding.confirmed_addresses:
        # Below what pods and the Node object claim: theirs it cannot become.
        source = [exactly(oxm.IN_PORT, LOCAL_32), *address_terms("source", net)]
        flows.add(
            tables.CLASSIFY,
            priorities.CLASSIFY_CONFIRMED_ADDRESS,
            source,
            [Load(SOURCE_OFPORT, NODE_ITSELF)],
            tables.CONNTRACK,
        )
        itself: list[Action] = [Load(DESTINATION_OFPORT, NODE_ITSELF), Load(OUTPUT_OFPORT, LOCAL_16)]
        reply = [exactly(oxm.ETH_DST, binding.local_mac), *address_terms("destination", net)]
        flows.add(tables.DESTINATION, priorities.DESTINATION_CONFIRMED_REPLY, [*reply, _ANSWERED], itself, tables.STATE)
        if binding.userspace:
            learned = in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)
            flows.add(
                tables.DESTINATION,
                priorities.DESTINATION_CONFIRMED_SCTP,
                [*reply, IS_SCTP, learned],
                itself,
                tables.STATE,
            )


def _answers(flows: FlowSet, mac: int) -> None:
    """What the node sends to the asker: complete answers of its own stack. Nobody else sends to that MAC address."""
    to_asker: list[Term] = [exactly(oxm.ETH_DST, PROBE_MAC)]
    here = [*to_asker, exactly(oxm.IN_PORT, LOCAL_32), exactly(oxm.ETH_SRC, mac)]
    arp = [IS_ARP, exactly(oxm.ARP_OP, 2), exactly(oxm.ARP_SHA, mac), exactly(oxm.ARP_TPA, 0)]
    advertisement = [*discovery(NEIGHBOR_ADVERTISEMENT), exactly(oxm.ND_TLL, mac), exactly(oxm.IP_TTL, 255)]
    for answer in (arp, advertisement):
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_PROBE_ANSWER, [*here, *answer], _copy(CopyReason.ANSWER))
    flows.add(tables.CLASSIFY, priorities.CLASSIFY_PROBE_MAC, to_asker)


def _copy(question: CopyReason) -> list[Action]:
    return [Meter(meter_number(Limit.COPIES, question)), Output(CONTROLLER_32)]
