"""The conditions that policies of the whole cluster should have in their status, read from the reconciler."""

from __future__ import annotations

from typing import NamedTuple

from controller.reconcile.reconciler import Reconciler
from controller.status.policy_views import cluster_policy_errors, cluster_policy_view
from controller.status.reference import pods_on_unrealized_bridges
from controller.status.switch_views import unrealized_bridges
from flows.cluster.model import Key


class PolicyConditions(NamedTuple):
    """Why a policy is not accepted as it is written, and where it is not realized; both "" where nothing is missing."""

    problems: str = ""
    pending: str = ""


class ConditionReader:
    """Reads them again when something that they depend on has changed."""

    def __init__(self) -> None:
        self._depends: tuple[object, ...] = ()
        self._last: dict[Key, PolicyConditions] = {}

    def read(self, reconciler: Reconciler) -> dict[Key, PolicyConditions]:
        """As `policy_conditions`; the same value as before where nothing has changed."""
        cluster = reconciler.world.cluster
        if cluster is None or not cluster.cluster_policies:
            self._depends, self._last = (), {}
            return self._last
        depends = cluster.cluster_policies, reconciler.revision, tuple(unrealized_bridges(reconciler))
        if not self._depends or self._depends[0] is not depends[0] or self._depends[1:] != depends[1:]:
            self._last, self._depends = policy_conditions(reconciler), depends
        return self._last


def policy_conditions(reconciler: Reconciler) -> dict[Key, PolicyConditions]:
    """Those of all policies of the whole cluster."""
    policies = reconciler.world.cluster.cluster_policies if reconciler.world.cluster else {}
    unrealized = pods_on_unrealized_bridges(reconciler) if policies else {}
    found = {}
    for key, policy in policies.items():
        errors = cluster_policy_errors(reconciler, policy)
        view = cluster_policy_view(reconciler, policy, unrealized)
        found[key] = PolicyConditions("; ".join(errors), "" if errors or view.realized else view.reason)
    return found
