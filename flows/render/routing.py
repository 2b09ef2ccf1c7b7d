"""The flows of a bridge that routes, in place of those that forward by MAC address (`fixed`, `node`).

A packet goes by its destination address alone: to a pod or the node here, through the tunnel to another node (see
`tunnel`), or to the node, which routes it on. Which MAC addresses it gets is rendered in `gateway`. Policy applies as
in mode `flat`: to all but what passes between the node and the tunnel.
"""

from __future__ import annotations

from flows.bridge.state import Binding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load
from flows.openflow.match import exactly, in_range
from flows.openflow.port_numbers import LOCAL_16, LOCAL_32
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    BEHIND_NODE,
    DESTINATION_OFPORT,
    FROM_BEHIND_NODE,
    INITIATOR_OFPORT,
    NODE_ITSELF,
    OUTPUT_OFPORT,
    REFUSAL,
    RESPONDER_OFPORT,
    SOURCE_OFPORT,
)
from flows.render.address_probes import render_address_probes
from flows.render.flow_set import FlowSet
from flows.render.gateway import render_node_gateway
from flows.render.icmp_errors import render_icmp_errors
from flows.render.neighbors import NEIGHBOR_SOLICITATION, discovery
from flows.render.services import render_service_ranges
from flows.render.terms import IP_FAMILIES, IS_ARP, IS_INVALID_AND_TRACKED, address_terms
from flows.render.tunnel import admit_tunnel

_OF_NODE = (NODE_ITSELF, BEHIND_NODE)


def render_routed_bridge(flows: FlowSet, binding: Binding) -> None:
    """The flows that depend on the bridge's LOCAL port, its tunnel port, its node's addresses and pod ranges."""
    _admit_node(flows, binding)
    admit_tunnel(flows, binding)
    _own_ranges(flows, binding)
    _deliver_to_node(flows, binding)
    _between_node_and_tunnel(flows, binding)
    render_icmp_errors(flows, binding)
    render_address_probes(flows, binding)
    render_node_gateway(flows, binding)
    render_service_ranges(flows, binding)


def _admit_node(flows: FlowSet, binding: Binding) -> None:
    """What comes from the node: its own packets, those that it forwards, and questions to the gateway. No other port
    may use the node's addresses, and the node no address of its pods: see `pods` and `_own_ranges`."""
    table, here = tables.CLASSIFY, exactly(oxm.IN_PORT, LOCAL_32)
    flows.add(table, priorities.CLASSIFY_OUTSIDE, [here, IS_ARP], goto=tables.NEIGHBOR)
    question = [here, *discovery(NEIGHBOR_SOLICITATION)]
    flows.add(table, priorities.CLASSIFY_OUTSIDE_DISCOVERY, question, goto=tables.NEIGHBOR)
    behind = [Load(SOURCE_OFPORT, BEHIND_NODE), Load(FROM_BEHIND_NODE, 1)]
    for family in IP_FAMILIES:
        flows.add(table, priorities.CLASSIFY_OUTSIDE, [here, family], behind, tables.CONNTRACK)
    itself = [Load(SOURCE_OFPORT, NODE_ITSELF)]
    for net in binding.node_addresses:
        source = address_terms("source", net)
        flows.add(table, priorities.CLASSIFY_OWN_ADDRESS, [here, *source], itself, tables.CONNTRACK)
        flows.add(table, priorities.CLASSIFY_SPOOFED, source)
    for side in (INITIATOR_OFPORT, RESPONDER_OFPORT):
        flows.add(tables.EGRESS, priorities.RULES_NODE, [in_range(side, NODE_ITSELF)], goto=tables.LIMIT)


def _own_ranges(flows: FlowSet, binding: Binding) -> None:
    """Addresses of the node's pod ranges are of pods here or of nobody."""
    own = binding.routing.own
    for net in own.pod_cidrs if own is not None else ():
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_SPOOFED, address_terms("source", net))
        flows.add(tables.DESTINATION, priorities.DESTINATION_NO_POD, address_terms("destination", net))


def _deliver_to_node(flows: FlowSet, binding: Binding) -> None:
    """To an address of the node, and to everything else that pods send. What the node sent does not come back to it."""
    table = tables.DESTINATION
    itself: list[Action] = [Load(DESTINATION_OFPORT, NODE_ITSELF), Load(OUTPUT_OFPORT, LOCAL_16)]
    for net in binding.node_addresses:
        flows.add(table, priorities.DESTINATION_HERE, address_terms("destination", net), itself, tables.STATE)
    for source in _OF_NODE:
        flows.add(table, priorities.DESTINATION_BACK_TO_NODE, [in_range(SOURCE_OFPORT, source)])
    behind: list[Action] = [Load(DESTINATION_OFPORT, BEHIND_NODE), Load(OUTPUT_OFPORT, LOCAL_16)]
    for family in IP_FAMILIES:
        flows.add(table, priorities.DESTINATION_ROUTED_ON, [family], behind, tables.STATE)


def _between_node_and_tunnel(flows: FlowSet, binding: Binding) -> None:
    """No policy applies between the node and other nodes, and what comes through the tunnel ends here. These
    connections are recorded nowhere, so userspace conntrack calls the replies of TCP invalid: they pass."""
    tunnel = binding.tunnel
    if tunnel is None:
        return
    from_tunnel, to_tunnel = in_range(SOURCE_OFPORT, tunnel), in_range(DESTINATION_OFPORT, tunnel)
    flows.add(tables.DESTINATION, priorities.DESTINATION_FROM_TUNNEL, [from_tunnel])
    ways = [[in_range(SOURCE_OFPORT, port), to_tunnel] for port in _OF_NODE]
    ways.append([from_tunnel, in_range(DESTINATION_OFPORT, NODE_ITSELF)])
    for way in ways:
        flows.add(tables.STATE, priorities.STATE_NODE_AND_TUNNEL, way, goto=tables.OUTPUT)
        unknown = [*way, IS_INVALID_AND_TRACKED]
        flows.add(tables.STATE, priorities.STATE_UNKNOWN_TO_TUNNEL, unknown, [Load(REFUSAL, 1)], tables.OUTPUT)
