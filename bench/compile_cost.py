"""Measures API objects → rules of every node: time and memory, world by world.

Each world runs in a process of its own, since memory is the peak of a process. Objects are removed from their list one
by one, as a source does that reads a stream; those not parsed yet count as memory.
"""

from __future__ import annotations

import gc
import json
from typing import Any

from bench.result import Result, cpu, memory, most_memory
from bench.worlds import world
from flows.cluster.model import CLUSTER_NETWORK_POLICY, Cluster
from flows.parse.objects import parse_object
from flows.policy.engine import PolicyEngine
from flows.policy.policy_changes import PolicyChanges
from flows.policy.tracked_sets import TrackedRule

# By world: the bar in seconds and megabytes, then the reach.
BARS = {"A": (4.0, 1200, 2.5, 700), "B": (2.6, 1000, 1.0, 1000), "C": (2.8, 900, 0.5, 900), "D": (4.0, None, 1.0, None)}
# By world: the same of the best comparable product, in Go, which makes no flows: seconds on a similar machine, MB.
PEER_FIGURES = {"A": (6.6, 2000), "B": (2.6, 1000), "C": (2.8, 900), "D": (15.7, None)}
KINDS_READ = ("Namespace", "Pod", "Node", "NetworkPolicy", CLUSTER_NETWORK_POLICY)
NodeRules = dict[str, list[TrackedRule]]


def parsed(objects: list[dict[str, Any]]) -> Cluster:
    """The cluster of API objects; `objects` is empty afterwards."""
    found: dict[str, dict[Any, Any]] = {kind: {} for kind in KINDS_READ}
    objects.reverse()
    while objects:
        one = parse_object(objects.pop())
        if one is not None:
            found[one.kind][one.name] = one.value
    namespaces, pods, nodes, policies, cluster_policies = found.values()
    return Cluster(namespaces, pods, nodes, policies, cluster_policies=cluster_policies)


def compiled(cluster: Cluster) -> tuple[PolicyEngine, PolicyChanges, NodeRules]:
    """The engine, what it says at first, and the rules by node."""
    engine = PolicyEngine()
    engine.load(cluster)
    settled = engine.compute_changes()
    nodes = NodeRules()
    for change in settled.rules:
        if change.new is not None:
            for node in {pod.node for pod in engine.pods_with(change.new.subjects.members)}:
                nodes.setdefault(node, []).append(change.new)
    return engine, settled, nodes


def measure(name: str, scale: float) -> list[Result]:
    """Time and memory of one world."""
    empty = memory()
    objects = world(name, scale)
    count = len(objects)
    gc.collect()
    gc.freeze()
    raw = memory() - empty
    gc.disable()  # as `headgate run` does while it reads a large source
    size = sum(len(json.dumps(one)) for one in objects[:: max(1, count // 1000)]) / len(
        objects[:: max(1, count // 1000)]
    )
    cluster, parsing, parsing_wall = cpu(lambda: parsed(objects))
    (_engine, settled, nodes), compiling, wall = cpu(lambda: compiled(cluster))
    seconds, megabytes, reach, reach_megabytes = BARS.get(name, (None, None, None, None)) if scale == 1 else (None,) * 4
    peer = PEER_FIGURES.get(name, (None, None)) if scale == 1 else (None, None)
    more: dict[str, float | str] = {
        "objects": count,
        "JSON bytes of an object": size,
        "parsing": parsing,
        "compiling": compiling,
        "wall": parsing_wall + wall,
        "rules": len(settled.rules),
        "rules on all nodes": sum(map(len, nodes.values())),
        "bytes for a pod": _bytes_for(cluster, raw, empty),
    }
    label = f"world {name}: objects → rules"
    against = "the best peer (Go), seconds" if peer[0] else ""
    time_taken = Result(label, parsing + compiling, "s CPU", seconds, reach, against, peer[0], more=more)
    against = "the best peer (Go), MB" if peer[1] else ""
    memory_taken = Result(
        f"world {name}: memory", most_memory(), "MB", megabytes, reach_megabytes, against, peer[1],
        more={"of which raw objects": raw, "of which Python": empty},
    )  # fmt: skip
    return [time_taken, memory_taken]


def _bytes_for(cluster: Cluster, raw: float, empty: float) -> float:
    return max(0.0, memory() - raw - empty) * 1e6 / max(1, len(cluster.pods))


def measure_linear(name: str, scale: float) -> list[Result]:
    """A tenth of a world and the whole: ten times the objects may take at most twelve times the time."""
    gc.disable()
    times = []
    for part in (scale / 10, scale):
        objects = world(name, part)
        _, seconds, _ = cpu(lambda objects=objects: compiled(parsed(objects)))  # type: ignore[misc]  # bound at once
        times.append(seconds)
    return [
        Result(f"world {name}: ten times the objects", times[1] / times[0], "x time", 12, None,
               more={"a tenth": times[0], "the whole": times[1]})
    ]  # fmt: skip
