"""Distributes the engine's changes of rules to the bridge plans that they concern.

A plan hears only of the sets of subjects that have ports on its bridge, and of the sets of peers that its rules use.
So an event costs what it changes, however many bridges there are. What raises in a plan concerns its bridge: its plan
is given up, the others go on.

Example. Rules of subjects S are on bridges n1 and n2. A pod of n3 comes into S: `_enter` has n3's plan add all rules of
S, with the pod's ofport. Another rule of S comes: `_put_rule` gives it to n1, n2 and n3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from flows.bridge.claim_contest import BridgeName
from flows.cluster.model import Key
from flows.plan.bridge_plan import BridgePlan
from flows.plan.pod_ports import PodPorts
from flows.policy.engine import PolicyEngine
from flows.policy.policy_changes import PeerChange, PolicyChanges, RuleChange
from flows.policy.tracked_sets import NetSet, PodSet, TrackedRule, has_tracked_rules, tracked_rules_on

K = TypeVar("K")


class RuleDistributor:
    """`plans` are those that exist. `fail` is called with a bridge whose plan raised: it removes the plan, and calls
    `purge`."""

    def __init__(
        self, plans: Mapping[BridgeName, BridgePlan], pod_ports: PodPorts, fail: Callable[[BridgeName, Exception], None]
    ) -> None:
        self._plans = plans
        self._pod_ports = pod_ports
        self._fail = fail
        self._subjects: dict[PodSet, tuple[BridgeName, ...]] = {}  # the bridges with ports of a set of subjects
        self._peers: dict[NetSet, tuple[BridgeName, ...]] = {}  # the bridges with rules that use a set of peers

    def watch(self, name: BridgeName, peers: NetSet, used: bool) -> None:
        """Some rule of a bridge uses a set of peers from now on, or none any more."""
        if used:
            _add(self._peers, peers, name)
        else:
            _discard(self._peers, peers, name)

    def drop(self, name: BridgeName, plan: BridgePlan) -> None:
        """A bridge's plan is given up; what it says of its sets is right."""
        for subjects in plan.rules.subjects:
            _discard(self._subjects, subjects, name)
        for peers in plan.rules.peers:
            _discard(self._peers, peers, name)

    def purge(self, name: BridgeName) -> None:
        """A bridge's plan is given up, and nothing that it says is relied on."""
        for subjects in [one for one, bridges in self._subjects.items() if name in bridges]:
            _discard(self._subjects, subjects, name)
        for peers in [one for one, bridges in self._peers.items() if name in bridges]:
            _discard(self._peers, peers, name)

    def distribute(
        self, changes: PolicyChanges, moved: set[Key], engine: PolicyEngine, everywhere: bool = False
    ) -> set[BridgeName]:
        """Apply the engine's changes, and the ports of pods that moved. Returns the bridges that are affected.

        `everywhere`: all bridges with pods are known to be affected. Then those of pods that moved, which are very many
        when a controller starts, are not looked for.
        """
        before = self._pod_ports.take_reported()
        none_before = not self._subjects
        ports = self._pod_ports.by_pod
        affected = set() if everywhere else {name for key in moved for name, _ in ports.get(key, ())}
        # Before rules come or go with their sets of peers, these must be as plans know them.
        for peer_change in changes.peers:
            self._update_peers(peer_change, affected)
        new = self._put_rules(changes.rules, engine, affected) if changes.rules else set()
        entered: set[tuple[PodSet, Key]] = set()
        for subjects, came, went in changes.subjects:
            if subjects in new or not has_tracked_rules(subjects):
                continue
            for key in came:
                if key in moved:
                    entered.add((subjects, key))
                self._enter(subjects, ports.get(key, ()), affected)
            for key in went:
                self._leave(subjects, before[key] if key in before else ports.get(key, ()), affected)
        if none_before and sum([rule.old is None for rule in changes.rules]) == engine.tracked_rule_count:
            return affected  # all rules are new, so the ports of all their subjects are entered
        for key in moved:
            now, then = self._pod_ports.of(key), before.get(key, ())
            for subjects in engine.subjects_of(key):
                if subjects not in new and (subjects, key) not in entered and has_tracked_rules(subjects):
                    self._enter(subjects, [port for port in now if port not in then], affected)
                    self._leave(subjects, [port for port in then if port not in now], affected)
        return affected

    def bridges_with(self, rules: Iterable[TrackedRule]) -> set[BridgeName]:
        """The bridges that have ports of these rules' subjects."""
        return {name for rule in rules for name in self._subjects.get(rule.subjects, ())}

    def _update_peers(self, change: PeerChange, affected: set[BridgeName]) -> None:
        bridges = self._peers.get(change.peers, ())
        affected.update(bridges)
        prefixes = (*change.added, *change.removed)
        for name in bridges:
            try:
                self._plans[name].rules.update_peers(change.peers, prefixes)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self._fail(name, error)

    def _put_rules(self, changes: Iterable[RuleChange], engine: PolicyEngine, affected: set[BridgeName]) -> set[PodSet]:
        """Give rules to the bridges with ports of their subjects. Returns the subjects that no bridge had before; their
        ports are entered here."""
        new_subjects: dict[PodSet, None] = {}
        old_subjects: dict[PodSet, None] = {}  # that lost a rule
        for old, new in changes:
            if old is not None and (new is None or old.subjects is not new.subjects):
                old_subjects[old.subjects] = None
                self._put_rule(old.subjects, old.identity, None, affected)
            if new is None:
                continue
            if new.subjects in self._subjects:
                self._put_rule(new.subjects, new.identity, new, affected)
            else:
                new_subjects[new.subjects] = None
        self._enter_new(new_subjects, engine, affected)
        for subjects in old_subjects:
            if not has_tracked_rules(subjects):
                self._forget(subjects)
        return set(new_subjects)

    def _enter_new(self, new_subjects: Iterable[PodSet], engine: PolicyEngine, affected: set[BridgeName]) -> None:
        """Enter the ports of subjects that no bridge has. It goes bridge by bridge, for what one plan keeps is close in
        memory, and very many subjects may be new."""
        entering: dict[BridgeName, list[tuple[PodSet, int, list[TrackedRule]]]] = {}
        ports, plans = self._pod_ports.by_pod, self._plans
        for subjects in new_subjects:
            there: list[BridgeName] = []
            rules = tracked_rules_on(subjects)
            for pod in engine.pods_with(subjects.members):
                for name, ofport in ports.get(pod.key, ()):
                    here = entering.get(name)
                    if here is None:
                        if name not in plans:
                            continue
                        here = entering[name] = []
                    here.append((subjects, ofport, rules))
                    there.append(name)
            if there:
                self._subjects[subjects] = tuple(there) if len(there) == 1 else tuple(dict.fromkeys(there))
        for name, found in entering.items():
            affected.add(name)
            try:
                enter = plans[name].rules.enter
                for subjects, ofport, rules in found:
                    enter(subjects, ofport, rules)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self._fail(name, error)

    def _put_rule(self, subjects: PodSet, identity: bytes, rule: TrackedRule | None, affected: set[BridgeName]) -> None:
        for name in self._subjects.get(subjects, ()):
            affected.add(name)
            try:
                rules = self._plans[name].rules
                if rule is None:
                    rules.remove(identity)
                else:
                    rules.put(rule)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)

    def _enter(self, subjects: PodSet, ports: Iterable[tuple[BridgeName, int]], affected: set[BridgeName]) -> None:
        for name, ofport in ports:
            plan = self._plans.get(name)
            if plan is None:
                continue
            affected.add(name)
            try:
                plan.rules.enter(subjects, ofport)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)
            else:
                _add(self._subjects, subjects, name)

    def _leave(self, subjects: PodSet, ports: Iterable[tuple[BridgeName, int]], affected: set[BridgeName]) -> None:
        for name, ofport in ports:
            plan = self._plans.get(name)
            if plan is None:
                continue
            affected.add(name)
            try:
                if not plan.rules.leave(subjects, ofport):
                    _discard(self._subjects, subjects, name)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)

    def _forget(self, subjects: PodSet) -> None:
        """No rule has these subjects any more."""
        for name in self._subjects.pop(subjects, ()):
            try:
                self._plans[name].rules.forget(subjects)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)


def _add(bridges_of: dict[K, tuple[BridgeName, ...]], one: K, name: BridgeName) -> None:
    bridges = bridges_of.get(one, ())
    if name not in bridges:
        bridges_of[one] = (*bridges, name)


def _discard(bridges_of: dict[K, tuple[BridgeName, ...]], one: K, name: BridgeName) -> None:
    bridges = bridges_of.get(one)
    if bridges is not None and name in bridges:
        left = tuple([other for other in bridges if other != name])
        if left:
            bridges_of[one] = left
        else:
            del bridges_of[one]
