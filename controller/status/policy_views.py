"""One policy as `/status` shows it, and why it is not wholly realized, read from the reconciler."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from typing import NamedTuple

from controller.reconcile.reconciler import Reconciler
from controller.status.model import PolicyView
from flows.bridge.claim_contest import BridgeName
from flows.cluster.model import ClusterPolicy, Direction, Key, Policy
from flows.cluster.staging import mode_of

MAX_NODES_NAMED = 10  # nodes named in a reason


def direction_words(found: frozenset[Direction]) -> tuple[str, ...]:
    """The directions as the status has them: "egress", "ingress"."""
    return tuple(sorted(direction.value for direction in found))


class LeftOut(NamedTuple):
    """The bridges that leave out rules, by namespace, or close those of ClusterNetworkPolicies, and those that count
    nothing for staged policies."""

    namespaces: Mapping[str, Set[BridgeName]]
    closed: Mapping[Key, Set[BridgeName]]
    staged: frozenset[BridgeName]


def what_is_left_out(reconciler: Reconciler) -> LeftOut:
    """What bridges leave out now. Costs one pass over the bridges."""
    world = reconciler.world
    return LeftOut(world.left_out(), world.closed_policies(), world.staged_left_out())


def policy_view(reconciler: Reconciler, policy: Policy, unrealized: Mapping[int, str], left_out: LeftOut) -> PolicyView:
    """One policy.

    `unrealized` holds the pods on bridges that do not have all desired flows yet, by number, and the node of each.
    """
    members = reconciler.world.selected_pods(policy.key.namespace, policy.subjects)
    reasons = [*policy.errors, *left_out_reasons(reconciler, policy.key, left_out.namespaces)]
    reasons += [f"not yet realized on {node}" for node in _unrealized_nodes(members, unrealized)]
    notes = reconciler.world.notes_on_policy(policy)
    isolates = direction_words(policy.isolates)
    if policy.staged is not None:
        notes = (_staged_note(policy), *_not_counted(reconciler, policy, left_out.staged), *notes)
    return PolicyView(
        str(policy.key), not reasons, "; ".join(reasons), isolates, len(members), notes, mode=mode_of(policy)
    )


def _not_counted(reconciler: Reconciler, policy: Policy, bridges: frozenset[BridgeName]) -> list[str]:
    """Where nothing is counted for a staged policy."""
    if not bridges:
        return []
    places = {name for pod in reconciler.world.subjects_of_policy(policy.key) for name, _ in
              reconciler.world.ports_of(pod.key)}  # fmt: skip
    nodes = _first_nodes({reconciler.world.bridges[name].node or name[0] for name in places & bridges})
    return [f"too many flows: what it would change is not counted on {', '.join(nodes)}"] if nodes else []


def _staged_note(policy: Policy) -> str:
    """What a staged policy is to become."""
    will = " and ".join(direction_words(policy.promoted.isolates))
    if policy.isolates:
        return "staged for deletion: in force until it is deleted"
    return f"staged: not in force; once promoted it isolates {f'for {will}' if will else 'nothing'}"


def cluster_policy_view(
    reconciler: Reconciler, policy: ClusterPolicy, unrealized: Mapping[int, str], left_out: LeftOut
) -> PolicyView:
    """One ClusterNetworkPolicy; parameters as in `policy_view`."""
    world = reconciler.world
    members, placed = world.engine.subject_pods(policy.subject), world.placed(policy.key)
    reasons = [*cluster_policy_errors(reconciler, policy), *closed_reasons(reconciler, policy.key, left_out.closed)]
    reasons += [f"not yet realized on {node}" for node in _unrealized_nodes(members, unrealized)]
    notes = [] if members else ["selects no pod"]
    if placed.tied:
        names, more = ", ".join(placed.tied), placed.tied_count - len(placed.tied)
        names += f" and {more} more" if more > 0 else ""
        notes.append(f"has the same priority as {names}, whose rules come first where both select a pod")
    directions = direction_words(frozenset([one for one in Direction if policy.rules(one)]))
    return PolicyView(
        str(policy.key), not reasons, "; ".join(reasons), directions, len(members), tuple(notes), policy.tier.value,
        policy.priority,
    )  # fmt: skip


def cluster_policy_errors(reconciler: Reconciler, policy: ClusterPolicy) -> list[str]:
    """What of a ClusterNetworkPolicy cannot be in force as it is written."""
    placed = reconciler.world.placed(policy.key)
    return [*policy.errors, *([placed.error] if placed.error else [])]


def closed_reasons(reconciler: Reconciler, key: Key, closed: Mapping[Key, Set[BridgeName]]) -> list[str]:
    """The reason where bridges have no room for rules of a ClusterNetworkPolicy."""
    found = closed.get(key)
    if not found:
        return []
    where = ", ".join(_first_nodes({reconciler.world.bridges[name].node or name[0] for name in found}))
    return [f"too many flows of tiers on {where}: its pods there are denied all from its first rule without room on"]


def left_out_reasons(reconciler: Reconciler, key: Key, left_out: Mapping[str, Set[BridgeName]]) -> list[str]:
    """The reason where bridges leave out rules of the policy, because its namespace needs too many flows."""
    bridges = left_out.get(key.namespace)
    found = reconciler.world.bridges_with_subjects_of(key) & bridges if bridges else ()
    if not found:
        return []
    where = ", ".join(_first_nodes({reconciler.world.bridges[name].node or name[0] for name in found}))
    return [f"its namespace needs too many flows on {where}: some of its rules are left out there"]


def _unrealized_nodes(members: Collection[int], unrealized: Mapping[int, str]) -> list[str]:
    """The nodes of those of the pods that are on unrealized bridges, the first few by name."""
    if not unrealized:
        return []
    smaller, larger = (unrealized, members) if len(unrealized) < len(members) else (members, unrealized)
    return _first_nodes({unrealized[number] for number in smaller if number in larger})


def _first_nodes(found: Set[str]) -> list[str]:
    """The first nodes by name, and how many more there are."""
    nodes = sorted(found)
    more = [f"{len(nodes) - MAX_NODES_NAMED} more nodes"] if len(nodes) > MAX_NODES_NAMED else []
    return nodes[:MAX_NODES_NAMED] + more
