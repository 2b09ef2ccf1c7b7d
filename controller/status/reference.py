"""All views of a status, computed from nothing. Tests hold `incremental` equal to it.

Must not live here: anything kept between two calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from controller.reconcile.name_problems import name_problems
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.service_problems import service_problems
from controller.status.model import NodeView, PodView, PolicyView, ProblemView, SwitchView
from controller.status.node_views import bridges_by_node, node_view
from controller.status.pod_views import pods_on, pods_without_port
from controller.status.policy_views import cluster_policy_view, policy_view, what_is_left_out
from controller.status.problem_views import flush_problems, foreign_flow_problems, unknown_switches
from controller.status.switch_views import ports_of, switch_view, unrealized_bridges
from flows.bridge.claim_contest import BridgeName
from flows.cluster.model import Key


def switch_views(reconciler: Reconciler, now: float) -> tuple[SwitchView, ...]:
    """Every bridge of ours, by node and name."""
    world = reconciler.world
    views = [
        switch_view(reconciler, name, ports_of(world.bridges[name], world.binding(name)), now) for name in world.bridges
    ]
    return tuple(sorted(views, key=lambda view: (view.node, view.bridge)))


def node_views(reconciler: Reconciler) -> tuple[NodeView, ...]:
    """Every node of a network in which switches route, by name."""
    world = reconciler.world
    bridges = bridges_by_node(world.bridges.items())
    return tuple(node_view(reconciler, node, bridges.get(node.name, ())) for node in world.network.routed_nodes())


def pod_views(reconciler: Reconciler) -> tuple[PodView, ...]:
    """Every pod with a port, and every pod without one whose node has a bridge, by name."""
    cluster = reconciler.world.cluster
    if cluster is None:
        return ()
    found: dict[Key, PodView] = {}
    for name in reconciler.world.bridges:
        pod_bindings = reconciler.world.binding(name).binding.pods
        found.update(pods_on(reconciler, name, pod_bindings))
    nodes = {bridge.node for bridge in reconciler.world.bridges.values()}
    found.update(pods_without_port(cluster, nodes, found, cluster.pods))
    return tuple(found[key] for key in sorted(found))


def policy_views(reconciler: Reconciler) -> tuple[PolicyView, ...]:
    """Every policy by name, with the reason where it is not wholly realized."""
    cluster = reconciler.world.cluster
    if cluster is None:
        return ()
    unrealized, left_out = pods_on_unrealized_bridges(reconciler), what_is_left_out(reconciler)
    found = [policy_view(reconciler, cluster.policies[key], unrealized, left_out) for key in sorted(cluster.policies)]
    of_cluster = sorted(cluster.cluster_policies.values(), key=lambda one: one.key)
    return (*found, *(cluster_policy_view(reconciler, one, unrealized, left_out) for one in of_cluster))


def pods_on_unrealized_bridges(reconciler: Reconciler) -> dict[int, str]:
    """The pods on bridges that do not have all desired flows yet, by number, and the node of each."""
    return pods_on_bridges(reconciler, unrealized_bridges(reconciler))


def pods_on_bridges(reconciler: Reconciler, names: Iterable[BridgeName]) -> dict[int, str]:
    """The pods on these bridges, by number, and the node of each."""
    number = reconciler.world.pod_numbers
    found: dict[int, str] = {}
    for name in names:
        node = reconciler.world.bridges[name].node
        pods = (number.get(a.pod) for a in reconciler.world.binding(name).binding.pods)
        found.update((n, node) for n in pods if n is not None)
    return found


def problem_views(reconciler: Reconciler) -> tuple[ProblemView, ...]:
    """The problems of the sources, what is left out because handling it failed, what of Services and of domain
    names has no effect, unknown switches and foreign flows."""
    found = chain(
        reconciler.problems,
        reconciler.contained_problems(),
        service_problems(reconciler.world),
        name_problems(reconciler.world, reconciler.held_answers.full),
        reconciler.missing_bridges(),
    )
    return (
        *(ProblemView(p.where, p.key, p.field, p.reason) for p in found),
        *unknown_switches(reconciler),
        *foreign_flow_problems(reconciler),
        *flush_problems(reconciler),
    )
