"""Tells the plans of bridges what became of rules: each hears of the sets that have ports there, and of nothing else.

What raises in a plan concerns its bridge: that bridge has no plan any more, and the others hear on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from flows.bridge.owners import BridgeName
from flows.cluster.model import Key
from flows.plan.bridge_plan import BridgePlan
from flows.plan.pod_ports import BridgePorts, PodPorts
from flows.policy.engine import PeerChange, PolicyChanges, PolicyEngine, RuleChange
from flows.policy.tracked_sets import NetSet, PodSet, TrackedRule, has_tracked_rules

K = TypeVar("K")


class RuleDistributor:
    """`plans` are those that there are. `fail` is called with a bridge whose plan raised; it takes the plan away, and
    calls `scour`."""

    def __init__(
        self, plans: Mapping[BridgeName, BridgePlan], places: PodPorts, fail: Callable[[BridgeName, Exception], None]
    ) -> None:
        self._plans = plans
        self._pod_ports = places
        self._fail = fail
        self._where: dict[PodSet, tuple[BridgeName, ...]] = {}  # the bridges that have ports of a set of subjects
        self._using: dict[NetSet, tuple[BridgeName, ...]] = {}  # the bridges that have rules with a set of peers

    def watch(self, name: BridgeName, peers: NetSet, used: bool) -> None:
        """A bridge has rules with these peers from now on, or no more."""
        if used:
            _add(self._using, peers, name)
        else:
            _strike(self._using, peers, name)

    def drop(self, name: BridgeName, plan: BridgePlan) -> None:
        """A bridge's plan is given up as it is."""
        for subjects in plan.rules.subjects:
            _strike(self._where, subjects, name)
        for peers in plan.rules.peers:
            _strike(self._using, peers, name)

    def purge(self, name: BridgeName) -> None:
        """A bridge's plan is given up, and what it says it has cannot be believed."""
        for subjects in [one for one, bridges in self._where.items() if name in bridges]:
            _strike(self._where, subjects, name)
        for peers in [one for one, bridges in self._using.items() if name in bridges]:
            _strike(self._using, peers, name)

    def distribute(self, settled: PolicyChanges, moved: set[Key], engine: PolicyEngine) -> set[BridgeName]:
        """Tell what was settled, and of pods that moved. Returns the bridges that have anything to do with it."""
        before = self._pod_ports.take_reported()
        concerned = {name for key in moved for name, _ in self._pod_ports.of(key)}
        # Bridges hear of what their sets of peers have before they hear of rules that come or go with these.
        for turns in settled.peers:
            self._turn(turns, concerned)
        fresh = self._apply(settled.parts, engine, concerned)
        arrived: set[tuple[PodSet, Key]] = set()
        for subjects, came, went in settled.subjects:
            if subjects not in fresh and has_tracked_rules(subjects):
                arrived.update((subjects, key) for key in came if key in moved)
                self._enter(subjects, [one for key in came for one in self._pod_ports.of(key)], concerned)
                self._leave(subjects, [one for key in went for one in self._left(key, before)], concerned)
        for key in moved:
            now, then = self._pod_ports.of(key), before.get(key, ())
            for subjects in engine.subjects_of(key):
                if subjects not in fresh and (subjects, key) not in arrived and has_tracked_rules(subjects):
                    self._enter(subjects, [one for one in now if one not in then], concerned)
                    self._leave(subjects, [one for one in then if one not in now], concerned)
        return concerned

    def bridges_with(self, parts: Iterable[TrackedRule]) -> set[BridgeName]:
        """The bridges that have ports of these parts' subjects."""
        return {name for part in parts for name in self._where.get(part.subjects, ())}

    def _left(self, key: Key, before: Mapping[Key, BridgePorts]) -> BridgePorts:
        """Where a pod was when plans heard of it last."""
        found = before.get(key)
        return found if found is not None else self._pod_ports.of(key)

    def _turn(self, turns: PeerChange, concerned: set[BridgeName]) -> None:
        """Tell the bridges whose rules have these peers what came and went."""
        bridges = self._using.get(turns.peers, ())
        concerned.update(bridges)
        elements = (*turns.came, *turns.went)
        for name in bridges:
            try:
                self._plans[name].rules.turn(turns.peers, elements)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self._fail(name, error)

    def _apply(self, changes: Iterable[RuleChange], engine: PolicyEngine, concerned: set[BridgeName]) -> set[PodSet]:
        """Tell the bridges that have ports of their subjects which parts differ. Returns the subjects that no bridge
        had heard of: their ports have been told."""
        fresh: dict[PodSet, None] = {}
        bereft: dict[PodSet, None] = {}
        for old, new in changes:
            if old is not None and (new is None or old.subjects is not new.subjects):
                bereft[old.subjects] = None
                self._put(old.subjects, old.identity, None, concerned)
            if new is None:
                continue
            if new.subjects not in self._where and new.subjects not in fresh:
                fresh[new.subjects] = None
            self._put(new.subjects, new.identity, new, concerned)
        pods = engine.index.pods
        for subjects in fresh:
            places = [one for n in subjects.members for one in self._pod_ports.of(pods[n].key)]
            self._enter(subjects, places, concerned)
        for subjects in bereft:
            if not has_tracked_rules(subjects):
                self._forget(subjects)
        return set(fresh)

    def _put(self, subjects: PodSet, identity: bytes, part: TrackedRule | None, concerned: set[BridgeName]) -> None:
        for name in self._where.get(subjects, ()):
            concerned.add(name)
            try:
                rules = self._plans[name].rules
                if part is None:
                    rules.remove(identity)
                else:
                    rules.put(part)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)

    def _enter(self, subjects: PodSet, places: Iterable[tuple[BridgeName, int]], concerned: set[BridgeName]) -> None:
        for name, ofport in places:
            plan = self._plans.get(name)
            if plan is None:
                continue
            concerned.add(name)
            try:
                plan.rules.enter(subjects, ofport)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)
            else:
                _add(self._where, subjects, name)

    def _leave(self, subjects: PodSet, places: Iterable[tuple[BridgeName, int]], concerned: set[BridgeName]) -> None:
        for name, ofport in places:
            plan = self._plans.get(name)
            if plan is None:
                continue
            concerned.add(name)
            try:
                if not plan.rules.leave(subjects, ofport):
                    _strike(self._where, subjects, name)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)

    def _forget(self, subjects: PodSet) -> None:
        """There are no parts of these subjects any more."""
        for name in self._where.pop(subjects, ()):
            try:
                self._plans[name].rules.forget(subjects)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)


def _add(where: dict[K, tuple[BridgeName, ...]], one: K, name: BridgeName) -> None:
    there = where.get(one, ())
    if name not in there:
        where[one] = (*there, name)


def _strike(where: dict[K, tuple[BridgeName, ...]], one: K, name: BridgeName) -> None:
    """A bridge has no more to do with something."""
    bridges = where.get(one)
    if bridges is not None and name in bridges:
        left = tuple([other for other in bridges if other != name])
        if left:
            where[one] = left
        else:
            del where[one]
