"""The rules of one bridge, and their flows, kept as rules, subjects and peers change.

Theory of operation. A rule is on a bridge while any pod of its set of subjects has a port there. The rules of one set
of subjects come and go together: `enter` with its first port adds all of them, `leave` with its last port removes them.
A rule that is on the bridge has up to three dimensions, whose flows `clauses` keeps: subjects (the ofports here), peers
and services; and one flow that matches the conjunction id, ends the lookup and counts what the rule allows.

Example. Rule 12 allows pods with `app=db` ingress from 10.0.2.7 and 10.0.2.8 to port 5432/TCP. The first such pod gets
ofport 3: `enter(subjects, 3)` adds, in the ingress stage, the clause flows

    subjects  reg = 3                conjunction(12,1/3)
    peers     ct_nw_src=10.0.2.7     conjunction(12,2/3)
              ct_nw_src=10.0.2.8     conjunction(12,2/3)
    services  tcp, ct_tp_dst=5432    conjunction(12,3/3)

and the flow `conj_id=12`. A second pod at ofport 9 adds one flow: reg = 9, conjunction(12,1/3).

If the rules would need more flows than a bridge may have (`flow_limits`), those of whole namespaces are left out; their
pods stay isolated. If the rules of tiers would, `tier_room` says which of them are closed for their pods. The flows
equal those of `render.rules.render_rules`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache

from flows.cluster.model import Direction, Key, Tier
from flows.cluster.net import Net
from flows.openflow.match import match
from flows.plan.clauses import Clauses, ElementSet
from flows.plan.encoder import FlowEncoder
from flows.plan.key_templates import Element
from flows.plan.named_peers import Learned, LearnedAt, NamedPeers
from flows.plan.tier_room import Instead, TierChoice, choose_rules
from flows.plan.tier_weights import Sized, TierWeights
from flows.policy import flow_limits
from flows.policy.rule import STAGED, Level
from flows.policy.service_ranges import ServiceRanges
from flows.policy.tracked_sets import NetSet, PodSet, TrackedRule, tracked_rules_on
from flows.render.rules import (
    STAGED_STAGES,
    STAGES,
    TIER_STAGES,
    AnyStage,
    TierStage,
    allows,
    everyone_terms,
    service_terms,
)
from flows.wire.values import Body, FlowKey

PeersWatcher = Callable[[NetSet, bool], None]
LevelPlace = tuple[Tier, Direction, int]  # the order last
_ANYTHING: frozenset[Element] = frozenset({None})
_NOTHING: Learned = {}


def _nothing_learned(_: int) -> Learned:
    return _NOTHING


class BridgeRules:
    """`take` hands out the flows that may have changed since the last call: bodies by key, None where one is gone.

    `watch` is called with a set of peers and whether any rule here uses it, when that changes. The owner must report
    changes of these sets through `update_peers`, before changes of rules. `learned` tells what the pod at an ofport
    learned from DNS answers; its changes come through `update_names`.
    """

    # An event looks at little of each of many bridges, and their memory is far apart: slots save a step to each.
    __slots__ = (
        "_changed", "_encoder", "_instead", "_learned", "_levels", "_named", "_out", "_ports", "_promoted", "_rules",
        "_stages", "_tiers", "_tiers_changed", "_users", "_watch", "_weight", "_weights", "closed_policies",
        "names_changed", "staged_left_out", "tiers_left_out", "userspace",
    )  # fmt: skip

    def __init__(
        self,
        userspace: bool,
        encoder: FlowEncoder,
        watch: PeersWatcher | None = None,
        learned: LearnedAt = _nothing_learned,
    ) -> None:
        self.userspace = userspace
        self._learned = learned
        self.names_changed = False  # `named_ports` may be others
        self._named: dict[bytes, NamedPeers] = {}  # of rules with names, by identity
        self._encoder = encoder
        self._watch = watch
        self._ports: dict[PodSet, list[int]] = {}  # ofports here by set of subjects, sorted
        self._rules: dict[bytes, TrackedRule] = {}  # by identity
        self._stages = {stage.direction: Clauses(stage, encoder) for stage in STAGES}
        self._levels: dict[LevelPlace, Clauses] = {}  # of the rules of tiers
        self._users: dict[ElementSet, dict[Clauses, None]] = {}  # the levels that use a set of subjects or peers
        self._changed: dict[Clauses, None] = {}  # the stages with changes that were not taken, in order
        self._weights: dict[str, int] = {}  # flows of the rules, by namespace
        self._weight = 0
        self._promoted = 0  # flows of the rules as they are once staged policies are promoted
        self._out: frozenset[str] = frozenset()  # namespaces that are left out as a whole
        self._tiers = TierWeights()
        self.closed_policies: frozenset[Key] = frozenset()  # those of tiers with rules that have no room
        self._tiers_changed = False  # which of their rules have room must be chosen anew
        self._instead: Instead = {}  # of rules of tiers that have no room: what is there instead
        self.tiers_left_out = False  # all of them, because even what closes them has no room: their tables must deny
        self.staged_left_out = False  # because these rules would be too many flows beside those in force

    # -- questions ---------------------------------------------------------------------------------------------------

    def by_number(self) -> dict[int, TrackedRule]:
        """The rules on this bridge by conjunction id. Those that have no room are as they are closed, or missing."""
        if not self._instead:
            return {rule.number: rule for rule in self._rules.values()}
        forms = (self._instead.get(identity, rule) for identity, rule in self._rules.items())
        return {form.number: form for form in forms if form is not None}

    def hit_flow(self, identity: bytes) -> FlowKey | None:
        """The key of a rule's `conj_id` flow, which counts what it allows here; None where it has no flows."""
        rule = self._rules.get(identity) if identity not in self._instead else None
        clauses = None if rule is None else self._clauses(rule)
        return None if rule is None or clauses is None else clauses.hit_flow(rule.number)

    def _clauses(self, rule: TrackedRule) -> Clauses | None:
        if rule.level is None:
            return self._stages[rule.direction]
        return self._levels.get(_place(rule.direction, rule.level))

    @property
    def subjects(self) -> Collection[PodSet]:
        """The sets of subjects that have ports here."""
        return self._ports.keys()

    @property
    def peers(self) -> set[NetSet]:
        """The sets of peers of the rules here."""
        return {rule.peers for rule in self._rules.values() if rule.peers is not None}

    @property
    def namespaces_left_out(self) -> frozenset[str]:
        """The namespaces with rules that are not realized here, because there would be too many flows."""
        return self._out.union(*[stage.namespaces_left_out for stage in self._stages.values()])

    # -- changes -----------------------------------------------------------------------------------------------------

    def enter(self, subjects: PodSet, ofport: int, rules: Iterable[TrackedRule] | None = None) -> None:
        """A pod of these subjects has this port. The first port adds all rules of the subjects: those of
        `tracked_rules_on`, if the caller knows them."""
        ports = self._ports.get(subjects)
        if ports is None:
            self._ports[subjects] = [ofport]
            for rule in tracked_rules_on(subjects) if rules is None else rules:
                self.put(rule)
            return
        if ofport not in ports:
            self._toggle(subjects, (ofport,))
        insort(ports, ofport)
        self._resize(subjects, len(ports))
        if self._named:
            self.names_changed = True
            self.update_names(ofport)

    def leave(self, subjects: PodSet, ofport: int) -> bool:
        """A pod of these subjects has this port no more. Without any port the subjects' rules are removed.

        Returns whether any port is left.
        """
        ports = self._ports[subjects]
        if len(ports) == 1:
            for rule in tracked_rules_on(subjects):
                self.remove(rule.identity)
            del self._ports[subjects]
            return False
        ports.remove(ofport)
        self._resize(subjects, len(ports))
        if ofport not in ports:
            self._toggle(subjects, (ofport,))
        if self._named:
            self.names_changed = True
            self.update_names(ofport)
        return True

    def forget(self, subjects: PodSet) -> None:
        """No rule has these subjects any more."""
        del self._ports[subjects]

    def update_peers(self, peers: NetSet, prefixes: Collection[Net]) -> None:
        """Each of these prefixes came to a set of peers, or went from it."""
        self._resize(peers, len(peers.members))
        self._toggle(peers, prefixes)

    def update_names(self, ofport: int, addresses: Collection[Net] | None = None) -> None:
        """The pod at an ofport is another, or it learned something: of these addresses, or any for None."""
        for identity, named in self._named.items():
            rule = self._rules[identity]
            clauses = self._clauses(rule)
            here = ofport in self._ports[rule.subjects]
            toggled = named.update(ofport, self._learned(ofport) if here else _NOTHING, addresses)
            if toggled and clauses is not None:
                clauses.toggle(named, toggled)
                self._changed[clauses] = None

    @property
    def has_names(self) -> bool:
        """Whether some rule here has domain names."""
        return bool(self._named)

    def named_ports(self) -> set[int]:
        """The ofports of pods that rules with names select."""
        self.names_changed = False
        return {ofport for identity in self._named for ofport in self._ports[self._rules[identity].subjects]}

    def _toggle(self, elements_of: ElementSet, elements: Collection[Element]) -> None:
        for stage in self._stages.values():
            if elements_of in stage.users:
                stage.toggle(elements_of, elements)
                self._changed[stage] = None
        for stage in self._users.get(elements_of, ()) if self._users else ():
            stage.toggle(elements_of, elements)
            self._changed[stage] = None

    def put(self, rule: TrackedRule) -> None:
        """A rule is new or has changed."""
        # One step for all fields: each by its name would take as long as a look-up.
        identity, _, direction, subjects, peers, _, owners, weight, level = rule
        if subjects not in self._ports:
            return
        old = self._rules.get(identity)
        if old is not None:
            if old._replace(owners=owners) == rule:
                self._rules[identity] = rule
                self._tiers_changed |= bool(self._instead)  # they have room by the names of their owners
                return
            self.remove(identity)
        self._rules[identity] = rule
        if level is None:
            namespace = owners[0].policy.namespace
            self._weights[namespace] = self._weights.get(namespace, 0) + weight
            self._weight += weight
        elif level == STAGED:
            self._promoted += weight
        else:
            # Watched even while it is left out, so that it is known when there is room again.
            if self._watch is not None and peers is not None and not self._uses(peers):
                self._watch(peers, True)
            self._tiers.add(_place(direction, level), weight, self._sets(rule))
            self._tiers_changed = True
            if self._instead or self._tiers.total > flow_limits.MAX_TIER_FLOWS:
                self._instead[identity] = None  # until `take` has chosen: it must not be expanded before
        if not (self._out or self.staged_left_out or self._instead) or not self._is_out(rule):
            self._add_flows(rule)

    def remove(self, identity: bytes) -> None:
        """A rule is gone."""
        rule = self._rules.pop(identity, None)
        if rule is None:
            return
        _, _, direction, _, _, _, owners, weight, level = rule
        if level is None:
            namespace = owners[0].policy.namespace
            self._weight -= weight
            left = self._weights[namespace] - weight
            if left:
                self._weights[namespace] = left
            else:
                del self._weights[namespace]
        elif level == STAGED:
            self._promoted -= weight
        else:
            self._tiers.remove(_place(direction, level), weight, self._sets(rule))
            self._tiers_changed = True
            if identity in self._instead:
                self._remove_closed(rule)
                return
        if not (self._out or self.staged_left_out or self._instead) or not self._is_out(rule):
            self._remove_flows(rule)

    def _remove_closed(self, rule: TrackedRule) -> None:
        """A rule of a tier that has no room is gone."""
        if (closing := self._instead.pop(rule.identity)) is not None:
            self._remove_flows(closing)
        if self._watch is not None and rule.peers is not None and not self._uses(rule.peers):
            self._watch(rule.peers, False)

    def _is_out(self, rule: TrackedRule) -> bool:
        """Whether a rule is left out of the flows."""
        if rule.level is None:
            return rule.namespace in self._out
        return self.staged_left_out if rule.level == STAGED else rule.identity in self._instead

    def _resize(self, elements: PodSet | NetSet, size: int) -> None:
        """A set that rules of tiers may use has so many elements now."""
        if self._tiers.total and self._tiers.uses(elements):
            self._tiers.resize(elements, size)
            self._tiers_changed = True

    def _sets(self, rule: TrackedRule) -> list[Sized]:
        """The sets of a rule of a tier whose elements have a flow each, with how many there are here."""
        everyone = rule.level is not None and rule.level.everyone
        found: list[Sized] = [] if everyone else [(rule.subjects, len(self._ports[rule.subjects]))]
        return found if rule.peers is None else [*found, (rule.peers, len(rule.peers.members))]

    def _add_flows(self, rule: TrackedRule) -> None:
        identity, number, direction, subjects, peers, _, owners, _, level = rule
        stage = self._stages[direction] if level is None else self._clauses_of_level(direction, level)
        self._changed[stage] = None
        if self._watch is not None and peers is not None and not self._uses(peers):
            self._watch(peers, True)
        stage.add(number, owners[0].policy.namespace, None if level is None else level.action)
        sets = self._dimensions(rule)
        dimensions = self._encoder.dimensions(number, len(sets))
        for (elements_of, elements), dimension in zip(sets, dimensions, strict=True):
            stage.use(elements_of, elements, dimension)
            if level is not None and not isinstance(elements_of, frozenset):
                self._users.setdefault(elements_of, {})[stage] = None
        if level is not None and level.names:
            self.names_changed = True
            named = self._named[identity] = NamedPeers(level.names, stage.stage)
            for ofport in set(self._ports[subjects]):
                named.update(ofport, self._learned(ofport))
            # They are peers too: the second dimension.
            stage.use(named, named.elements, dimensions[1])

    def _clauses_of_level(self, direction: Direction, level: Level) -> Clauses:
        place = _place(direction, level)
        found = self._levels.get(place)
        if found is None:
            found = self._levels[place] = Clauses(_stage(direction, level), self._encoder)
        return found

    def _remove_flows(self, rule: TrackedRule) -> None:
        stage, number, peers, level = self._clauses(rule), rule.number, rule.peers, rule.level
        if stage is None:
            return
        self._changed[stage] = None
        stage.remove(number)
        if self._named and (named := self._named.pop(rule.identity, None)) is not None:
            self.names_changed = True
            stage.leave(named, named.elements, number)
        for elements_of, elements in self._dimensions(rule):
            stage.leave(elements_of, elements, number)
            if level is not None and not isinstance(elements_of, frozenset) and elements_of not in stage.users:
                users = self._users[elements_of]
                del users[stage]
                if not users:
                    del self._users[elements_of]
        if self._watch is not None and peers is not None and not self._uses(peers):
            self._watch(peers, False)

    def _uses(self, peers: NetSet) -> bool:
        for stage in self._stages.values():
            if peers in stage.users:
                return True
        return bool(self._tiers.total or self._users) and (peers in self._users or self._tiers.uses(peers))

    def _dimensions(self, rule: TrackedRule) -> list[tuple[ElementSet, Collection[Element]]]:
        """Subjects, then peers and services where the rule restricts them, in the order of `render_rules`."""
        _, _, direction, subjects, peers, services, _, _, level = rule
        found: list[tuple[ElementSet, Collection[Element]]]
        if level is not None and level.everyone:
            everyone = _everyone(level.tier, direction)
            found = [(everyone, everyone)]
        else:
            found = [(subjects, self._ports[subjects])]
        if peers is not None:
            found.append((peers, peers.members))
        if services is not None:
            matches = _service_matches(services, self.userspace, allows(level))
            found.append((matches, matches))
        elif peers is None:
            found.append((_ANYTHING, _ANYTHING))  # a conjunction has at least two dimensions
        return found

    # -- flows -------------------------------------------------------------------------------------------------------

    def take(self) -> dict[FlowKey, Body | None]:
        """The flows that may have changed since the last call. Raises what rendering raises."""
        if self._out or self._weight > flow_limits.MAX_BRIDGE_FLOWS:
            self._choose_namespaces()
        if self._promoted or self.staged_left_out:
            self._choose_staged()
        if self._tiers_changed:
            over = self._tiers.total > flow_limits.MAX_TIER_FLOWS
            if over or self._instead or self.closed_policies:
                self._choose_tiers()
            self._tiers_changed = False
        found: dict[FlowKey, Body | None] = {}
        changed, self._changed = self._changed, {}
        for stage in changed:
            taken = stage.take()
            if found:
                found.update(taken)  # `take` made it for us
            else:
                found = taken
            if self._levels and stage.is_empty and stage not in self._stages.values():
                of_level = stage.stage
                tier = of_level.tier if isinstance(of_level, TierStage) else STAGED.tier
                del self._levels[tier, of_level.direction, of_level.order or 0]
        return found

    def drop(self) -> dict[FlowKey, Body | None]:
        """All flows, as gone: they cannot be rendered. The next `take` tries all of them again."""
        self._changed = dict.fromkeys([*self._stages.values(), *self._levels.values()])
        return {key: body for stage in self._changed for key, body in stage.drop().items()}

    def _choose_namespaces(self) -> None:
        """Leave out the namespaces that need too many flows, and put back those that fit again."""
        out = flow_limits.namespaces_over_limit(self._weights)
        differ, self._out = out ^ self._out, out
        if differ:
            for rule in self._rules.values():
                if rule.namespace in differ and rule.level is None:
                    (self._remove_flows if rule.namespace in out else self._add_flows)(rule)

    def _choose_tiers(self) -> None:
        """Close the rules of tiers that have no room, and put back those that have room again."""
        of_tiers = [rule for rule in self._rules.values() if rule.level is not None and rule.level != STAGED]
        room, before = flow_limits.MAX_TIER_FLOWS, self._instead
        fits = self._tiers.total <= room
        choice = TierChoice() if fits else choose_rules(of_tiers, self._ports.__getitem__, room)
        after = dict.fromkeys(rule.identity for rule in of_tiers) if choice.everything else dict(choice.instead)
        self.tiers_left_out, self.closed_policies = choice.everything, choice.closed
        forms = [(before.get(one.identity, one), after.get(one.identity, one)) for one in of_tiers]
        changes = [(old, new) for old, new in forms if old != new]
        for old, _ in changes:  # first, for there is no room for both
            if old is not None:
                self._remove_flows(old)
        self._instead = after
        for _, new in changes:
            if new is not None:
                self._add_flows(new)

    def _choose_staged(self) -> None:
        """Leave out all rules as they are once promoted, where they and those in force would be too many flows."""
        out = self._weight + self._promoted > flow_limits.MAX_BRIDGE_FLOWS
        if out != self.staged_left_out:
            self.staged_left_out = out
            for rule in self._rules.values():
                if rule.level == STAGED:
                    (self._remove_flows if out else self._add_flows)(rule)


def _place(direction: Direction, level: Level) -> LevelPlace:
    return level.tier, direction, level.order


def _stage(direction: Direction, level: Level) -> AnyStage:
    """The stage of the rules of a level."""
    if level == STAGED:
        return next(one for one in STAGED_STAGES if one.direction is direction)
    return _tier_stage(level.tier, direction)._replace(order=level.order)


def _tier_stage(tier: Tier, direction: Direction) -> TierStage:
    return next(one for one in TIER_STAGES if (one.tier, one.direction) == (tier, direction))


@lru_cache
def _everyone(tier: Tier, direction: Direction) -> frozenset[Element]:
    """The one element that stands for all subjects of a tier."""
    return frozenset({match(*everyone_terms(_tier_stage(tier, direction)))})


@lru_cache(maxsize=65536)
def _service_matches(services: ServiceRanges, userspace: bool, allowed: bool) -> frozenset[Element]:
    return frozenset(match(*terms) for terms in service_terms(services, userspace, allowed))
