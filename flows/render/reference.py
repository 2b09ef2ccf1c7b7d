"""All flows of a bridge from nothing: the reference that `plan` is held to."""

from __future__ import annotations

from operator import attrgetter

from flows.bridge.state import Binding
from flows.openflow.flow import Flow
from flows.openflow.match import Match
from flows.policy.rule import NodePolicy
from flows.render.fixed import render_bridge, render_fixed
from flows.render.flood import render_flood
from flows.render.flow_set import FlowSet
from flows.render.gateway import render_pod_gateway
from flows.render.pods import render_pod
from flows.render.rules import render_rules
from flows.render.tunnel import render_remote_node


def render(binding: Binding, policy: NodePolicy) -> list[Flow]:
    """All desired flows of a bridge, for its binding and the policy of its pods.

    Ports that share a MAC address, with each other or with the bridge, want the same flow: the bridge's is kept, else
    that of the port with the smallest ofport.
    """
    whole = FlowSet()
    routing = binding.routing
    render_fixed(whole, binding.userspace, routing.routes)
    render_bridge(whole, binding)
    if not routing.routes:
        render_flood(whole, binding)
    pieces = [whole]
    for pod_binding in sorted(binding.pods, key=attrgetter("ofport")):
        pieces.append(piece := FlowSet())
        render_pod(piece, pod_binding, policy.isolated.get(pod_binding.pod, frozenset()), routing.routes)
        if routing.routes:
            render_pod_gateway(piece, pod_binding)
    for node in routing.remotes.values() if binding.tunnel is not None else ():
        pieces.append(piece := FlowSet())
        render_remote_node(piece, node, binding.tunnel or 0)
    pieces.append(rules := FlowSet())
    render_rules(rules, binding, policy)
    found: dict[tuple[int, int, Match], Flow] = {}
    for piece in pieces:
        for flow in piece.flows():
            found.setdefault((flow.table, flow.priority, flow.match), flow)
    return list(found.values())
