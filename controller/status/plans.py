"""From a cluster and changes of it to the answer of `headgate plan`. Nothing is read or printed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from controller.base.printable import printable
from controller.reconcile.problem import Problem
from controller.status.detail_model import PolicyDetail
from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.bridge.state import BridgeState
from flows.cluster.applied import ObjectValue, applied
from flows.cluster.foretold import POD_RANGES, Foretold
from flows.cluster.model import Cluster, Policy
from flows.plan.what_if import flow_changes
from flows.policy.rule import policy_rules
from flows.reach.changes import affected_pods, differing_objects, object_changes, reach_changes
from flows.reach.model import ObjectChange, PlanView, RuleTraffic, SwitchChange

MAX_TRAFFIC_POLICIES = 20  # of a change whose counters are read
_ONLY_POLICIES = frozenset({"NetworkPolicy"})


@dataclass(frozen=True, slots=True)
class Present:
    """What is now: the cluster, and its bridges and network where a controller was asked. Without `bridges`, each node
    is taken to have one. `policy` gives the details of a policy with counters, or raises LookupError with why not."""

    cluster: Cluster
    bridges: Sequence[BridgeState] | None = None
    network: NetworkOptions = FLAT_NETWORK
    policy: Callable[[str], PolicyDetail] | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """Objects that are applied, and that are deleted, and what is wrong with their manifests."""

    put: tuple[ObjectValue, ...] = ()
    deleted: tuple[ObjectValue, ...] = ()
    problems: tuple[Problem, ...] = field(default=())


def plan_view(present: Present, changes: Changes) -> PlanView:
    """What applying some objects, and deleting others, would do."""
    return plan_and_cluster(present, changes)[0]


def plan_and_cluster(present: Present, changes: Changes) -> tuple[PlanView, Cluster]:
    """The same, with the cluster as it would be."""
    before = present.cluster
    families = {address.version for pod in before.pods.values() for address in pod.addresses} or {4}
    ranges = [one for one in POD_RANGES if one.version in families]
    after, made = applied(before, changes.put, changes.deleted, ranges)
    differing = differing_objects(before, after)
    objects = object_changes(before, after, differing)
    nodes = None
    if {one.kind for one in objects} <= _ONLY_POLICIES:
        affected = affected_pods(before, after, differing)
        nodes = {pod.node for pod in before.pods.values() if pod.key in affected}
    flows = flow_changes(before, after, present.bridges, present.network, nodes)
    traffic, notes = _traffic(present, after, objects)
    problems = [
        ": ".join(filter(None, (printable(one.where), one.key, one.field, one.reason))) for one in changes.problems
    ]
    view = PlanView(
        objects,
        reach_changes(before, after, differing),
        tuple(SwitchChange(*one) for one in flows),
        traffic,
        (*problems, *_made_up(made), *notes),
    )
    return view, after


def _made_up(made: Foretold) -> list[str]:
    found = []
    if made.made:
        found.append(
            f"{made.made} pods stand for workloads that come; they have no node, so no switch has flows for them"
        )
    if made.addressed:
        found.append(f"{made.addressed} addresses of pods that come were made up")
    return found


def _traffic(
    present: Present, after: Cluster, objects: Iterable[ObjectChange]
) -> tuple[tuple[RuleTraffic, ...], list[str]]:
    """The rules that go, with the packets that they counted; and why some are not known."""
    names = {one.name for one in objects if one.kind == "NetworkPolicy" and one.action != "added"}
    changed = [policy for key, policy in present.cluster.policies.items() if str(key) in names]
    if present.policy is None:
        return (), []
    found: list[RuleTraffic] = []
    notes: list[str] = []
    if len(changed) > MAX_TRAFFIC_POLICIES:
        notes.append(f"counters were read of the first {MAX_TRAFFIC_POLICIES} of {len(changed)} changed policies")
    for policy in changed[:MAX_TRAFFIC_POLICIES]:
        gone = _rules_that_go(policy, after.policies.get(policy.key))
        if not gone:
            continue
        try:
            detail = present.policy(str(policy.key))
        except LookupError as error:
            notes.append(f"counters of {policy.key}: {error}")
            continue
        for rule in detail.rules:
            found += [RuleTraffic(str(policy.key), one, rule.packets or 0) for one in rule.rules if one in gone]
    return tuple(sorted(found, key=lambda one: (-one.packets, one.rule))), notes


def _rules_that_go(old: Policy, new: Policy | None) -> set[str]:
    """The places of rules that say what no rule of the new version says."""
    kept = {key for key, _ in policy_rules(new)} if new is not None else set()
    return {str(ref) for key, ref in policy_rules(old) if key not in kept}
