"""Measures rules → desired flows: of one switch, and of a change of one object with 500 bridges.

Nothing is sent to switches; bridges are values as OVSDB would give them.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bench.compile_cost import parsed
from bench.result import Result, cpu, memory, quantile
from bench.worlds import ipv4, label_selector, namespace_manifest, node_manifest, pod_manifest, policy_manifest, world
from controller.base.garbage_collector import GC_THRESHOLDS
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import EVERYTHING, Cluster, Key, Peer, PortSpec, Protocol, Rule
from flows.plan.world import World

CLUSTER_SECTIONS = {"namespaces": "Namespace", "pods": "Pod", "nodes": "Node", "policies": "NetworkPolicy"}


def bridges(cluster: Cluster, only: str = "", most: int = 1 << 16) -> list[BridgeState]:
    """A userspace bridge for each node, or for the node `only`, with a port for each of its pods, `most` at most."""
    found: dict[str, list[Key]] = {}
    for one in cluster.pods.values():
        if one.networked and only in ("", one.node):
            found.setdefault(one.node, []).append(one.key)
    return [
        BridgeState("db", f"br-{name}", number, name, "", "dummy", "3.1.0", tuple(map(_port, range(1, most + 1), keys)))
        for number, (name, keys) in enumerate(sorted(found.items()), 1)
    ]


def _port(number: int, key: Key) -> InterfaceState:
    mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
    return InterfaceState(f"{key}", f"p{number}", number, "", {"iface-id": str(key), "attached-mac": mac})


def planned(cluster: Cluster, states: list[BridgeState]) -> World:
    """A world with the plans of all bridges."""
    made = World()
    for state in states:
        made.set_bridge(state)
    made.set_cluster(cluster)
    made.update_plans()
    return made


def flow_count(made: World) -> int:
    """The number of desired flows of all bridges."""
    return sum(len(plan.flows) for name in made.bridges if (plan := made.plan_of(name)) is not None)


def measure_rules(scale: float) -> list[Result]:
    """100 rules of 500 addresses, half of which are in all rules; and that flows are sums, not products."""
    addresses = [f"{ipv4(1000 + 3 * n)}/32" for n in range(50_000)]  # none adjacent, so that none merge
    rules = [[*addresses[:250], *addresses[250 * n : 250 * n + 250]] for n in range(1, 101)]
    objects = [namespace_manifest("one"), node_manifest(0), pod_manifest("one", "subject", 1, 1, {"app": "a"})]
    for n, cidrs in enumerate(rules):
        peers = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
        objects.append(policy_manifest("one", f"policy-{n}", {}, policyTypes=["Ingress"], ingress=[{"from": peers}]))
    cluster = parsed(objects)
    states = bridges(cluster)
    planned(Cluster(cluster.namespaces, cluster.pods, cluster.nodes), states)  # warm up
    gc.collect()
    gc.disable()  # collections are rare in `headgate run`
    made, seconds, wall = cpu(lambda: planned(cluster, states))
    first = Result("100 rules x 500 addresses → desired flows", seconds * 1e3, "ms CPU", 124, 80,
                   "the best peer's agent (Go), ms", 124,
                   more={"flows": flow_count(made), "wall ms": wall * 1e3})  # fmt: skip
    return [first, *measure_sums()]


def measure_sums() -> list[Result]:
    """Flows of 99 subjects x 99 peers x 1 port, and of 10 port ranges x 500 prefixes."""
    kinds = [{"app": "server"}] * 99 + [{"app": "client"}] * 99
    pods = [pod_manifest("one", f"pod-{n}", n + 1, 1, kind) for n, kind in enumerate(kinds)]
    first = {"from": [{"podSelector": label_selector(app="client")}], "ports": [{"port": 80}]}
    prefixes = [{"ipBlock": {"cidr": f"100.{64 + n // 125}.{n % 125 * 2}.0/24"}} for n in range(500)]
    ranges = [{"port": 1024 * (n + 1), "endPort": 1024 * (n + 1) + 511} for n in range(10)]
    found = []
    for name, rule, product in (
        ("99 x 99 x 1 port", first, 9801),
        ("10 ranges x 500 prefixes", {"from": prefixes, "ports": ranges}, 5000),
    ):
        plain = parsed([namespace_manifest("one"), node_manifest(0), *pods])
        states = bridges(plain)
        base = planned(plain, states)
        rules = policy_manifest("one", "p", label_selector(app="server"), policyTypes=["Ingress"], ingress=[rule])
        with_rules = planned(parsed([namespace_manifest("one"), node_manifest(0), *pods, rules]), states)
        count = flow_count(with_rules) - flow_count(base)
        found.append(Result(f"flows of {name}", count, "flows", 99 + 500 + 20, None, "as a product, flows", product))
    return found


def measure_node(scale: float) -> list[Result]:
    """The flows of one node of 100 pods, with the rules of world A compiled before."""
    gc.disable()
    cluster = parsed(world("A", scale))
    made = planned(cluster, [])
    state = bridges(cluster, "node-1", 100)[0]
    made.set_bridge(state)
    _, seconds, wall = cpu(made.update_plans)
    more: dict[str, float | str] = {"flows": flow_count(made), "pods": len(state.interfaces), "wall": wall}
    return [Result("desired flows of one node of 100 pods in world A", seconds, "s CPU", 0.5, 0.1, more=more)]


class ObjectChanger:
    """World A with a bridge for each node, to change one object after another."""

    def __init__(self, scale: float) -> None:
        gc.disable()
        self.cluster = parsed(world("A", scale))
        before = memory()
        self.states = bridges(self.cluster)
        self.world, self.seconds, _ = cpu(lambda: planned(self.cluster, self.states))
        self.megabytes = memory() - before
        self.flows = flow_count(self.world)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)  # as in `headgate run`
        gc.enable()
        self._objects = {one: dict(getattr(self.cluster, one)) for one in CLUSTER_SECTIONS}

    def put(self, section: str, key: Any, value: Any) -> tuple[float, float]:
        """Set one object to `value`, None to delete it. Returns CPU milliseconds and the number of changed flows."""
        objects = self._objects[section]
        if value is None:
            del objects[key]
        else:
            objects[key] = value
        # The store makes a new snapshot; its cost is not measured here.
        old = self.cluster
        self.cluster = replace(old, **{section: MappingProxyType(dict(objects))})
        flows, seconds, _ = cpu(lambda: self._update_plans(CLUSTER_SECTIONS[section], key))
        return seconds * 1e3, flows

    def _update_plans(self, kind: str, key: Any) -> int:
        self.world.set_cluster(self.cluster, [(kind, key)])
        return sum(map(len, self.world.update_plans().values()))


def measure_changes(scale: float) -> list[Result]:
    """One object changes in world A with 500 bridges: CPU time until the changed flows of all bridges are known."""
    changer = ObjectChanger(scale)
    chance = random.Random(5)
    pods, spaces, policies = (getattr(changer.cluster, one) for one in ("pods", "namespaces", "policies"))
    rounds = 300
    found: dict[str, list[tuple[float, float]]] = {}

    def note(name: str, *cost: tuple[float, float]) -> None:
        found.setdefault(name, []).extend(cost)

    keys, names, rules = list(pods), list(spaces), list(policies)
    for n in range(rounds):
        one = pods[chance.choice(keys)]
        other = one._replace(labels=pods[chance.choice(keys)].labels, uid="other")
        note("pod relabelled", changer.put("pods", one.key, other), changer.put("pods", one.key, one))
        note("pod deleted", changer.put("pods", one.key, None))
        note("pod added", changer.put("pods", one.key, one))
        space = spaces[chance.choice(names)]
        moved = replace(space, labels=MappingProxyType({**space.labels, "team": f"team-{n % 3}"}))
        note(
            "namespace relabelled",
            changer.put("namespaces", space.name, moved),
            changer.put("namespaces", space.name, space),
        )
        rule = policies[chance.choice(rules)]
        changed = rule._replace(ingress=(Rule((Peer(EVERYTHING),), (PortSpec(Protocol.TCP, 80 + n),)),))
        note("policy changed", changer.put("policies", rule.key, changed))
        changer.put("policies", rule.key, None)
        note("policy added", changer.put("policies", rule.key, rule))
    return [*_change_results(found), *_plan_results(changer)]


def _change_results(found: Mapping[str, list[tuple[float, float]]]) -> list[Result]:
    results = []
    for name, costs in found.items():
        times = [time for time, _ in costs]
        flows = sum(flows for _, flows in costs) / len(costs)
        of_pod = name.startswith("pod")
        bar, reach = (10.0, 2.0) if of_pod else (50.0, 10.0) if name.startswith("namespace") else (20.0, 5.0)
        if of_pod:
            results.append(Result(f"{name}, p50", quantile(times, 0.5), "ms CPU", 0.4, 0.2, more={"flows": flows}))
        results.append(Result(f"{name}, p99", quantile(times, 0.99), "ms CPU", bar, reach, more={"flows": flows}))
    return results


def _plan_results(changer: ObjectChanger) -> list[Result]:
    return [
        Result("plans of all bridges of world A", changer.seconds, "s CPU", 5, 3,
               more={"flows": changer.flows, "bridges": len(changer.states), "MB": changer.megabytes,
                     "bytes for a flow": changer.megabytes * 1e6 / changer.flows})
    ]  # fmt: skip
