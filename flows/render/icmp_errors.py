"""ICMP errors about known connections: which ports may send them. Policy then applies as to the connection itself."""

from __future__ import annotations

from flows.bridge.state import Binding, PodBinding
from flows.openflow import match_fields as oxm
from flows.openflow.match import in_range
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    BEHIND_NODE,
    DESTINATION_INGRESS,
    DESTINATION_INGRESS_TIERS,
    NODE_ITSELF,
    SOURCE_EGRESS,
    SOURCE_EGRESS_TIERS,
    SOURCE_OFPORT,
    TierBit,
)
from flows.render.flow_set import FlowSet
from flows.render.rules import tier_term
from flows.render.terms import address_terms, ct_state_term

_STATE = oxm.CtState


def render_icmp_errors(flows: FlowSet, binding: Binding) -> None:
    """The node, and what is behind the uplink or the tunnel, may report on any connection. Conntrack itself demands
    that an error goes to the sender of the packet that it quotes."""
    flows.add(tables.STATE, priorities.STATE_RELATED, [ct_state_term(_STATE.REL, _STATE.REL)], goto=tables.RELATED)
    sources = [NODE_ITSELF, BEHIND_NODE, *(port for port in (binding.uplink, binding.tunnel) if port is not None)]
    for source in sources:
        flows.add(tables.RELATED, priorities.RELATED_ALLOWED, [in_range(SOURCE_OFPORT, source)], goto=tables.DIRECTION)


def refuse_unmatched_errors(flows: FlowSet) -> None:
    """The kernel's datapath: of an error about a reply, Open vSwitch does not tell the connection. It takes conntrack's
    tuple from the kernel only with a state of new, established or reply, and such an error has none of them. Rules
    would be matched with zeros in place of addresses and ports: what allows all would allow it, what denies some would
    not deny it. So it passes only where neither end has rules."""
    about_reply = ct_state_term(_STATE.REL, _STATE.REL | _STATE.RPL)
    has_rules = [in_range(SOURCE_EGRESS, 1), in_range(DESTINATION_INGRESS, 1)]
    has_rules += [
        tier_term(place, bit, 1) for place in (SOURCE_EGRESS_TIERS, DESTINATION_INGRESS_TIERS) for bit in TierBit
    ]
    for term in has_rules:
        flows.add(tables.RELATED, priorities.RELATED_UNMATCHED, [about_reply, term])


def admit_icmp_errors(flows: FlowSet, pod: PodBinding, port_cookie: int) -> None:
    """A pod may report only on connections of which it is one end."""
    both = _STATE.REL | _STATE.RPL
    for net in pod.addresses:
        for wanted, role in ((both, "responder"), (_STATE.REL, "initiator")):
            terms = [ct_state_term(wanted, both), in_range(SOURCE_OFPORT, pod.ofport), *address_terms(role, net)]
            flows.add(tables.RELATED, priorities.RELATED_ALLOWED, terms, goto=tables.DIRECTION, cookie=port_cookie)
