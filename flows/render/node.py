"""The flows of the node itself: its addresses belong to the LOCAL port, and no other port may use them."""

from __future__ import annotations

from flows.bridge.state import Binding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Output
from flows.openflow.match import exactly, in_range
from flows.openflow.port_numbers import LOCAL_16, LOCAL_32
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    DESTINATION_OFPORT,
    INITIATOR_OFPORT,
    NODE_ITSELF,
    OUTPUT_OFPORT,
    RESPONDER_OFPORT,
    SOURCE_OFPORT,
)
from flows.render.flow_set import FlowSet
from flows.render.neighbors import (
    FOR_ROUTERS,
    NEIGHBOR_ADVERTISEMENT,
    NEIGHBOR_SOLICITATION,
    address_question,
    discovery,
)
from flows.render.terms import IS_ARP, IS_MULTICAST, address_terms


def render_node(flows: FlowSet, binding: Binding) -> None:
    """Bind the node's addresses to LOCAL; no policy applies between the node and its own pods."""
    here = exactly(oxm.IN_PORT, LOCAL_32)
    itself: list[Action] = [Load(DESTINATION_OFPORT, NODE_ITSELF), Load(OUTPUT_OFPORT, LOCAL_16)]
    solicit, advertise = discovery(NEIGHBOR_SOLICITATION), discovery(NEIGHBOR_ADVERTISEMENT)
    for net in binding.node_addresses:
        source = address_terms("source", net)
        flows.add(
            tables.CLASSIFY,
            priorities.CLASSIFY_OWN_ADDRESS,
            [here, *source],
            [Load(SOURCE_OFPORT, NODE_ITSELF)],
            tables.CONNTRACK,
        )
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_SPOOFED, source)
        flows.add(
            tables.DESTINATION, priorities.DESTINATION_HERE, address_terms("destination", net), itself, tables.STATE
        )
        if net.version == 4:
            claim = [IS_ARP, exactly(oxm.ARP_SPA, net.value)]
            flows.add(tables.CLASSIFY, priorities.CLASSIFY_OWN_ADDRESS, [here, *claim], goto=tables.NEIGHBOR)
            flows.add(tables.CLASSIFY, priorities.CLASSIFY_SPOOFED, claim)
            continue
        for claim in ([*solicit, *source], [*advertise, exactly(oxm.ND_TARGET, net.value)]):
            flows.add(tables.CLASSIFY, priorities.CLASSIFY_OWN_DISCOVERY, [here, *claim], goto=tables.NEIGHBOR)
            flows.add(tables.CLASSIFY, priorities.CLASSIFY_SPOOFED_DISCOVERY, claim)
    for side in (INITIATOR_OFPORT, RESPONDER_OFPORT):
        flows.add(tables.EGRESS, priorities.RULES_NODE, [in_range(side, NODE_ITSELF)], goto=tables.LIMIT)


def render_neighbors(flows: FlowSet, binding: Binding) -> None:
    """Deliver ARP and neighbor discovery that are for no pod: to the node, to all ports, or to the uplink. Messages for
    routers go to the node and the uplink only."""
    for net in binding.node_addresses:
        flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_ASKED, address_question(net), [Output(LOCAL_32)])
    if binding.local_mac is not None:
        flows.add(
            tables.NEIGHBOR, priorities.NEIGHBOR_MAC, [exactly(oxm.ETH_DST, binding.local_mac)], [Output(LOCAL_32)]
        )
    routers = [Output(LOCAL_32), *([Output(binding.uplink)] if binding.uplink is not None else [])]
    for kind in FOR_ROUTERS:
        flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_TO_ROUTERS, discovery(kind), routers)
    flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_MULTICAST, [IS_MULTICAST], goto=tables.FLOOD)
    if binding.uplink is not None:
        flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_FROM_UPLINK, [exactly(oxm.IN_PORT, binding.uplink)])
        flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_TO_UPLINK, [], [Output(binding.uplink)])
