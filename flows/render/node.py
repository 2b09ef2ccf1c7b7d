"""The flows of the node itself: its addresses belong to LOCAL, and nobody else may claim them."""

from __future__ import annotations

from flows.bridge.state import Binding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Output
from flows.openflow.match import exactly, in_range
from flows.openflow.port_numbers import LOCAL_16, LOCAL_32
from flows.pipeline import tables
from flows.pipeline.priorities import NOT_ASKED
from flows.pipeline.registers import (
    DESTINATION_OFPORT,
    INITIATOR_OFPORT,
    NODE_ITSELF,
    OUTPUT_OFPORT,
    RESPONDER_OFPORT,
    SOURCE_OFPORT,
)
from flows.render.discovery import (
    FOR_ROUTERS,
    NEIGHBOR_ADVERTISEMENT,
    NEIGHBOR_SOLICITATION,
    discovery,
)
from flows.render.flow_set import ARP, MULTICAST, FlowSet, address_terms
from flows.render.pods import asks_for


def render_node(flows: FlowSet, binding: Binding) -> None:
    """The node itself: its addresses belong to LOCAL, and what it exchanges with its own pods is never asked about."""
    here = exactly(oxm.IN_PORT, LOCAL_32)
    itself: list[Action] = [Load(DESTINATION_OFPORT, NODE_ITSELF), Load(OUTPUT_OFPORT, LOCAL_16)]
    solicit, advertise = discovery(NEIGHBOR_SOLICITATION), discovery(NEIGHBOR_ADVERTISEMENT)
    for net in binding.node_addresses:
        source = address_terms("source", net)
        flows.add(tables.CLASSIFY, 200, [here, *source], [Load(SOURCE_OFPORT, NODE_ITSELF)], tables.CONNTRACK)
        flows.add(tables.CLASSIFY, 100, source)
        flows.add(tables.DESTINATION, 200, address_terms("destination", net), itself, tables.STATE)
        if net.version == 4:
            claim = [ARP, exactly(oxm.ARP_SPA, net.value)]
            flows.add(tables.CLASSIFY, 200, [here, *claim], goto=tables.NEIGHBOR)
            flows.add(tables.CLASSIFY, 100, claim)
            continue
        for claim in ([*solicit, *source], [*advertise, exactly(oxm.ND_TARGET, net.value)]):
            flows.add(tables.CLASSIFY, 230, [here, *claim], goto=tables.NEIGHBOR)
            flows.add(tables.CLASSIFY, 220, claim)
    for side in (INITIATOR_OFPORT, RESPONDER_OFPORT):
        flows.add(tables.EGRESS, NOT_ASKED, [in_range(side, NODE_ITSELF)], goto=tables.LIMIT)


def render_neighbors(flows: FlowSet, binding: Binding) -> None:
    """Delivery of ARP and neighbor discovery apart from pods: to the node, to everybody, or away. Pods are no
    routers."""
    for net in binding.node_addresses:
        flows.add(tables.NEIGHBOR, 200, asks_for(net), [Output(LOCAL_32)])
    if binding.local_mac is not None:
        flows.add(tables.NEIGHBOR, 190, [exactly(oxm.ETH_DST, binding.local_mac)], [Output(LOCAL_32)])
    routers = [Output(LOCAL_32), *([Output(binding.uplink)] if binding.uplink is not None else [])]
    for kind in FOR_ROUTERS:
        flows.add(tables.NEIGHBOR, 220, discovery(kind), routers)
    flows.add(tables.NEIGHBOR, 100, [MULTICAST], goto=tables.FLOOD)
    if binding.uplink is not None:
        flows.add(tables.NEIGHBOR, 50, [exactly(oxm.IN_PORT, binding.uplink)])
        flows.add(tables.NEIGHBOR, 40, [], [Output(binding.uplink)])
