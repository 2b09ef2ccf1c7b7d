"""Measures reachability: the matrix of pods and of workloads, and the plan of one policy in world A.

Objects are parsed before; what is measured is from a snapshot to the answer, as a command does it.
"""

from __future__ import annotations

import gc
from dataclasses import replace

from bench.compile_cost import parsed
from bench.result import Result, cpu
from bench.worlds import world
from flows.cluster.model import Cluster, Pod, PortSpec, Protocol, Rule
from flows.plan.what_if import flow_changes
from flows.reach.answer import matrix_view
from flows.reach.changes import affected_pods, reach_changes
from flows.reach.matrix import Level

PODS, WORKLOAD_PODS = 2_000, 20_000
WORLD_PODS = {"B": 100_000, "E": 100_000, "F": 50_000}  # at full size
BARS = {Level.POD: 2.0, Level.WORKLOAD: 10.0}


def measure_matrix(scale: float) -> list[Result]:
    """2,000 pods by pod, and 20,000 by workload, in worlds with few and many kinds of rules."""
    gc.disable()
    found = []
    for level, pods in ((Level.POD, PODS), (Level.WORKLOAD, WORKLOAD_PODS)):
        for name, full in WORLD_PODS.items():
            cluster = _with_workloads(parsed(world(name, scale * pods / full)))
            view, seconds, wall = cpu(lambda cluster=cluster, level=level: matrix_view(cluster, level))  # type: ignore[misc]
            more: dict[str, float | str] = {
                "pods": len(cluster.pods), "groups": len(view.groups), "blocks": len(view.blocks), "wall s": wall,
            }  # fmt: skip
            title = f"matrix of {pods:,} pods by {level}, world {name}"
            found.append(Result(title, seconds, "s CPU", BARS[level], more=more))
    return found


def _with_workloads(cluster: Cluster) -> Cluster:
    """Pods of a namespace with the same first label are one workload."""
    pods = {key: pod._replace(workload=f"Deployment/{_first(pod)}") for key, pod in cluster.pods.items()}
    return replace(cluster, pods=pods)


def _first(pod: Pod) -> str:
    return min(pod.labels.values(), default="none")


def measure_plan(scale: float) -> list[Result]:
    """One policy of world A gets another rule: connections that change, and flows of the switches that it is on."""
    gc.disable()
    before = parsed(world("A", scale))
    key = sorted(before.policies)[len(before.policies) // 2]
    policy = before.policies[key]
    wider = policy._replace(ingress=(*policy.ingress, Rule((), (PortSpec(Protocol.TCP, 80),))))
    after = replace(before, policies={**before.policies, key: wider})
    changes, seconds, wall = cpu(lambda: reach_changes(before, after))
    nodes = {before.pods[one].node for one in affected_pods(before, after)}
    switches, more_seconds, more_wall = cpu(lambda: flow_changes(before, after, nodes=nodes))
    return [
        Result("plan of one policy in world A: connections", seconds, "s CPU", 1.0,
               more={"changes": len(changes), "pods": len(before.pods), "wall s": wall}),
        Result("plan of one policy in world A: flows", more_seconds, "s CPU", 1.0,
               more={"switches": len(switches), "wall s": more_wall}),
    ]  # fmt: skip
