"""The flows of one pod's port: what it may send, how it is reached, how neighbors find it, and its counters.

MAC address, IPv4, IPv6, ARP and neighbor discovery are bound to the port. Must not live here: policy
rules (`rules`), and which neighbor messages may be sent (`neighbors`).
"""

from __future__ import annotations

from flows.bridge.state import PodBinding
from flows.cluster.model import Direction, Tier
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Meter, Output, Resubmit
from flows.openflow.match import Term, exactly, in_range
from flows.openflow.port_numbers import IN_PORT_16
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.gateway import GATEWAY_MAC
from flows.pipeline.pod_limits import Limit, meter_number, sctp_opening
from flows.pipeline.registers import (
    BROKEN,
    DESTINATION_EGRESS,
    DESTINATION_EGRESS_STAGED,
    DESTINATION_EGRESS_TIERS,
    DESTINATION_INGRESS,
    DESTINATION_INGRESS_STAGED,
    DESTINATION_INGRESS_TIERS,
    DESTINATION_OFPORT,
    INITIATOR_OFPORT,
    METERED,
    OUTPUT_OFPORT,
    RECORDED,
    RESPONDER_OFPORT,
    SOURCE_EGRESS,
    SOURCE_EGRESS_STAGED,
    SOURCE_EGRESS_TIERS,
    SOURCE_INGRESS,
    SOURCE_INGRESS_STAGED,
    SOURCE_INGRESS_TIERS,
    SOURCE_OFPORT,
    STAGED_CHANGE,
    Audited,
    StagedBit,
    StagedChange,
    TierBit,
)
from flows.policy.rule import Applies, Staged, Watch
from flows.render.audit import render_pod_audit, reported, watched
from flows.render.flow_set import FlowSet
from flows.render.icmp_errors import admit_icmp_errors
from flows.render.neighbors import (
    address_question,
    admit_arp,
    admit_discovery,
    discovery_addresses,
)
from flows.render.terms import IS_FRAGMENT, IS_IPV4, IS_IPV6, IS_NEW, IS_OPENING, IS_SCTP, address_terms

STAGED_EGRESS_COUNTERS = {
    StagedChange.EGRESS_DENIED: CookieKind.STAGED_DENY_EGRESS,
    StagedChange.EGRESS_ALLOWED: CookieKind.STAGED_ALLOW_EGRESS,
}
STAGED_INGRESS_COUNTERS = {
    StagedChange.INGRESS_DENIED: CookieKind.STAGED_DENY_INGRESS,
    StagedChange.INGRESS_ALLOWED: CookieKind.STAGED_ALLOW_INGRESS,
}
WOULD_DENY = {
    StagedChange.EGRESS_DENIED: Audited.WOULD_DENY_EGRESS,
    StagedChange.INGRESS_DENIED: Audited.WOULD_DENY_INGRESS,
}
_TO_GATEWAY = exactly(oxm.ETH_DST, GATEWAY_MAC)


def render_pod(flows: FlowSet, pod: PodBinding, isolated: frozenset[Applies], routes: bool = False) -> None:
    """Admission from and delivery to one pod's port. A pod without addresses passes nothing. `isolated` is what policy
    applies to the pod: the directions in which it is isolated, and tiers with rules for it.

    Where the switch `routes`, the pod sends to its gateway, and is found by its address; its MAC address is written in
    `gateway`.
    """
    port_cookie = cookie(CookieKind.PORT, pod.ofport)
    flows.add(tables.CLASSIFY, priorities.CLASSIFY_OTHER_OF_POD, [exactly(oxm.IN_PORT, pod.ofport)], cookie=port_cookie)
    _admit_ip(flows, pod, isolated, routes)
    _drop_forged(flows, pod, watched(pod, isolated), port_cookie)
    admit_arp(flows, pod, _from(pod), port_cookie)
    admit_discovery(flows, pod, _from(pod), port_cookie)
    _limit(flows, pod, port_cookie, routes)
    _deliver(flows, pod, isolated, port_cookie, routes)
    admit_icmp_errors(flows, pod, port_cookie)
    watch = watched(pod, isolated)
    _count_denied(flows, pod, watch)
    _count_staged(flows, pod, isolated, watch)
    _count_invalid(flows, pod, watch)
    render_pod_audit(flows, pod, watch, port_cookie)
    if routes:
        _ignore_own_questions(flows, pod, port_cookie)
    else:
        _deliver_neighbors(flows, pod, port_cookie)


def _from(pod: PodBinding) -> list[Term]:
    """From the pod's port, and its own MAC address where that is known."""
    here = [exactly(oxm.IN_PORT, pod.ofport)]
    return here if pod.mac is None else [*here, exactly(oxm.ETH_SRC, pod.mac)]


def _admit_ip(flows: FlowSet, pod: PodBinding, isolated: frozenset[Applies], routes: bool) -> None:
    sent = cookie(CookieKind.SENT, pod.ofport)
    actions: list[Action] = [Load(SOURCE_OFPORT, pod.ofport)]
    if Direction.EGRESS in isolated:
        actions.append(Load(SOURCE_EGRESS, 1))
    if Direction.INGRESS in isolated:
        actions.append(Load(SOURCE_INGRESS, 1))
    for direction, place in ((Direction.EGRESS, SOURCE_EGRESS_TIERS), (Direction.INGRESS, SOURCE_INGRESS_TIERS)):
        if bits := _tiers(isolated, direction):
            actions.append(Load(place, bits))
    for direction, place in ((Direction.EGRESS, SOURCE_EGRESS_STAGED), (Direction.INGRESS, SOURCE_INGRESS_STAGED)):
        if bits := _staged(isolated, direction):
            actions.append(Load(place, bits))
    table, onward = tables.CLASSIFY, tables.CONNTRACK
    for net in pod.addresses:
        source = address_terms("source", net)
        own = [*_from(pod), *source, *([_TO_GATEWAY] if routes else [])]
        flows.add(table, priorities.CLASSIFY_OWN_ADDRESS, own, actions, onward, sent)
        if Limit.FRAGMENTS in pod.limits:
            metered = [Meter(meter_number(Limit.FRAGMENTS, pod.ofport)), *actions]
            flows.add(table, priorities.CLASSIFY_OWN_FRAGMENT, [*own, IS_FRAGMENT], metered, onward, sent)


def _drop_forged(flows: FlowSet, pod: PodBinding, watch: frozenset[Watch], port_cookie: int) -> None:
    """What any other port sends from the pod's addresses."""
    reports = Watch.DROPS in watch
    actions, goto = (reported(Audited.FORGED), tables.AUDIT) if reports else ([], None)
    for net in pod.addresses:
        source = address_terms("source", net)
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_SPOOFED, source, actions, goto, port_cookie)


def _limit(flows: FlowSet, pod: PodBinding, port_cookie: int, routes: bool) -> None:
    """New connections of the pod pass its meter; its learned SCTP associations have a limit of their own. A connection
    through a Service is recorded before policy, so it passes the meter there, and only there."""
    here = in_range(SOURCE_OFPORT, pod.ofport)
    if Limit.CONNECTIONS in pod.limits:
        unrecorded = [here, IS_NEW, in_range(RECORDED, 0)]
        through: list[Action] = [Meter(meter_number(Limit.CONNECTIONS, pod.ofport))]
        if routes:
            unmetered = in_range(METERED, 0)
            to_service = [here, IS_OPENING, in_range(RECORDED, 0), unmetered]
            first: list[Action] = [*through, Load(METERED, 1), Resubmit(tables.SERVICE.number)]
            flows.add(tables.SERVICE, priorities.SERVICE_OF_POD, to_service, first, cookie=port_cookie)
            unrecorded.append(unmetered)
        flows.add(tables.LIMIT, priorities.LIMIT_OF_POD, unrecorded, through, tables.COMMIT, port_cookie)
    if Limit.ASSOCIATIONS in pod.limits:
        for family, version in ((IS_IPV4, 4), (IS_IPV6, 6)):
            sctp, opening = [family, IS_SCTP, here], sctp_opening(version, pod.ofport)
            flows.add(tables.COMMIT, priorities.COMMIT_SCTP_OF_POD, sctp, opening, cookie=port_cookie)


def _deliver(flows: FlowSet, pod: PodBinding, isolated: frozenset[Applies], port_cookie: int, routes: bool) -> None:
    """To the port of the pod that has the address. Packets with another MAC address are not for the pod."""
    actions: list[Action] = [Load(DESTINATION_OFPORT, pod.ofport), Load(OUTPUT_OFPORT, pod.ofport)]
    if Direction.EGRESS in isolated:
        actions.append(Load(DESTINATION_EGRESS, 1))
    if Direction.INGRESS in isolated:
        actions.append(Load(DESTINATION_INGRESS, 1))
    itself = list(actions)
    for bits_of, direction, place, of_source in (
        (_tiers, Direction.EGRESS, DESTINATION_EGRESS_TIERS, SOURCE_EGRESS_TIERS),
        (_tiers, Direction.INGRESS, DESTINATION_INGRESS_TIERS, SOURCE_INGRESS_TIERS),
        (_staged, Direction.EGRESS, DESTINATION_EGRESS_STAGED, SOURCE_EGRESS_STAGED),
        (_staged, Direction.INGRESS, DESTINATION_INGRESS_STAGED, SOURCE_INGRESS_STAGED),
    ):
        if bits := bits_of(isolated, direction):
            actions.append(Load(place, bits))
            itself.append(Load(of_source, 0))  # a pod is no subject of a tier towards itself, nor of a staged policy
    table, onward = tables.DESTINATION, tables.STATE
    mac = [] if pod.mac is None or routes else [exactly(oxm.ETH_DST, pod.mac)]
    for net in pod.addresses:
        target = address_terms("destination", net)
        flows.add(table, priorities.DESTINATION_HERE, [*mac, *target], actions, onward, port_cookie)
        if mac:
            flows.add(table, priorities.DESTINATION_OTHER_MAC, target, cookie=port_cookie)
    # OVS sends a packet back to its own port only as IN_PORT: so a pod reaches itself.
    out, in_port = Load(OUTPUT_OFPORT, pod.ofport), Load(OUTPUT_OFPORT, IN_PORT_16)
    back = [*(action for action in itself if action != out), in_port]
    for net in pod.addresses:
        terms = [in_range(SOURCE_OFPORT, pod.ofport), *address_terms("destination", net), *mac]
        flows.add(table, priorities.DESTINATION_ITSELF, terms, back, onward, port_cookie)
    both_ends = [in_range(INITIATOR_OFPORT, pod.ofport), in_range(RESPONDER_OFPORT, pod.ofport)]
    flows.add(tables.EGRESS, priorities.RULES_ITSELF, both_ends, goto=tables.LIMIT, cookie=port_cookie)


def _tiers(applies: frozenset[Applies], direction: Direction) -> int:
    """The tiers that have rules for the pod in a direction, as bits."""
    admin = TierBit.ADMIN if (Tier.ADMIN, direction) in applies else 0
    return admin | (TierBit.BASELINE if (Tier.BASELINE, direction) in applies else 0)


def _staged(applies: frozenset[Applies], direction: Direction) -> int:
    """What staged policies mean for the pod in a direction, as bits."""
    if Staged(direction, True) in applies:
        return StagedBit.SELECTED | StagedBit.ISOLATED
    return StagedBit.SELECTED if Staged(direction, False) in applies else 0


def _count_staged(flows: FlowSet, pod: PodBinding, applies: frozenset[Applies], watch: frozenset[Watch]) -> None:
    """Counters of what the promotion of staged policies that select the pod would change; what they would deny is
    reported, too. The packet then goes on as if it was not."""
    for direction, subject, counters in (
        (Direction.EGRESS, INITIATOR_OFPORT, STAGED_EGRESS_COUNTERS),
        (Direction.INGRESS, RESPONDER_OFPORT, STAGED_INGRESS_COUNTERS),
    ):
        if _staged(applies, direction):
            for change, kind in counters.items():
                terms = [in_range(subject, pod.ofport), in_range(STAGED_CHANGE, change)]
                counter = cookie(kind, pod.ofport)
                actions: list[Action] = []
                if Watch.STAGED in watch and change in WOULD_DENY:
                    actions = [*reported(WOULD_DENY[change]), Resubmit(tables.AUDIT.number), *reported(Audited.NOT)]
                flows.add(tables.STAGED_CHANGE, priorities.STAGED_OF_POD, terms, actions, cookie=counter)


def _count_denied(flows: FlowSet, pod: PodBinding, watch: frozenset[Watch]) -> None:
    """One counter for each direction. The flows are always there; packets reach them only while the pod is isolated."""
    for table, subject, kind, audit, reason in (
        (tables.EGRESS_DEFAULT, INITIATOR_OFPORT, CookieKind.DENY_EGRESS, Watch.EGRESS, Audited.DENIED_EGRESS),
        (tables.INGRESS_DEFAULT, RESPONDER_OFPORT, CookieKind.DENY_INGRESS, Watch.INGRESS, Audited.DENIED_INGRESS),
    ):
        denied, counter = [in_range(subject, pod.ofport)], cookie(kind, pod.ofport)
        actions: list[Action] = []
        goto = tables.DENY
        if audit in watch:
            actions, goto = [*reported(reason), Resubmit(goto.number)], tables.AUDIT
        flows.add(table, priorities.DEFAULT_OF_POD, denied, actions, goto, counter)


def _count_invalid(flows: FlowSet, pod: PodBinding, watch: frozenset[Watch]) -> None:
    """Drop and count what conntrack calls invalid from this pod; broken packets are counted apart."""
    here = in_range(SOURCE_OFPORT, pod.ofport)
    for priority, terms, kind, reason in (
        (priorities.INVALID_OF_POD, [here], CookieKind.INVALID, Audited.INVALID),
        (priorities.INVALID_BROKEN, [here, in_range(BROKEN, 1)], CookieKind.BROKEN, Audited.BROKEN),
    ):
        actions, goto = (reported(reason), tables.AUDIT) if Watch.DROPS in watch else ([], None)
        flows.add(tables.INVALID, priority, terms, actions, goto, cookie(kind, pod.ofport))


def _ignore_own_questions(flows: FlowSet, pod: PodBinding, port_cookie: int) -> None:
    """Nobody answers a pod's questions about its own addresses: they look for duplicates, and no other pod has them."""
    for net in (*(net for net in pod.addresses if net.version == 4), *discovery_addresses(pod)):
        question = [exactly(oxm.IN_PORT, pod.ofport), *address_question(net)]
        flows.add(tables.NEIGHBOR, priorities.NEIGHBOR_ABOUT_ITSELF, question, cookie=port_cookie)


def _deliver_neighbors(flows: FlowSet, pod: PodBinding, port_cookie: int) -> None:
    table, here, there = tables.NEIGHBOR, exactly(oxm.IN_PORT, pod.ofport), [Output(pod.ofport)]
    ipv4 = [net for net in pod.addresses if net.version == 4]
    for net in (*ipv4, *discovery_addresses(pod)):
        question = address_question(net)
        # A pod that asks for its own address announces it, or looks for duplicates: flooded.
        flows.add(table, priorities.NEIGHBOR_ABOUT_ITSELF, [here, *question], goto=tables.FLOOD, cookie=port_cookie)
        flows.add(table, priorities.NEIGHBOR_ASKED, question, there, cookie=port_cookie)
    if pod.mac is not None:
        flows.add(table, priorities.NEIGHBOR_MAC, [exactly(oxm.ETH_DST, pod.mac)], there, cookie=port_cookie)
        return
    for net in pod.addresses:
        if net.version == 6:
            target = [IS_IPV6, exactly(oxm.IPV6_DST, net.value)]
            flows.add(table, priorities.NEIGHBOR_IPV6, target, there, cookie=port_cookie)
