"""Why domain names in policies open nothing, as problems: a switch that holds no answers, and no server that counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.reconcile.problem import Problem
from flows.cluster.model import Key
from flows.plan.world_state import WorldState

NO_METERS = "the switch has no meters, so domain names in ClusterNetworkPolicies open nothing here"
NO_ROOM = "addresses that DNS answers gave it are not opened"
MAX_NAMED = 3  # pods that a problem names
NO_SERVER = (
    "there is no such Service, and no --dns-server: domain names in ClusterNetworkPolicies open nothing; say with "
    "--dns-service or --dns-server whose answers count"
)


def name_problems(world: WorldState, full: Mapping[Key, str]) -> Iterator[Problem]:
    """Bridges that hold no answers, though some rule with names selects a pod there; the lack of servers; and the pods
    whose addresses found no room lately, by the reason."""
    named = [name for name in world.bridges if (plan := world.plan_of(name)) is not None and plan.has_names]
    for name in named:
        plan = world.plan_of(name)
        if plan is not None and plan.dns_servers is None:
            yield Problem(f"bridge {name[1]} at {name[0]}", "", "", NO_METERS)
    if named and not world.dns_servers:
        yield Problem("the controller", f"Service {world.network_options.dns_service}", "", NO_SERVER)
    by_reason: dict[str, list[Key]] = {}
    for pod, why in full.items():
        by_reason.setdefault(why, []).append(pod)
    for why, pods in by_reason.items():
        shown = ", ".join([f"{pod.namespace}/{pod.name}" for pod in sorted(pods)[:MAX_NAMED]])
        more = f" and {len(pods) - MAX_NAMED} more" if len(pods) > MAX_NAMED else ""
        yield Problem("the controller", f"Pod {shown}{more}", "", f"{NO_ROOM}: {why}")
