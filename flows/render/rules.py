"""The flows of policy rules: conjunctive matches, whose cost is the sum of a rule's sets and not their product.

Theory of operation (ovs-fields(7), "Conjunctive match fields"). A rule is a conjunction, whose id is the rule's number.
Its clauses are its subjects, its peers and its services; a clause that the rule does not restrict is left out. There is
one flow for each member of a clause, with the action conjunction(id, clause/clauses), and one flow that matches
conj_id and allows. A packet that meets a flow of every clause gets the conj_id.

Example: rule 7 lets 10.0.1.0/24 and 10.0.2.0/24 open TCP ports 80 and 443 of the pod at ofport 5, in table ingress:

    priority=20000,reg3=0x5/0xffff                               actions=conjunction(7,1/3)
    priority=20000,ct_state=-inv+trk,ct_nw_src=10.0.1.0/24,ip    actions=conjunction(7,2/3)
    priority=20000,ct_state=-inv+trk,ct_nw_src=10.0.2.0/24,ip    actions=conjunction(7,2/3)
    priority=20000,ct_state=-inv+trk,ct_nw_proto=6,ct_tp_dst=80  actions=conjunction(7,3/3)
    priority=20000,ct_state=-inv+trk,ct_nw_proto=6,ct_tp_dst=443 actions=conjunction(7,3/3)
    priority=20000,conj_id=7                                     actions=goto_table:limit

Rules share flows: where rule 9 has the same peer 10.0.1.0/24, that flow has the actions conjunction(7,2/3) and
conjunction(9,2/2). When these actions grow too many for one OpenFlow message, the rules are spread over 2, 4, 8 or more
bands: rule n has all its flows at priority RULES - n % bands. Where even MAX_BANDS bands do not suffice, the namespace
with the most rules in that flow is left out of it: a rule that lacks a member of a clause allows less, never more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from flows.bridge.state import Binding
from flows.cluster.domain_names import LearnedAddress, NamePatterns
from flows.cluster.model import Action as RuleAction
from flows.cluster.model import Direction, Key, Protocol, Tier
from flows.cluster.net import Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Conjunction, Load
from flows.openflow.match import FlowError, Match, Term, exactly, in_range, masked, match
from flows.openflow.register_bits import Range
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.registers import (
    EGRESS_APPLIES,
    EGRESS_STAGED,
    EGRESS_TIERS,
    INGRESS_APPLIES,
    INGRESS_STAGED,
    INGRESS_TIERS,
    INITIATOR_OFPORT,
    INTERPRETATION,
    RECORDED,
    RESPONDER_OFPORT,
    SCTP_ASSOCIATION,
    STAGED_DENIES_EGRESS,
    STAGED_DENIES_INGRESS,
    Interpretation,
    SctpAssociation,
    TierBit,
)
from flows.pipeline.table import Table
from flows.policy import flow_limits
from flows.policy.flow_limits import namespaces_over_limit
from flows.policy.rule import STAGED, CompiledRule, Level, NodePolicy
from flows.policy.service_ranges import ServiceRange, ServiceRanges, port_masks
from flows.render.flow_set import FlowSet
from flows.render.terms import IP_FAMILIES, IS_RELATED, IS_TRACKED, address_terms

# A conjunction action has 16 bytes and a message 64 KiB; the rest is room for the match and the bundle message around.
MAX_CONJUNCTIONS = 3500
# Each band may add a copy of each flow. So many hold some 100,000 rules of one subject, peer or service.
MAX_BANDS = 32
NOTHING_LEARNED: Mapping[Key, Sequence[LearnedAddress]] = MappingProxyType({})


class Stage(NamedTuple):
    """The tables and registers of one direction. `onward` is where allowed packets go."""

    direction: Direction
    table: Table
    subject: Range
    applies: Range
    peer: str
    onward: Table
    order: int | None = None  # always None: see TierStage

    def priority(self, band: int) -> int:
        """The priority of a band of rules."""
        return priorities.RULES - band

    def hit(self, _: RuleAction | None) -> tuple[tuple[Action, ...], Table]:
        """What a rule does with what it matches, and the next table."""
        return (), self.onward


class TierStage(NamedTuple):
    """The tables and registers of one tier and direction, and one order of its rules (see `flows.policy.levels`).

    `onward` is where packets go that no rule matches, `accepted` where those go that one accepts; what it denies goes
    to `refused`. `isolated` is the register that says whether NetworkPolicies isolate the subject, `staged` the one
    that says whether they deny once staged ones are promoted.
    """

    tier: Tier
    direction: Direction
    table: Table
    subject: Range
    applies: Range
    bit: TierBit
    peer: str
    onward: Table
    accepted: Table
    refused: Table
    isolated: Range
    staged: Range
    order: int | None = None

    def priority(self, _: int) -> int:
        """The priority of the rules of this order; there are no bands."""
        return priorities.TIERS - (self.order or 0)

    def hit(self, action: RuleAction | None) -> tuple[tuple[Action, ...], Table]:
        """What a rule with this action does with what it matches, and the next table."""
        if action is RuleAction.PASS:
            return (), self.onward
        denies = action is RuleAction.DENY
        # What tier Admin decides, NetworkPolicies do not, nor do staged ones once promoted; tier Baseline applies to
        # pods only that none isolates.
        decided = (Load(self.staged, 1 if denies else 0),) if self.tier is Tier.ADMIN else ()
        if denies:
            return decided, self.refused
        return ((Load(self.isolated, 0), *decided) if self.tier is Tier.ADMIN else ()), self.accepted


STAGES = (
    Stage(Direction.EGRESS, tables.EGRESS, INITIATOR_OFPORT, EGRESS_APPLIES, "responder", tables.INGRESS),
    Stage(Direction.INGRESS, tables.INGRESS, RESPONDER_OFPORT, INGRESS_APPLIES, "initiator", tables.LIMIT),
)
# Of the rules as they are once staged policies are promoted. They only spare a packet the note of `render.staged`.
STAGED_STAGES = (
    Stage(Direction.EGRESS, tables.STAGED_EGRESS, INITIATOR_OFPORT, EGRESS_STAGED, "responder", tables.STAGED_INGRESS),
    Stage(
        Direction.INGRESS, tables.STAGED_INGRESS, RESPONDER_OFPORT, INGRESS_STAGED, "initiator", tables.STAGED_CHANGE
    ),
)
_EGRESS = (
    Direction.EGRESS, INITIATOR_OFPORT, EGRESS_TIERS, "responder", tables.EGRESS_REFUSED, EGRESS_APPLIES,
    STAGED_DENIES_EGRESS,
)  # fmt: skip
_INGRESS = (
    Direction.INGRESS, RESPONDER_OFPORT, INGRESS_TIERS, "initiator", tables.INGRESS_REFUSED, INGRESS_APPLIES,
    STAGED_DENIES_INGRESS,
)  # fmt: skip
TIER_STAGES = tuple(
    TierStage(
        tier, direction, table, subject, applies, TierBit[tier.name], peer, onward, accepted, refused, isolated, staged
    )
    for (direction, subject, applies, peer, refused, isolated, staged), tier, table, onward, accepted in (
        (_EGRESS, Tier.ADMIN, tables.ADMIN_EGRESS, tables.BASELINE_EGRESS, tables.ADMIN_INGRESS),
        (_EGRESS, Tier.BASELINE, tables.BASELINE_EGRESS, tables.ADMIN_INGRESS, tables.ADMIN_INGRESS),
        (_INGRESS, Tier.ADMIN, tables.ADMIN_INGRESS, tables.BASELINE_INGRESS, tables.EGRESS),
        (_INGRESS, Tier.BASELINE, tables.BASELINE_INGRESS, tables.EGRESS, tables.EGRESS),
    )
)
AnyStage = Stage | TierStage


def render_stages(flows: FlowSet) -> None:
    """Packets whose subject is not isolated in a direction skip its rules."""
    for stage in STAGES:
        flows.add(stage.table, priorities.RULES_NOT_ISOLATED, [in_range(stage.applies, 0)], goto=stage.onward)


def render_rules(flows: FlowSet, binding: Binding, policy: NodePolicy) -> None:
    """All rules of a bridge in both directions, without those of namespaces that need too many flows."""
    ports: dict[Key, list[int]] = defaultdict(list)
    for pod_binding in binding.pods:
        ports[pod_binding.pod].append(pod_binding.ofport)
    weights: Counter[str] = Counter()
    for rule in policy.rules:
        if rule.level is None and any(ports.get(key) for key in rule.subjects):
            weights[rule.namespace] += rule.weight
    excluded = namespaces_over_limit(weights)
    levels: dict[tuple[Tier, Direction, int], list[CompiledRule]] = defaultdict(list)
    for rule in policy.rules:
        if rule.level is not None and rule.level != STAGED:
            levels[rule.level.tier, rule.direction, rule.level.order].append(rule)
    for stage in STAGES:
        rules = [
            rule
            for rule in policy.rules
            if rule.level is None and rule.direction is stage.direction and rule.namespace not in excluded
        ]
        _render_stage(flows, stage, rules, ports, binding.userspace)
    for stage in STAGED_STAGES if has_room_for_staged(policy, ports) else ():
        promoted = [one for one in policy.rules if one.level == STAGED and one.direction is stage.direction]
        _render_stage(flows, stage, promoted, ports, binding.userspace)
    by_stage = {(one.tier, one.direction): one for one in TIER_STAGES}
    for (tier, direction, order), rules in levels.items():
        of_order = by_stage[tier, direction]._replace(order=order)
        _render_stage(flows, of_order, rules, ports, binding.userspace, policy.learned)


def has_room_for_staged(policy: NodePolicy, pods: Collection[Key]) -> bool:
    """Whether a bridge with these pods has room for the rules as they are once staged policies are promoted, beside
    those in force. No rules need none."""
    here = [one for one in policy.rules if not one.subjects.isdisjoint(pods)]
    promoted = sum(one.weight for one in here if one.level == STAGED)
    in_force = sum(one.weight for one in here if one.level is None)
    return not promoted or in_force + promoted <= flow_limits.MAX_BRIDGE_FLOWS


def _render_stage(
    flows: FlowSet,
    stage: AnyStage,
    rules: Iterable[CompiledRule],
    ports: dict[Key, list[int]],
    userspace: bool,
    learned: Mapping[Key, Sequence[LearnedAddress]] = NOTHING_LEARNED,
) -> None:
    clauses: dict[Match, list[Conjunction]] = defaultdict(list)
    rendered: list[CompiledRule] = []
    for rule in rules:
        subjects = [in_range(stage.subject, port) for key in sorted(rule.subjects) for port in ports.get(key, ())]
        if not subjects:
            continue
        rendered.append(rule)
        dimensions: list[list[tuple[Term, ...]]] = [[(subject,) for subject in subjects]]
        if isinstance(stage, TierStage) and rule.level is not None and rule.level.everyone:
            dimensions = [[everyone_terms(stage)]]
        dimensions += _dimensions(rule, stage.peer, userspace)
        names = rule.level.names if rule.level is not None else ()
        patterns = NamePatterns(names)
        for key in sorted(rule.subjects) if names else ():
            for port in ports.get(key, ()):
                dimensions[1] += learned_terms(stage, port, patterns, learned.get(key, ()))
        for clause, members in enumerate(dimensions, 1):
            conjunction = Conjunction(rule.conj_id, clause, len(dimensions))
            for terms in members:
                clauses[match(*terms)].append(conjunction)
    bands = _bands(stage, clauses.values())
    namespaces = {rule.conj_id: rule.namespace for rule in rendered}
    for terms_of_flow, conjunctions in clauses.items():
        for band, part in _split(conjunctions, bands).items():
            kept = set(fitting([one.conj_id for one in part], namespaces)[0])
            if kept:
                actions = sorted(one for one in part if one.conj_id in kept)
                flows.add(stage.table, stage.priority(band), terms_of_flow, actions, cookie=cookie(CookieKind.CLAUSE))
    for rule in rendered:
        rule_cookie = cookie(CookieKind.RULE, rule.conj_id)
        hit = [exactly(oxm.CONJ_ID, rule.conj_id)]
        does, onward = stage.hit(rule.level.action if rule.level is not None else None)
        flows.add(stage.table, stage.priority(rule.conj_id % bands), hit, does, onward, rule_cookie)


def _dimensions(rule: CompiledRule, peer: str, userspace: bool) -> list[list[tuple[Term, ...]]]:
    """The clauses besides the subjects. A rule that restricts neither peers nor services gets one that every packet
    meets, for a conjunction needs two."""
    found: list[list[tuple[Term, ...]]] = []
    if rule.peers is not None:
        found.append([peer_terms(peer, net) for net in sorted(rule.peers)])
    if rule.services is not None:
        found.append(list(service_terms(rule.services, userspace, allows(rule.level))))
    return found or [[anything()]]


def learned_terms(
    stage: AnyStage, ofport: int, patterns: NamePatterns, learned: Iterable[LearnedAddress]
) -> Iterator[tuple[Term, ...]]:
    """Terms for each address that the pod at an ofport learned for names that the patterns stand for."""
    names: dict[Net, list[tuple[str, bool]]] = defaultdict(list)
    for one in learned:
        names[one.address].append((one.name, one.live))
    for address, known in names.items():
        live = patterns.liveness(known)
        if live is not None:
            yield named_peer_terms(stage, ofport, address, live)


def named_peer_terms(stage: AnyStage, ofport: int, address: Net, live: bool) -> tuple[Term, ...]:
    """Terms that match what the subject at an ofport sends to an address that it learned. One that is not live matches
    connections only that are recorded, which policy allowed while it was."""
    terms = (in_range(stage.subject, ofport), *peer_terms(stage.peer, address))
    if live:
        return terms
    return *terms, in_range(RECORDED, 1), in_range(INTERPRETATION, Interpretation.AS_TRACKED)


def everyone_terms(stage: TierStage) -> tuple[Term, ...]:
    """Terms that match what every pod with rules of the tier sends (egress) or gets.

    Where some rule is for all pods, each has rules of its tier: packets of subjects without any are past the rules
    already (`priorities.TIERS_NONE`).
    """
    return (tier_term(stage.applies, stage.bit, 1),)


def tier_term(place: Range, bit: TierBit, value: int) -> Term:
    """The bit of a tier in a range of tiers is set (1) or not (0)."""
    return masked(place.register, place.place(bit if value else 0), place.place(bit))


def allows(level: Level | None) -> bool:
    """Whether a rule with this level lets pass what it matches: that of a NetworkPolicy, which has none, does."""
    return level is None or level.action is RuleAction.ACCEPT


def anything() -> tuple[Term, ...]:
    """Terms that every packet meets in these tables."""
    return (IS_TRACKED,)


def peer_terms(role: str, net: Net) -> tuple[Term, ...]:
    """Terms that match a prefix of peers, in the role `initiator` or `responder`."""
    return (IS_TRACKED, *address_terms(role, net))


def service_terms(services: ServiceRanges, userspace: bool, allowed: bool = True) -> Iterator[tuple[Term, ...]]:
    """Terms for each (value, mask) of the services' port ranges. `allowed`: the rule lets them pass."""
    if allowed and userspace and any(service.protocol is Protocol.SCTP for service in services):
        # An ICMP error about an association tells only the addresses there: any port is allowed.
        yield IS_RELATED, exactly(oxm.CT_NW_PROTO, oxm.IP_PROTO_SCTP)
    for service in services:
        if service.protocol is Protocol.SCTP and userspace:
            yield from _sctp_terms(service)
            continue
        protocol = exactly(oxm.CT_NW_PROTO, service.protocol)
        for value, mask in port_masks(service.low, service.high):
            # Mask 0 is every port of the protocol.
            yield (IS_TRACKED, protocol, masked(oxm.CT_TP_DST, value, mask)) if mask else (IS_TRACKED, protocol)


def _sctp_terms(service: ServiceRange) -> Iterator[tuple[Term, ...]]:
    """Userspace conntrack ignores SCTP's ports, so those of the packet are matched: the destination port, or the source
    port of a reply."""
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


def _bands(stage: AnyStage, clauses: Iterable[list[Conjunction]]) -> int:
    """The number of bands that the longest flow needs. Raises FlowError for a tier, whose orders have no bands."""
    if stage.order is not None:
        for members in clauses:
            check_order(len(members))
        return 1
    return max([fewest_bands([one.conj_id for one in members]) for members in clauses], default=1)


def check_order(count: int) -> None:
    """Raises FlowError where one flow would name more rules of a tier's order than a message can hold: none of them can
    be left out, for another could then decide."""
    if count > MAX_CONJUNCTIONS:
        raise FlowError(f"{count:,} rules of ClusterNetworkPolicies of one priority share a peer, a pod or a port")


def fewest_bands(numbers: Collection[int]) -> int:
    """The smallest power of two so that no band has more of these rules (by number) than a message can hold; MAX_BANDS
    where none is enough."""
    bands = 1
    while bands < MAX_BANDS and len(numbers) > MAX_CONJUNCTIONS:
        if max(Counter([number % bands for number in numbers]).values()) <= MAX_CONJUNCTIONS:
            break
        bands *= 2
    return bands


def fitting(numbers: list[int], namespaces: Mapping[int, str]) -> tuple[list[int], set[str]]:
    """The rules of one flow that fit a message, and the namespaces that are left out: those with the most rules in it.
    `namespaces` has the namespace of each rule. A rule that lacks a member of a clause allows less, never more."""
    count = len(numbers)
    if count <= MAX_CONJUNCTIONS:
        return numbers, set()
    excluded: set[str] = set()
    by_namespace = Counter([namespaces[number] for number in numbers])
    for namespace in sorted(by_namespace, key=lambda one: (-by_namespace[one], one)):
        if count <= MAX_CONJUNCTIONS:
            break
        excluded.add(namespace)
        count -= by_namespace[namespace]
    return [number for number in numbers if namespaces[number] not in excluded], excluded


def _split(conjunctions: list[Conjunction], bands: int) -> dict[int, list[Conjunction]]:
    found: dict[int, list[Conjunction]] = defaultdict(list)
    for conjunction in conjunctions:
        found[conjunction.conj_id % bands].append(conjunction)
    return found
