"""The flows of policy rules: conjunctive matches whose cost is the sum of a rule's sets, not their product.

A rule has a clause of subjects, and one each of peers and services where it restricts them. Flows of several rules with
one match are one flow with several conjunction actions; when those grow too many for a message, rules are spread over
bands of priorities.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flows import oxm
from flows import pipeline as tables
from flows.attach import SwitchView
from flows.builder import FAMILIES, TRACKED, FlowSet, address
from flows.compile import CompiledRule, NodePolicy
from flows.fields import (
    EGRESS_APPLIES,
    INGRESS_APPLIES,
    INITIATOR,
    RESPONDER,
    SCTP_ASSOCIATION,
    CookieKind,
    Range,
    SctpAssociation,
    cookie,
)
from flows.flow import Conjunction, FlowError, Match, Term, exactly, in_range, masked, match
from flows.model import Direction, Key, Protocol
from flows.net import Net
from flows.pipeline import Table
from flows.priorities import LOWEST_RULES, NOT_ISOLATED, RULES
from flows.services import Service, Services, port_masks

# A conjunction action has 16 bytes and a message 64 KiB; the rest is room for the match and the bundle's wrapping.
MOST_CONJUNCTIONS = 3500


class Stage(NamedTuple):
    """One direction's place in the pipeline."""

    direction: Direction
    table: Table
    subject: Range
    applies: Range
    peer: str
    onward: Table

    def priority(self, band: int) -> int:
        """The priority of a band of rules."""
        return RULES - band


STAGES = (
    Stage(Direction.EGRESS, tables.EGRESS, INITIATOR, EGRESS_APPLIES, "responder", tables.INGRESS),
    Stage(Direction.INGRESS, tables.INGRESS, RESPONDER, INGRESS_APPLIES, "initiator", tables.LIMIT),
)


def render_stages(flows: FlowSet) -> None:
    """The flows by which pods that nothing isolates pass the rules by."""
    for stage in STAGES:
        flows.add(stage.table, NOT_ISOLATED, [in_range(stage.applies, 0)], goto=stage.onward)


def render_rules(flows: FlowSet, view: SwitchView, policy: NodePolicy) -> None:
    """All rules of the switch, both directions. Raises FlowError when even the lowest band is full."""
    ports: dict[Key, list[int]] = defaultdict(list)
    for attachment in view.attachments:
        ports[attachment.pod].append(attachment.ofport)
    for stage in STAGES:
        rules = [rule for rule in policy.rules if rule.direction is stage.direction]
        _render_stage(flows, stage, rules, ports, view.userspace)


def _render_stage(
    flows: FlowSet, stage: Stage, rules: Iterable[CompiledRule], ports: dict[Key, list[int]], userspace: bool
) -> None:
    clauses: dict[Match, list[Conjunction]] = defaultdict(list)
    rendered: list[CompiledRule] = []
    for rule in rules:
        subjects = [in_range(stage.subject, port) for key in sorted(rule.subjects) for port in ports.get(key, ())]
        if not subjects:
            continue
        rendered.append(rule)
        dimensions: list[list[tuple[Term, ...]]] = [[(subject,) for subject in subjects]]
        dimensions += _dimensions(rule, stage.peer, userspace)
        for clause, members in enumerate(dimensions, 1):
            conjunction = Conjunction(rule.conj_id, clause, len(dimensions))
            for terms in members:
                clauses[match(*terms)].append(conjunction)
    bands = _bands(clauses.values())
    for wanted, conjunctions in clauses.items():
        for band, part in _split(conjunctions, bands).items():
            flows.add(stage.table, stage.priority(band), wanted, sorted(part), owner=cookie(CookieKind.CLAUSE))
    for rule in rendered:
        owner = cookie(CookieKind.RULE, rule.conj_id)
        hit = [exactly(oxm.CONJ_ID, rule.conj_id)]
        flows.add(stage.table, stage.priority(rule.conj_id % bands), hit, goto=stage.onward, owner=owner)


def _dimensions(rule: CompiledRule, peer: str, userspace: bool) -> list[list[tuple[Term, ...]]]:
    """The clauses besides the subjects. A rule that restricts nothing gets one that
    all traffic meets, for a conjunction needs two."""
    found: list[list[tuple[Term, ...]]] = []
    if rule.peers is not None:
        found.append([peer_terms(peer, net) for net in sorted(rule.peers)])
    if rule.services is not None:
        found.append(list(service_terms(rule.services, userspace)))
    return found or [[anything()]]


def anything() -> tuple[Term, ...]:
    """Terms that every packet in these tables meets."""
    return (TRACKED,)


def peer_terms(role: str, net: Net) -> tuple[Term, ...]:
    """Terms that a prefix of peers is matched by."""
    return (TRACKED, *address(role, net))


def service_terms(services: Services, userspace: bool) -> Iterator[tuple[Term, ...]]:
    """Terms for each (value, mask) of the services' ports."""
    for service in services:
        if service.protocol is Protocol.SCTP and userspace:
            yield from _sctp_terms(service)
            continue
        protocol = exactly(oxm.CT_NW_PROTO, service.protocol)
        for value, mask in port_masks(service.low, service.high):
            # The mask 0 is the whole protocol: every port is as good as none.
            yield (TRACKED, protocol, masked(oxm.CT_TP_DST, value, mask)) if mask else (TRACKED, protocol)


def _sctp_terms(service: Service) -> Iterator[tuple[Term, ...]]:
    """Userspace conntrack gives SCTP no ports, so the packet's own are matched: where it goes, or for an answer where
    it comes from."""
    sides = ((SctpAssociation.UNKNOWN, oxm.SCTP_DST), (SctpAssociation.REPLY, oxm.SCTP_SRC))
    for family in FAMILIES:
        for association, field in sides:
            packet = (
                TRACKED,
                family,
                exactly(oxm.IP_PROTO, oxm.IP_PROTO_SCTP),
                in_range(SCTP_ASSOCIATION, association),
            )
            for value, mask in port_masks(service.low, service.high):
                yield (*packet, masked(field, value, mask)) if mask else packet


def _bands(clauses: Iterable[list[Conjunction]]) -> int:
    """The smallest power of two of bands in which no flow has more conjunctions than a message can hold."""
    crowded = [conjunctions for conjunctions in clauses if len(conjunctions) > MOST_CONJUNCTIONS]
    bands = 1
    while any(len(members) > MOST_CONJUNCTIONS for c in crowded for members in _split(c, bands).values()):
        bands = more_bands(bands)
    return bands


def more_bands(bands: int) -> int:
    """Twice as many. Raises FlowError when there is no room for them below RULES."""
    if RULES - 2 * bands < LOWEST_RULES:
        raise FlowError("more rules share one subject, peer or port than a switch can tell apart")
    return 2 * bands


def _split(conjunctions: list[Conjunction], bands: int) -> dict[int, list[Conjunction]]:
    found: dict[int, list[Conjunction]] = defaultdict(list)
    for conjunction in conjunctions:
        found[conjunction.conj_id % bands].append(conjunction)
    return found
