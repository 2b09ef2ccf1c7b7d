"""The conditions that policies of the whole cluster should have in their status, read from the reconciler, and made
one where several replicas serve the switches.

Each replica answers for the switches that it serves. A policy is realized where every replica that answers has read
this generation of it and has it on its switches, and where no switch with its pods is one that nobody answers for.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

from controller.reconcile.reconciler import Reconciler
from controller.status.detail_model import ConditionsPart, PolicyPart
from controller.status.policy_views import cluster_policy_errors, cluster_policy_view, what_is_left_out
from controller.status.reference import pods_on_bridges
from controller.status.switch_views import unrealized_bridges
from flows.cluster.model import Key

NOT_READ = "the replica {} has not read it yet"


class PolicyConditions(NamedTuple):
    """Why a policy is not accepted as it is written, and where it is not realized; both "" where nothing is missing.

    `generation` is that of the object which this is said of, 0 where it has none.
    """

    problems: str = ""
    pending: str = ""
    generation: int = 0


class ConditionReader:
    """Reads them again when something that they depend on has changed."""

    def __init__(self) -> None:
        self._depends: tuple[object, ...] = ()
        self._last: dict[Key, PolicyConditions] = {}

    def read(self, reconciler: Reconciler, elsewhere: Set[str] | None = None) -> dict[Key, PolicyConditions]:
        """As `policy_conditions`; the same value as before where nothing has changed."""
        cluster = reconciler.world.cluster
        if cluster is None or not cluster.cluster_policies:
            self._depends, self._last = (), {}
            return self._last
        unserved = _unserved(reconciler, elsewhere)
        depends = cluster.cluster_policies, reconciler.revision, tuple(unrealized_bridges(reconciler)), unserved
        if not self._depends or self._depends[0] is not depends[0] or self._depends[1:] != depends[1:]:
            self._last, self._depends = policy_conditions(reconciler, elsewhere), depends
        return self._last


def policy_conditions(reconciler: Reconciler, elsewhere: Set[str] | None = None) -> dict[Key, PolicyConditions]:
    """Those of all policies of the whole cluster, for the switches of this replica.

    `elsewhere` has the datapath ids of the switches that other replicas answer for. With it, a switch that nobody
    answers for counts as not realized.
    """
    policies = reconciler.world.cluster.cluster_policies if reconciler.world.cluster else {}
    bridges = [*unrealized_bridges(reconciler), *_unserved(reconciler, elsewhere)] if policies else []
    unrealized = pods_on_bridges(reconciler, bridges)
    left_out = what_is_left_out(reconciler)
    found = {}
    for key, policy in policies.items():
        errors = cluster_policy_errors(reconciler, policy)
        view = cluster_policy_view(reconciler, policy, unrealized, left_out)
        pending = "" if errors or view.realized else view.reason
        found[key] = PolicyConditions("; ".join(errors), pending, policy.generation)
    return found


def _unserved(reconciler: Reconciler, elsewhere: Set[str] | None) -> tuple[tuple[str, str], ...]:
    """The bridges that neither this replica nor, by `elsewhere`, another one answers for."""
    if elsewhere is None:
        return ()
    bridges = reconciler.world.bridges.items()
    return tuple(n for n, one in bridges if not reconciler.roles.owns(n) and f"{one.dpid or 0:016x}" not in elsewhere)


def conditions_part(reconciler: Reconciler, replica: str) -> ConditionsPart:
    """What this replica says to the one that writes the conditions."""
    bridges = reconciler.world.bridges.items()
    served = sorted(f"{one.dpid:016x}" for name, one in bridges if one.dpid and reconciler.roles.serves(name))
    own = policy_conditions(reconciler).items()
    return ConditionsPart(replica, tuple(served), {k.name: PolicyPart(c.generation, c.pending) for k, c in own})


def agreed_conditions(
    own: Mapping[Key, PolicyConditions], others: Mapping[str, ConditionsPart]
) -> dict[Key, PolicyConditions]:
    """`own`, each realized only where it is for all who answered. `others` by the replicas' names."""
    return {key: one._replace(pending=_pending(key, one, others)) for key, one in own.items()}


def _pending(key: Key, own: PolicyConditions, others: Mapping[str, ConditionsPart]) -> str:
    if own.problems:
        return ""
    reasons = [own.pending] if own.pending else []
    for name, part in sorted(others.items()):
        said = part.policies.get(key.name)
        if said is None or said.generation != own.generation:
            reasons.append(NOT_READ.format(name))
        elif said.pending:
            reasons.append(said.pending)
    return "; ".join(dict.fromkeys(reasons))
