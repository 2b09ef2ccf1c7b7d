"""The flows that let the controller probe whether an unknown address is the node's own (docs/adr/0014).

A packet that the node sends from an unknown address looks like one that the node forwards. Where policy denies it, the
controller gets a rate-limited copy, and probes the node's own network stack by ARP or neighbor solicitation; flows here
copy the answers to the controller. A confirmed address counts as the node's in packets that the node sends, and in
replies to these. It changes nothing else: what pods open to it, and what others send from it, is matched as before.

Example: kube-proxy sends from 192.0.2.7, an address on a dummy interface. The first packet is denied and copied, the
node answers the ARP probe, and the next packet is the node's own: no policy applies.
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
from flows.render.flow_set import FlowSet
from flows.render.neighbors import NEIGHBOR_ADVERTISEMENT, discovery
from flows.render.terms import IP_FAMILIES, IS_ARP, IS_SCTP, address_terms, ct_state_term

_IS_REPLY = ct_state_term(oxm.CtState.RPL, oxm.CtState.RPL)


def render_address_probes(flows: FlowSet, binding: Binding) -> None:
    """All flows of probes. None without meters, which limit the copies, and none without the MAC address of the LOCAL
    port, which proves that an answer is the node's."""
    if binding.confirmed_addresses is None or binding.local_mac is None:
        return
    # Not AS_REPLY: the ends of such a packet are swapped, so its source is the pod's address.
    refused = [
        in_range(SOURCE_OFPORT, BEHIND_NODE),
        in_range(INITIATOR_OFPORT, BEHIND_NODE),
        in_range(INTERPRETATION, Interpretation.AS_TRACKED),
    ]
    for family in IP_FAMILIES:
        flows.add(tables.DENY, priorities.DENY_COPY, [*refused, family], _copy(CopyReason.REFUSED))
    _answers(flows, binding.local_mac)
    for net in binding.confirmed_addresses:
        # Below the addresses of pods and of the Node object, which it cannot take over.
        source = [exactly(oxm.IN_PORT, LOCAL_32), *address_terms("source", net)]
        flows.add(
            tables.CLASSIFY,
            priorities.CLASSIFY_CONFIRMED_ADDRESS,
            source,
            [Load(SOURCE_OFPORT, NODE_ITSELF)],
            tables.CONNTRACK,
        )
        itself: list[Action] = [Load(DESTINATION_OFPORT, NODE_ITSELF), Load(OUTPUT_OFPORT, LOCAL_16)]
        # Where the switch routes, all packets have the gateway's MAC address.
        to_node = [] if binding.routing.routes else [exactly(oxm.ETH_DST, binding.local_mac)]
        reply = [*to_node, *address_terms("destination", net)]
        flows.add(tables.DESTINATION, priorities.DESTINATION_CONFIRMED_REPLY, [*reply, _IS_REPLY], itself, tables.STATE)
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
    """Copy the node's complete answers, which it sends to PROBE_MAC, to the controller. Drop all else sent there."""
    to_prober: list[Term] = [exactly(oxm.ETH_DST, PROBE_MAC)]
    here = [*to_prober, exactly(oxm.IN_PORT, LOCAL_32), exactly(oxm.ETH_SRC, mac)]
    arp = [IS_ARP, exactly(oxm.ARP_OP, 2), exactly(oxm.ARP_SHA, mac), exactly(oxm.ARP_TPA, 0)]
    advertisement = [*discovery(NEIGHBOR_ADVERTISEMENT), exactly(oxm.ND_TLL, mac), exactly(oxm.IP_TTL, 255)]
    for answer in (arp, advertisement):
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_PROBE_ANSWER, [*here, *answer], _copy(CopyReason.ANSWER))
    flows.add(tables.CLASSIFY, priorities.CLASSIFY_PROBE_MAC, to_prober)


def _copy(reason: CopyReason) -> list[Action]:
    return [Meter(meter_number(Limit.COPIES, reason)), Output(CONTROLLER_32)]
