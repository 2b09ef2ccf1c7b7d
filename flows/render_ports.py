"""The flows of ports: what a pod or the node may send, how it is reached, and how neighbors find it.

Everything is bound to the port: MAC, IPv4, IPv6, ARP and neighbor discovery. What policy says stands in `render_rules`.
"""

from __future__ import annotations

from flows import oxm
from flows import pipeline as tables
from flows.attach import Attachment, SwitchView
from flows.builder import ARP, ICMPV6, IPV6, MULTICAST, FlowSet, address
from flows.fields import (
    DESTINATION,
    DESTINATION_EGRESS,
    DESTINATION_INGRESS,
    IN_PORT_16,
    INITIATOR,
    LOCAL_16,
    LOCAL_32,
    NODE_ITSELF,
    OUTPUT,
    RESPONDER,
    SOURCE,
    SOURCE_EGRESS,
    SOURCE_INGRESS,
    CookieKind,
    cookie,
)
from flows.flow import Action, Load, Output, Term, exactly, in_range
from flows.model import Direction
from flows.net import WIDTH, Net
from flows.pipeline import MISS
from flows.priorities import NOT_ASKED, SELF
from flows.render_readings import admit_errors

ROUTER_SOLICITATION, NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT, MLD2_REPORT = 133, 135, 136, 143
ALL_MLD2_ROUTERS = (0xFF02 << 112) | 0x16  # ff02::16, RFC 3810 section 5.2.14
LINK_LOCAL = 0xFE80 << 112


def link_local(mac: int) -> Net:
    """The link-local address made of a MAC address (modified EUI-64, RFC 4291 appendix A)."""
    upper, lower = mac >> 24 ^ 0x020000, mac & 0xFFFFFF
    return Net(6, LINK_LOCAL | upper << 40 | 0xFFFE << 24 | lower, WIDTH[6])


def discovery_addresses(attachment: Attachment) -> list[Net]:
    """The IPv6 addresses for which a pod may speak in neighbor discovery: its own, and its link-local one."""
    own = [net for net in attachment.addresses if net.version == 6]
    return [*own, link_local(attachment.mac)] if own and attachment.mac is not None else own


def render_pod(flows: FlowSet, pod: Attachment, isolated: frozenset[Direction]) -> None:
    """Admission to and delivery at one pod's port. A pod without addresses passes nothing."""
    owner = cookie(CookieKind.PORT, pod.ofport)
    flows.add(tables.CLASSIFY, 10, [exactly(oxm.IN_PORT, pod.ofport)], owner=owner)
    _admit_ip(flows, pod, isolated, owner)
    _admit_arp(flows, pod, owner)
    _admitdiscovery(flows, pod, owner)
    _deliver(flows, pod, isolated, owner)
    admit_errors(flows, pod, owner)
    _count_denied(flows, pod)
    _deliver_neighbors(flows, pod, owner)


def _from(pod: Attachment) -> list[Term]:
    """In from the pod's port, with its own MAC where that is known."""
    here = [exactly(oxm.IN_PORT, pod.ofport)]
    return here if pod.mac is None else [*here, exactly(oxm.ETH_SRC, pod.mac)]


def _admit_ip(flows: FlowSet, pod: Attachment, isolated: frozenset[Direction], owner: int) -> None:
    actions: list[Action] = [Load(SOURCE, pod.ofport)]
    if Direction.EGRESS in isolated:
        actions.append(Load(SOURCE_EGRESS, 1))
    if Direction.INGRESS in isolated:
        actions.append(Load(SOURCE_INGRESS, 1))
    for net in pod.addresses:
        source = address("source", net)
        flows.add(tables.CLASSIFY, 200, [*_from(pod), *source], actions, tables.CONNTRACK, owner)
        flows.add(tables.CLASSIFY, 100, source, owner=owner)


def _admit_arp(flows: FlowSet, pod: Attachment, owner: int) -> None:
    """ARP with the pod's own addresses, and probes for them (sender address 0, RFC 5227)."""
    hardware = [] if pod.mac is None else [exactly(oxm.ARP_SHA, pod.mac)]
    for net in pod.addresses:
        if net.version != 4:
            continue
        claim = [ARP, exactly(oxm.ARP_SPA, net.value)]
        probe = [ARP, exactly(oxm.ARP_OP, 1), exactly(oxm.ARP_SPA, 0), exactly(oxm.ARP_TPA, net.value)]
        for terms in (claim, probe):
            flows.add(tables.CLASSIFY, 200, [*_from(pod), *terms, *hardware], goto=tables.NEIGHBOR, owner=owner)
        flows.add(tables.CLASSIFY, 100, claim, owner=owner)


def _admitdiscovery(flows: FlowSet, pod: Attachment, owner: int) -> None:
    """Solicitations and advertisements for the pod's own addresses, router solicitations, and multicast reports."""
    own = discovery_addresses(pod)
    if not own:
        return
    guard = tables.NEIGHBOR if pod.mac is None else tables.ND_GUARD
    solicit, advertise = discovery(NEIGHBOR_SOLICITATION), discovery(NEIGHBOR_ADVERTISEMENT)
    unspecified = exactly(oxm.IPV6_SRC, 0)
    for net in own:
        source, target = exactly(oxm.IPV6_SRC, net.value), exactly(oxm.ND_TARGET, net.value)
        duplicate = [*solicit, unspecified, target, exactly(oxm.ND_SLL, 0)]
        flows.add(tables.CLASSIFY, 230, [*_from(pod), *solicit, source], goto=guard, owner=owner)
        flows.add(tables.CLASSIFY, 230, [*_from(pod), *advertise, source, target], goto=guard, owner=owner)
        flows.add(tables.CLASSIFY, 230, [*_from(pod), *duplicate], goto=tables.NEIGHBOR, owner=owner)
        flows.add(tables.CLASSIFY, 220, [*solicit, source], owner=owner)
        flows.add(tables.CLASSIFY, 220, [*advertise, target], owner=owner)
    for sender in (own[-1].value, 0):
        router = [*discovery(ROUTER_SOLICITATION), exactly(oxm.IPV6_SRC, sender)]
        flows.add(tables.CLASSIFY, 230, [*_from(pod), *router], goto=tables.NEIGHBOR, owner=owner)
    report = [*discovery(MLD2_REPORT), exactly(oxm.IPV6_DST, ALL_MLD2_ROUTERS)]
    flows.add(tables.CLASSIFY, 230, [*_from(pod), *report], goto=tables.NEIGHBOR, owner=owner)
    if pod.mac is not None:
        here, mac = exactly(oxm.IN_PORT, pod.ofport), pod.mac
        for terms, option in ((solicit, oxm.ND_SLL), (advertise, oxm.ND_TLL)):
            flows.add(tables.ND_GUARD, 100, [here, *terms, exactly(option, mac)], goto=tables.NEIGHBOR, owner=owner)


def discovery(kind: int) -> list[Term]:
    """Terms for one type of neighbor discovery. Others than code 0 are none: who receives them drops them (RFC 4861,
    section 7.1)."""
    return [*ICMPV6, exactly(oxm.ICMPV6_TYPE, kind), exactly(oxm.ICMPV6_CODE, 0)]


def _deliver(flows: FlowSet, pod: Attachment, isolated: frozenset[Direction], owner: int) -> None:
    """To the port whose pod has the address; with another MAC address the packet is not for it."""
    actions: list[Action] = [Load(DESTINATION, pod.ofport), Load(OUTPUT, pod.ofport)]
    if Direction.EGRESS in isolated:
        actions.append(Load(DESTINATION_EGRESS, 1))
    if Direction.INGRESS in isolated:
        actions.append(Load(DESTINATION_INGRESS, 1))
    for net in pod.addresses:
        target = address("destination", net)
        if pod.mac is None:
            flows.add(tables.DESTINATION, 200, target, actions, tables.STATE, owner)
            continue
        flows.add(tables.DESTINATION, 200, [exactly(oxm.ETH_DST, pod.mac), *target], actions, tables.STATE, owner)
        flows.add(tables.DESTINATION, 150, target, owner=owner)
    # A packet is not sent back where it came from unless that is said: a pod reaches itself by IN_PORT.
    back = [action for action in actions if action != Load(OUTPUT, pod.ofport)] + [Load(OUTPUT, IN_PORT_16)]
    for net in pod.addresses:
        terms = [in_range(SOURCE, pod.ofport), *address("destination", net)]
        if pod.mac is not None:
            terms.append(exactly(oxm.ETH_DST, pod.mac))
        flows.add(tables.DESTINATION, 205, terms, back, tables.STATE, owner)
    itself = [in_range(INITIATOR, pod.ofport), in_range(RESPONDER, pod.ofport)]
    flows.add(tables.EGRESS, SELF, itself, goto=tables.COMMIT, owner=owner)


def _count_denied(flows: FlowSet, pod: Attachment) -> None:
    """One counter for each direction; it stands there always, and is reached only while the pod is isolated."""
    for table, subject, kind in (
        (tables.EGRESS_DEFAULT, INITIATOR, CookieKind.DENY_EGRESS),
        (tables.INGRESS_DEFAULT, RESPONDER, CookieKind.DENY_INGRESS),
    ):
        flows.add(table, 100, [in_range(subject, pod.ofport)], goto=tables.DENY, owner=cookie(kind, pod.ofport))


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
        flows.add(tables.EGRESS, NOT_ASKED, [in_range(side, NODE_ITSELF)], goto=tables.COMMIT)


def render_flood(flows: FlowSet, view: SwitchView) -> None:
    """ARP and neighbor discovery that concern everybody. This one flow depends on all ports."""
    ports = [pod.ofport for pod in view.attachments if pod.addresses]
    everybody = [*sorted(ports), LOCAL_32, *([view.uplink] if view.uplink is not None else [])]
    flows.add(tables.FLOOD, MISS, [], [Output(port) for port in everybody])


def render_neighbors(flows: FlowSet, view: SwitchView) -> None:
    """Delivery of ARP and neighbor discovery apart from pods: to the node, to everybody, or away."""
    for net in view.node_addresses:
        flows.add(tables.NEIGHBOR, 200, _asks_for(net), [Output(LOCAL_32)])
    if view.local_mac is not None:
        flows.add(tables.NEIGHBOR, 190, [exactly(oxm.ETH_DST, view.local_mac)], [Output(LOCAL_32)])
    flows.add(tables.NEIGHBOR, 100, [MULTICAST], goto=tables.FLOOD)
    if view.uplink is not None:
        flows.add(tables.NEIGHBOR, 50, [exactly(oxm.IN_PORT, view.uplink)])
        flows.add(tables.NEIGHBOR, 40, [], [Output(view.uplink)])


def _deliver_neighbors(flows: FlowSet, pod: Attachment, owner: int) -> None:
    here, there = exactly(oxm.IN_PORT, pod.ofport), [Output(pod.ofport)]
    asked = [net for net in pod.addresses if net.version == 4] + discovery_addresses(pod)
    for net in asked:
        # What the pod sends about its own address is an announcement or a search for duplicates: everybody's business.
        flows.add(tables.NEIGHBOR, 210, [here, *_asks_for(net)], goto=tables.FLOOD, owner=owner)
        flows.add(tables.NEIGHBOR, 200, _asks_for(net), there, owner=owner)
    if pod.mac is not None:
        flows.add(tables.NEIGHBOR, 190, [exactly(oxm.ETH_DST, pod.mac)], there, owner=owner)
        return
    for net in pod.addresses:
        if net.version == 6:
            flows.add(tables.NEIGHBOR, 180, [IPV6, exactly(oxm.IPV6_DST, net.value)], there, owner=owner)


def _asks_for(net: Net) -> list[Term]:
    if net.version == 4:
        return [ARP, exactly(oxm.ARP_TPA, net.value)]
    return [*discovery(NEIGHBOR_SOLICITATION), exactly(oxm.ND_TARGET, net.value)]
