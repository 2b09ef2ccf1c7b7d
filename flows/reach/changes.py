"""What a change of the cluster changes in reachability, exactly, and at the cost of what it touches.

Theory of operation. Only connections with an end at an affected pod can change: a pod that changed, or one that a
changed policy selects. Both snapshots share one numbering (`Ends`), so the rows and columns of the affected ends are
compared as sets. Where only NetworkPolicies change, and these in one direction, the others are not looked at. Ends that
change in the same way are one change, in words (`names`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from flows.cluster.model import Cluster, ClusterPolicy, Direction, Key, Namespace, Node, NodePeer, Pod, Policy
from flows.cluster.objects import ObjectRef, changed_objects, objects_of_kind
from flows.cluster.selectors import matches
from flows.reach.bits import bits_of, numbers_of
from flows.reach.decision import Decision
from flows.reach.ends import Ends
from flows.reach.model import ObjectChange, ReachChange, ports_view
from flows.reach.names import EndNames
from flows.reach.ports import NOTHING, Ports
from flows.reach.regions import Region

Difference = tuple[Ports, Ports]  # the ports before, and after
POLICY_KINDS = ("Namespace", "Pod", "Node", "NetworkPolicy", "ClusterNetworkPolicy")


def differing_objects(before: Cluster, after: Cluster) -> list[ObjectRef]:
    """The objects that policy depends on and that differ."""
    return [
        (kind, key)
        for kind, key in changed_objects(before, after)
        if kind in POLICY_KINDS and objects_of_kind(before, kind).get(key) != objects_of_kind(after, kind).get(key)
    ]


def object_changes(
    before: Cluster, after: Cluster, differing: Collection[ObjectRef] | None = None
) -> tuple[ObjectChange, ...]:
    """The objects that policy depends on and that differ, and how. `differing` are they, where somebody knows; so it is
    with the other functions here."""
    found = []
    for kind, key in differing_objects(before, after) if differing is None else differing:
        old, new = (objects_of_kind(one, kind).get(key) for one in (before, after))
        action = "added" if old is None else "removed" if new is None else "changed"
        found.append(ObjectChange(action, kind, str(key)))
    return tuple(sorted(found, key=lambda one: (one.kind, one.name)))


def reach_changes(
    before: Cluster, after: Cluster, differing: Collection[ObjectRef] | None = None
) -> tuple[ReachChange, ...]:
    """Every connection that comes, goes or differs in its ports."""
    if differing is None:
        differing = differing_objects(before, after)
    affected = affected_pods(before, after, differing)
    if not affected:
        return ()
    ends = Ends([before, after])
    decisions = _decisions(before, after, ends, affected, differing)
    directions = _directions(before, after, differing)
    names = EndNames(ends)
    touched = ends.of_pods(affected)
    sets: dict[tuple[Difference, str], dict[int, int]] = {}
    for direction in directions:
        for numbers in _alike(decisions, touched, direction):
            old, new = (one.region(numbers[0], direction) for one in decisions)
            near = bits_of(numbers, ends.size)
            for difference, far in differences(old, new):
                if direction is Direction.INGRESS and Direction.EGRESS in directions:
                    far &= ~touched  # pairs of two affected ends are in the rows
                far = names.without_itself(near, far)
                if far:
                    merged = sets.setdefault((difference, direction), {})
                    merged[far] = merged.get(far, 0) | near
    return _in_words(sets, names)


def _decisions(
    before: Cluster, after: Cluster, ends: Ends, affected: set[Key], differing: Collection[ObjectRef]
) -> tuple[Decision, Decision]:
    """The decisions about both snapshots, which have most of the work in common where only policies differ."""
    about = {key.namespace for key in affected}
    first = Decision(before, ends, about)
    policies = _only_policies(before, after, differing)
    if policies:
        return first, first.with_policies(after, policies, affected, about)
    return first, Decision(after, ends, about)


def _only_policies(before: Cluster, after: Cluster, differing: Collection[ObjectRef]) -> list[Key]:
    """The NetworkPolicies that differ, if nothing else does."""
    policies = [key for kind, key in differing if kind == "NetworkPolicy" and isinstance(key, Key)]
    return policies if before.pods is after.pods and len(policies) == len(differing) else []


def _directions(before: Cluster, after: Cluster, differing: Collection[ObjectRef]) -> tuple[Direction, ...]:
    """The directions of the affected ends in which something can differ: both, or that of the policies that do."""
    policies = _only_policies(before, after, differing)
    if not policies:
        return tuple(Direction)
    return tuple(one for one in Direction if any(_says(before, key, one) != _says(after, key, one) for key in policies))


def _says(cluster: Cluster, key: Key, direction: Direction) -> object:
    """What a NetworkPolicy says in one direction; None if nothing."""
    policy = cluster.policies.get(key)
    if policy is None or direction not in policy.isolates:
        return None
    return policy.subjects, policy.rules(direction)


def affected_pods(before: Cluster, after: Cluster, differing: Collection[ObjectRef] | None = None) -> set[Key]:
    """The pods whose connections may differ."""
    found: set[Key] = set()
    for kind, key in differing_objects(before, after) if differing is None else differing:
        old, new = (objects_of_kind(one, kind).get(key) for one in (before, after))
        found.update(_affected(before, old))
        both = isinstance(old, Policy) and isinstance(new, Policy) and old.subjects == new.subjects
        if not (both and before.pods is after.pods):  # else it selects the same
            found.update(_affected(after, new))
    return found


def differences(before: Region, after: Region) -> Iterator[tuple[Difference, int]]:
    """The ends that differ between two regions, by their ports before and after."""
    reached_before, reached_after = _all(before), _all(after)
    for old, bits in (*before.items(), (NOTHING, reached_after & ~reached_before)):
        for new, more in (*after.items(), (NOTHING, reached_before & ~reached_after)):
            if old != new and (both := bits & more):
                yield (old, new), both


def _all(region: Region) -> int:
    found = 0
    for bits in region.values():
        found |= bits
    return found


def _affected(cluster: Cluster, value: object) -> Iterator[Key]:
    """The pods of one snapshot that an object has to do with: as itself, as subjects, or by their node or namespace."""
    pods: Iterable[Pod] = cluster.pods.values()
    if isinstance(value, Pod):
        yield value.key
        # Pods that claim the same address decide together what it is.
        yield from (pod.key for pod in pods if not set(pod.addresses).isdisjoint(value.addresses))
    elif isinstance(value, Namespace):
        yield from (pod.key for pod in pods if pod.key.namespace == value.name)
    elif isinstance(value, Node):
        yield from (pod.key for pod in pods if pod.node == value.name)
        for policy in cluster.cluster_policies.values():
            if any(isinstance(peer, NodePeer) for rule in (*policy.ingress, *policy.egress) for peer in rule.peers):
                yield from _affected(cluster, policy)
    elif isinstance(value, Policy):
        space = value.key.namespace
        yield from [key for key, pod in cluster.pods.items() if key[0] == space and matches(value.subjects, pod.labels)]
    elif isinstance(value, ClusterPolicy):
        for pod in pods:
            labels = cluster.namespace_labels(pod.key.namespace)
            if matches(value.subject.pods, pod.labels) and matches(value.subject.namespaces, labels):
                yield pod.key


def _alike(decisions: tuple[Decision, Decision], touched: int, direction: Direction) -> Iterator[list[int]]:
    """The affected ends, those together that depend on the same before and after."""
    found: dict[object, list[int]] = {}
    for number in numbers_of(touched):
        keys = tuple(one.key(number, direction) for one in decisions)
        found.setdefault(keys, []).append(number)
    yield from found.values()


def _in_words(sets: dict[tuple[Difference, str], dict[int, int]], names: EndNames) -> tuple[ReachChange, ...]:
    """The changes with names: sources that share their destinations together, and the other way about."""
    found: dict[tuple[Difference, tuple[str, ...], tuple[str, ...]], None] = {}
    for (difference, direction), merged in sets.items():
        by_near: dict[int, int] = {}
        for far, near in merged.items():
            by_near[near] = by_near.get(near, 0) | far
        for near, far in by_near.items():
            sources, destinations = (near, far) if direction == Direction.EGRESS else (far, near)
            found[difference, names.of(sources), names.of(destinations)] = None
    changes = [_change(difference, sources, destinations) for difference, sources, destinations in found]
    return tuple(sorted(changes, key=lambda one: (one.kind, one.sources, one.destinations, one.after.text)))


def _change(difference: Difference, sources: tuple[str, ...], destinations: tuple[str, ...]) -> ReachChange:
    before, after = difference
    kind = "added" if before == NOTHING else "removed" if after == NOTHING else "changed"
    return ReachChange(kind, sources, destinations, ports_view(before), ports_view(after))
