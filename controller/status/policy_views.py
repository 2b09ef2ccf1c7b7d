"""One policy as `/status` shows it, and why it is not wholly realized, read from the reconciler."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set

from controller.reconcile.reconciler import Reconciler
from controller.status.model import PolicyView
from flows.bridge.claim_contest import BridgeName
from flows.cluster.model import Direction, Key, Policy

MAX_NODES_NAMED = 10  # named as those that hold up a policy


def direction_words(found: frozenset[Direction]) -> tuple[str, ...]:
    """The directions as the status has them: "egress", "ingress"."""
    return tuple(sorted(direction.value for direction in found))


def policy_view(
    core: Reconciler, policy: Policy, behind: Mapping[int, str], out: Mapping[str, Set[BridgeName]]
) -> PolicyView:
    """One policy; `behind` is what `pods_behind` says, `out` what the world says it leaves out."""
    members = core.world.selected_pods(policy.key.namespace, policy.subjects)
    reasons = [*policy.errors, *left_out_reasons(core, policy.key, out)]
    reasons += [f"not yet in force on {node}" for node in _waiting_for(members, behind)]
    notes = core.world.notes_on_policy(policy)
    isolates = direction_words(policy.isolates)
    return PolicyView(str(policy.key), not reasons, "; ".join(reasons), isolates, len(members), notes)


def left_out_reasons(core: Reconciler, key: Key, out: Mapping[str, Set[BridgeName]]) -> list[str]:
    """Where a policy's rules may be left out, because its namespace asks for too much."""
    there = out.get(key.namespace)
    found = core.world.bridges_with_subjects_of(key) & there if there else ()
    if not found:
        return []
    nodes = sorted({core.world.bridges[name].node or name[0] for name in found})
    more = [f"{len(nodes) - MAX_NODES_NAMED} more nodes"] if len(nodes) > MAX_NODES_NAMED else []
    where = ", ".join(nodes[:MAX_NODES_NAMED] + more)
    return [f"its namespace's rules are too many flows on {where}: some allow nothing there"]


def _waiting_for(members: Collection[int], behind: Mapping[int, str]) -> list[str]:
    """The nodes that hold up a policy for these pods, the first few by name; whichever set is smaller is gone
    through."""
    if not behind:
        return []
    both = (n for n in behind if n in members) if len(behind) < len(members) else (n for n in members if n in behind)
    nodes = sorted({behind[n] for n in both})
    more = [f"{len(nodes) - MAX_NODES_NAMED} more nodes"] if len(nodes) > MAX_NODES_NAMED else []
    return nodes[:MAX_NODES_NAMED] + more
