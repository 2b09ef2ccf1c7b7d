"""The flows of policy rules: conjunctive matches whose cost is the sum of a rule's sets, not their product.

A rule has a clause of subjects, and one each of peers and services where it restricts them. Flows of several rules with
one match are one flow with several conjunction actions; when those grow too many for a message, rules are spread over
bands of priorities.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from flows.bridge.state import Binding
from flows.cluster.model import Direction, Key, Protocol
from flows.cluster.net import Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Conjunction
from flows.openflow.match import Match, Term, exactly, in_range, masked, match
from flows.openflow.register_bits import Range
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.registers import (
    EGRESS_APPLIES,
    INGRESS_APPLIES,
    INITIATOR_OFPORT,
    RESPONDER_OFPORT,
    SCTP_ASSOCIATION,
    SctpAssociation,
)
from flows.pipeline.tables import Table
from flows.policy.flow_limits import namespaces_over_limit
from flows.policy.rule import CompiledRule, NodePolicy
from flows.policy.services import Service, Services, port_masks
from flows.render.flow_set import FlowSet
from flows.render.terms import IP_FAMILIES, IS_RELATED, IS_TRACKED, address_terms

# A conjunction action has 16 bytes and a message 64 KiB; the rest is room for the match and the bundle's wrapping.
MOST_CONJUNCTIONS = 3500
# Each band may give each flow another copy. So many hold some 100,000 rules of one subject, peer or port; priorities
# below RULES are enough for them.
MOST_BANDS = 32


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
        return priorities.RULES - band


STAGES = (
    Stage(Direction.EGRESS, tables.EGRESS, INITIATOR_OFPORT, EGRESS_APPLIES, "responder", tables.INGRESS),
    Stage(Direction.INGRESS, tables.INGRESS, RESPONDER_OFPORT, INGRESS_APPLIES, "initiator", tables.LIMIT),
)


def render_stages(flows: FlowSet) -> None:
    """The flows by which pods that nothing isolates pass the rules by."""
    for stage in STAGES:
        flows.add(stage.table, priorities.RULES_NOT_ISOLATED, [in_range(stage.applies, 0)], goto=stage.onward)


def render_rules(flows: FlowSet, binding: Binding, policy: NodePolicy) -> None:
    """All rules of the switch, both directions, but for those of namespaces that ask for too much."""
    ports: dict[Key, list[int]] = defaultdict(list)
    for pod_binding in binding.pods:
        ports[pod_binding.pod].append(pod_binding.ofport)
    weights: Counter[str] = Counter()
    for rule in policy.rules:
        if any(ports.get(key) for key in rule.subjects):
            weights[rule.namespace] += rule.weight
    out = namespaces_over_limit(weights)
    for stage in STAGES:
        rules = [rule for rule in policy.rules if rule.direction is stage.direction and rule.namespace not in out]
        _render_stage(flows, stage, rules, ports, binding.userspace)


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
    spaces = {rule.conj_id: rule.namespace for rule in rendered}
    for wanted, conjunctions in clauses.items():
        for band, part in _split(conjunctions, bands).items():
            kept = set(fitting([one.conj_id for one in part], spaces)[0])
            if kept:
                actions = sorted(one for one in part if one.conj_id in kept)
                flows.add(stage.table, stage.priority(band), wanted, actions, owner=cookie(CookieKind.CLAUSE))
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
    return (IS_TRACKED,)


def peer_terms(role: str, net: Net) -> tuple[Term, ...]:
    """Terms that a prefix of peers is matched by."""
    return (IS_TRACKED, *address_terms(role, net))


def service_terms(services: Services, userspace: bool) -> Iterator[tuple[Term, ...]]:
    """Terms for each (value, mask) of the services' ports."""
    if userspace and any(service.protocol is Protocol.SCTP for service in services):
        # Of an association that an ICMP error is about only the addresses are known there: any port will do.
        yield IS_RELATED, exactly(oxm.CT_NW_PROTO, oxm.IP_PROTO_SCTP)
    for service in services:
        if service.protocol is Protocol.SCTP and userspace:
            yield from _sctp_terms(service)
            continue
        protocol = exactly(oxm.CT_NW_PROTO, service.protocol)
        for value, mask in port_masks(service.low, service.high):
            # The mask 0 is the whole protocol: every port is as good as none.
            yield (IS_TRACKED, protocol, masked(oxm.CT_TP_DST, value, mask)) if mask else (IS_TRACKED, protocol)


def _sctp_terms(service: Service) -> Iterator[tuple[Term, ...]]:
    """Userspace conntrack gives SCTP no ports, so the packet's own are matched: where it goes, or for an answer where
    it comes from."""
    sides = ((SctpAssociation.UNKNOWN, oxm.SCTP_DST), (SctpAssociation.REPLY, oxm.SCTP_SRC))
    for family in IP_FAMILIES:
        for association, field in sides:
            packet = (
                IS_TRACKED,
                family,
                exactly(oxm.IP_PROTO, oxm.IP_PROTO_SCTP),
                in_range(SCTP_ASSOCIATION, association),
            )
            for value, mask in port_masks(service.low, service.high):
                yield (*packet, masked(field, value, mask)) if mask else packet


def _bands(clauses: Iterable[list[Conjunction]]) -> int:
    """The bands that all flows need."""
    return max([fewest_bands([one.conj_id for one in members]) for members in clauses], default=1)


def fewest_bands(numbers: Collection[int]) -> int:
    """The smallest power of two of bands in which none has more of these rules than a message can hold; or the most
    that there may be."""
    bands = 1
    while bands < MOST_BANDS and len(numbers) > MOST_CONJUNCTIONS:
        if max(Counter([number % bands for number in numbers]).values()) <= MOST_CONJUNCTIONS:
            break
        bands *= 2
    return bands


def fitting(numbers: list[int], spaces: Mapping[int, str]) -> tuple[list[int], set[str]]:
    """Of the rules of one flow those that a message can hold, and the namespaces of those that are left out: the ones
    with the most rules there. A rule that misses in a clause allows nothing by it."""
    count = len(numbers)
    if count <= MOST_CONJUNCTIONS:
        return numbers, set()
    out: set[str] = set()
    by_space = Counter([spaces[number] for number in numbers])
    for space in sorted(by_space, key=lambda space: (-by_space[space], space)):
        if count <= MOST_CONJUNCTIONS:
            break
        out.add(space)
        count -= by_space[space]
    return [number for number in numbers if spaces[number] not in out], out


def _split(conjunctions: list[Conjunction], bands: int) -> dict[int, list[Conjunction]]:
    found: dict[int, list[Conjunction]] = defaultdict(list)
    for conjunction in conjunctions:
        found[conjunction.conj_id % bands].append(conjunction)
    return found
