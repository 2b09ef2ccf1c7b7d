"""The gateway of pods and of the node, where the switch routes: its answers to ARP and neighbor discovery, the MAC
addresses and the hop limit of what it forwards.

Every question is answered with the one MAC address of all gateways, but for a question about the asker's own address,
which looks for duplicates. Nothing is flooded. An advertisement takes two tables: its fields may be written only where
the message is known to be one.

Pods and the node send to a router already, so a packet loses one hop where a pod sent it; what the node sent or
forwarded has lost it there. A pod's packet that may not travel on goes to the node, whose network stack answers it with
an ICMP error.
"""

from __future__ import annotations

from flows.bridge.state import Binding, PodBinding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, DecTtl, Move, Output, OutputRegister, Pop, Push, SetField
from flows.openflow.match import exactly, in_range
from flows.openflow.port_numbers import IN_PORT_32, LOCAL_32
from flows.openflow.register_bits import Range
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.gateway import GATEWAY_MAC, REFUSED_MAC
from flows.pipeline.registers import BEHIND_NODE, DESTINATION_OFPORT, NODE_ITSELF, OUTPUT_OFPORT, REFUSED, SOURCE_OFPORT
from flows.render.flow_set import FlowSet
from flows.render.neighbors import (
    NEIGHBOR_ADVERTISEMENT,
    NEIGHBOR_SOLICITATION,
    address_question,
    discovery,
)
from flows.render.services import render_pod_hairpin
from flows.render.terms import IP_FAMILIES, IS_ARP

_TO_GATEWAY = SetField(oxm.ETH_DST, GATEWAY_MAC)
_FROM_GATEWAY = SetField(oxm.ETH_SRC, GATEWAY_MAC)
_TARGET_OPTION = 2  # the target link-layer address (RFC 4861, section 4.6.1)
_ROUTER_SOLICITED_OVERRIDE = 0xE0000000  # the flags of an answer (RFC 4861, section 4.4)


def whole(field: oxm.Field) -> Range:
    """All bits of a field."""
    return Range(field, 0, field.width - 1, "")


def answer_arp() -> list[Action]:
    """Turn an ARP request into the gateway's answer, and send it back."""
    sender, target = whole(oxm.ARP_SPA), whole(oxm.ARP_TPA)
    return [
        Move(whole(oxm.ETH_SRC), whole(oxm.ETH_DST)),
        _FROM_GATEWAY,
        SetField(oxm.ARP_OP, 2),
        Move(whole(oxm.ARP_SHA), whole(oxm.ARP_THA)),
        SetField(oxm.ARP_SHA, GATEWAY_MAC),
        Push(target),
        Move(sender, target),
        Pop(sender),
        Output(IN_PORT_32),
    ]


def answer_solicitation() -> list[Action]:
    """Turn a neighbor solicitation into the gateway's advertisement; `nd_answer` fills its option in."""
    return [
        Move(whole(oxm.ETH_SRC), whole(oxm.ETH_DST)),
        _FROM_GATEWAY,
        Move(whole(oxm.IPV6_SRC), whole(oxm.IPV6_DST)),
        Move(whole(oxm.ND_TARGET), whole(oxm.IPV6_SRC)),
        SetField(oxm.ND_RESERVED, _ROUTER_SOLICITED_OVERRIDE),
        SetField(oxm.ND_OPTIONS_TYPE, _TARGET_OPTION),
        SetField(oxm.ICMPV6_TYPE, NEIGHBOR_ADVERTISEMENT),
    ]


def render_answers(flows: FlowSet, userspace: bool) -> None:
    """The part of the answers that is the same on all bridges.

    Open vSwitch refuses to write an advertisement's flags and its option's type (`nd_reserved`, `nd_options_type`)
    where the datapath cannot, and no kernel's can; one flow that it refuses would keep all others out. There nobody
    answers neighbor discovery: pods and the node have a permanent neighbor for the gateway.
    """
    request = [IS_ARP, exactly(oxm.ARP_OP, 1)]
    flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_ANSWER, request, answer_arp())
    flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_DUPLICATE, [*request, exactly(oxm.ARP_SPA, 0)])
    if not userspace:
        return
    solicit = discovery(NEIGHBOR_SOLICITATION)
    flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_ANSWER, solicit, answer_solicitation(), tables.ND_ANSWER)
    flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_DUPLICATE, [*solicit, exactly(oxm.IPV6_SRC, 0)])
    advertise: list[Action] = [SetField(oxm.ND_TLL, GATEWAY_MAC), Output(IN_PORT_32)]
    flows.add(tables.ND_ANSWER, priorities.ND_ANSWER_SENT, discovery(NEIGHBOR_ADVERTISEMENT), advertise)


def render_node_gateway(flows: FlowSet, binding: Binding) -> None:
    """What depends on the bridge: questions of the node about itself, and what is forwarded to the node and through the
    tunnel. Without the MAC address of the LOCAL port nothing reaches the node."""
    for net in binding.node_addresses:
        about_itself = [exactly(oxm.IN_PORT, LOCAL_32), *address_question(net)]
        flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_ABOUT_ITSELF, about_itself)
    behind = [NODE_ITSELF, BEHIND_NODE]
    if binding.local_mac is not None:
        to_node: list[Action] = [SetField(oxm.ETH_DST, binding.local_mac), _FROM_GATEWAY]
        for port in behind:
            there = [in_range(DESTINATION_OFPORT, port)]
            flows.add(tables.OUTPUT, priorities.OUTPUT_ROUTED, there, [*to_node, OutputRegister(OUTPUT_OFPORT)])
        refuse: list[Action] = [SetField(oxm.ETH_DST, binding.local_mac), SetField(oxm.ETH_SRC, REFUSED_MAC)]
        refused = [in_range(REFUSED, 1), in_range(DESTINATION_OFPORT, BEHIND_NODE)]
        flows.add(tables.OUTPUT, priorities.OUTPUT_REFUSED, refused, [*refuse, OutputRegister(OUTPUT_OFPORT)])
        for family in IP_FAMILIES:
            for hops in (0, 1):
                expired = [family, exactly(oxm.IP_TTL, hops)]
                flows.add(tables.SEND, priorities.SEND_EXPIRED, expired, [*to_node, Output(LOCAL_32)])
    if binding.tunnel is not None:
        there = [in_range(DESTINATION_OFPORT, binding.tunnel)]
        flows.add(tables.OUTPUT, priorities.OUTPUT_ROUTED, there, [_TO_GATEWAY, _FROM_GATEWAY], tables.SEND)
        behind.append(binding.tunnel)
    for port in behind:
        not_of_pod = [in_range(SOURCE_OFPORT, port)]
        flows.add(tables.SEND, priorities.SEND_AS_IT_IS, not_of_pod, [OutputRegister(OUTPUT_OFPORT)])


def render_hops(flows: FlowSet) -> None:
    """One hop less for what pods send. What has none left is dropped unless the bridge sends it to the node."""
    for family in IP_FAMILIES:
        flows.add(tables.SEND, priorities.SEND_ROUTED, [family], [DecTtl(), OutputRegister(OUTPUT_OFPORT)])


def render_pod_gateway(flows: FlowSet, pod: PodBinding) -> None:
    """What is forwarded to a pod gets the pod's MAC address. None without one: then nothing reaches the pod. What comes
    back to it through a Service gets another source first."""
    render_pod_hairpin(flows, pod)
    if pod.mac is None:
        return
    there = [in_range(DESTINATION_OFPORT, pod.ofport)]
    rewrite = [SetField(oxm.ETH_DST, pod.mac), _FROM_GATEWAY]
    port_cookie = cookie(CookieKind.PORT, pod.ofport)
    flows.add(tables.OUTPUT, priorities.OUTPUT_ROUTED, there, rewrite, tables.SEND, port_cookie)
