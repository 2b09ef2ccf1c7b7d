"""The flows of one other node, reached through the bridge's tunnel port: one per direction and range or address of it,
and one for Services that the node itself uses.

The number of its pods does not matter. A packet is taken from the tunnel only if it comes from the node's tunnel end,
to our own (`admit_tunnel`), and from an address that is reached through that node; with the address of its pods it is
taken from nowhere else.
"""

from __future__ import annotations

from flows.bridge.routing import RoutedNode
from flows.bridge.state import Binding
from flows.cluster.net import Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Resubmit, SetField
from flows.openflow.match import exactly, in_range
from flows.openflow.port_numbers import LOCAL_16
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    BEHIND_NODE,
    DESTINATION_OFPORT,
    OPENED_BEHIND_NODE,
    OUTPUT_OFPORT,
    SOURCE_OFPORT,
)
from flows.render.flow_set import FlowSet
from flows.render.services import leave_by_node, look_up_other_node
from flows.render.terms import address_terms, ct_state_term

_IS_REPLY = ct_state_term(oxm.CtState.RPL, oxm.CtState.RPL)


def admit_tunnel(flows: FlowSet, binding: Binding) -> None:
    """What comes through the tunnel to our node's own end is looked up again, as from the tunnel.

    The outer source alone proves nothing: a pod's packets leave its node with the node's address, which is its tunnel's
    end. They cannot get to another node's end without a tunnel (`render_remote_node`), but to any further address that
    the node has."""
    own, tunnel = binding.routing.own, binding.tunnel
    if tunnel is None or own is None or own.tunnel_end is None:
        return
    end = own.tunnel_end
    to_us = exactly(oxm.TUN_DST if end.version == 4 else oxm.TUN_IPV6_DST, end.value)
    here = [exactly(oxm.IN_PORT, tunnel), to_us, in_range(SOURCE_OFPORT, 0)]
    again: list[Action] = [Load(SOURCE_OFPORT, tunnel), Resubmit(tables.CLASSIFY.number)]
    flows.add(tables.CLASSIFY, priorities.CLASSIFY_TUNNEL_END, here, again)


def render_remote_node(flows: FlowSet, node: RoutedNode, tunnel: int) -> None:
    """All flows of one other node on a bridge whose tunnel port is `tunnel`. None while it has no tunnel end."""
    if node.tunnel_end is None:
        return
    end = node.tunnel_end
    from_it = exactly(oxm.TUN_SRC if end.version == 4 else oxm.TUN_IPV6_SRC, end.value)
    here = [in_range(SOURCE_OFPORT, tunnel), from_it]
    send: list[Action] = [Load(DESTINATION_OFPORT, tunnel), Load(OUTPUT_OFPORT, tunnel), _tunnel_to(end)]
    for net in node.nets:
        source = address_terms("source", net)
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_OWN_ADDRESS, [*here, *source], goto=tables.CONNTRACK)
        target = address_terms("destination", net)
        flows.add(tables.DESTINATION, priorities.DESTINATION_REMOTE, target, send, tables.STATE)
    # Another node that opened a connection here came through our node, by a node port or a host port, and it must see
    # the replies. What it sends through its own switch comes out of the tunnel.
    back: list[Action] = [Load(DESTINATION_OFPORT, BEHIND_NODE), Load(OUTPUT_OFPORT, LOCAL_16)]
    for net in node.addresses:
        look_up_other_node(flows, net)
        leave_by_node(flows, net)
        served = [*address_terms("destination", net), _IS_REPLY, in_range(OPENED_BEHIND_NODE, 1)]
        flows.add(tables.DESTINATION, priorities.DESTINATION_SERVED_NODE, served, back, tables.STATE)
    for net in node.pod_cidrs:
        # The node's own addresses may reach ours outside the tunnel, as the source of what our node forwards.
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_SPOOFED, address_terms("source", net))


def _tunnel_to(end: Net) -> SetField:
    return SetField(oxm.TUN_DST if end.version == 4 else oxm.TUN_IPV6_DST, end.value)
