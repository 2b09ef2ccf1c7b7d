"""The example in the documentation of `flows.render.rules` is what it renders."""

from __future__ import annotations

from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Direction, Key, Protocol
from flows.cluster.net import parse_network
from flows.policy.rule import CompiledRule, NodePolicy
from flows.policy.service_ranges import ServiceRange
from flows.render import rules
from flows.render.flow_set import FlowSet
from flows.render.rules import render_rules
from flows.wire.text import format_actions, format_match


def test_the_flows_of_the_example() -> None:
    pod = Key("x", "web")
    peers = frozenset(map(parse_network, ("10.0.1.0/24", "10.0.2.0/24")))
    ports = (ServiceRange(Protocol.TCP, 80, 80), ServiceRange(Protocol.TCP, 443, 443))
    rule = CompiledRule(7, Direction.INGRESS, frozenset({pod}), peers, ports, ())
    found = FlowSet()
    binding = Binding(pods=(PodBinding(5, "web0", pod, None, ()),))
    render_rules(found, binding, NodePolicy({pod: frozenset({Direction.INGRESS})}, (rule,)))
    names = {67: "limit"}
    rendered = {
        f"priority={flow.priority},{format_match(flow.match)} actions={format_actions(flow.actions, flow.goto, names)}"
        for flow in found.flows()
    }
    lines = (rules.__doc__ or "").splitlines()
    assert {" ".join(line.split()) for line in lines if line.startswith("    priority=")} == rendered
