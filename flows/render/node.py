"""The flows of the node itself: its addresses belong to LOCAL, and nobody else may claim them."""

from __future__ import annotations

from flows.bridge.state import SwitchView
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Output
from flows.openflow.match import exactly, in_range
from flows.openflow.port_numbers import LOCAL_16, LOCAL_32
from flows.pipeline import tables
from flows.pipeline.priorities import NOT_ASKED
from flows.pipeline.registers import (
    DESTINATION,
    INITIATOR,
    NODE_ITSELF,
    OUTPUT,
    RESPONDER,
    SOURCE,
)
from flows.render.discovery import (
    FOR_ROUTERS,
    NEIGHBOR_ADVERTISEMENT,
    NEIGHBOR_SOLICITATION,
    discovery,
)
from flows.render.flow_set import ARP, MULTICAST, FlowSet, address
from flows.render.pods import asks_for


def render_node(flows: FlowSet, view: SwitchView) -> None:
    """The node itself: its addresses belong to LOCAL, and what it exchanges with its own pods is never asked about."""
    here = exactly(oxm.IN_PORT, LOCAL_32)
    itself: list[Action] = [Load(DESTINATION, NODE_ITSELF), Load(OUTPUT, LOCAL_16)]
    solicit, advertise = discovery(NEIGHBOR_SOLICITATION), discovery(NEIGHBOR_ADVERTISEMENT)
    for net in view.node_addresses:
        source = address("source", net)
        flows.add(tables.CLASSIFY, 200, [here, *source], [Load(SOURCE, NODE_ITSELF)], tables.CONNTRACK)
        flows.add(tables.CLASSIFY, 100, source)
        flows.add(tables.DESTINATION, 200, address("destination", net), itself, tables.STATE)
        if net.version == 4:
            claim = [ARP, exactly(oxm.ARP_SPA, net.value)]
            flows.add(tables.CLASSIFY, 200, [here, *claim], goto=tables.NEIGHBOR)
            flows.add(tables.CLASSIFY, 100, claim)
            continue
        for claim in ([*solicit, *source], [*advertise, exactly(oxm.ND_TARGET, net.value)]):
            flows.add(tables.CLASSIFY, 230, [here, *claim], goto=tables.NEIGHBOR)
            flows.add(tables.CLASSIFY, 220, claim)
    for side in (INITIATOR, RESPONDER):
        flows.add(tables.EGRESS, NOT_ASKED, [in_range(side, NODE_ITSELF)], goto=tables.LIMIT)


def render_neighbors(flows: FlowSet, view: SwitchView) -> None:
    """Delivery of ARP and neighbor discovery apart from pods: to the node, to everybody, or away. Pods are no
    routers."""
    for net in view.node_addresses:
        flows.add(tables.NEIGHBOR, 200, asks_for(net), [Output(LOCAL_32)])
    if view.local_mac is not None:
        flows.add(tables.NEIGHBOR, 190, [exactly(oxm.ETH_DST, view.local_mac)], [Output(LOCAL_32)])
    routers = [Output(LOCAL_32), *([Output(view.uplink)] if view.uplink is not None else [])]
    for kind in FOR_ROUTERS:
        flows.add(tables.NEIGHBOR, 220, discovery(kind), routers)
    flows.add(tables.NEIGHBOR, 100, [MULTICAST], goto=tables.FLOOD)
    if view.uplink is not None:
        flows.add(tables.NEIGHBOR, 50, [exactly(oxm.IN_PORT, view.uplink)])
        flows.add(tables.NEIGHBOR, 40, [], [Output(view.uplink)])
