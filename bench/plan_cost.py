"""Measures rules → desired flows: of one switch, and of a change of one object with 500 bridges.

Nothing is sent to switches; bridges are values as OVSDB would give them.
"""

from __future__ import annotations

import gc
import random
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bench.compile_cost import parsed
from bench.result import Result, cpu, memory, quantile
from bench.worlds import ipv4, label_selector, namespace_manifest, node_manifest, pod_manifest, policy_manifest, world
from controller.base.garbage_collector import GC_THRESHOLDS
from controller.base.large_pages import use_large_pages
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import EVERYTHING, Cluster, Key, Peer, PortSpec, Protocol, Rule
from flows.cluster.snapshot import Snapshot
from flows.plan.world import World

CLUSTER_SECTIONS = {"namespaces": "Namespace", "pods": "Pod", "nodes": "Node", "policies": "NetworkPolicy"}
CHANGES = 300  # of each kind
ONE_BY_ONE, AFTER_OTHER_WORK, SLOWEST = "p50", "p50 after other work", "p99"
_OF_PODS = {ONE_BY_ONE: (0.4, 0.2), AFTER_OTHER_WORK: (0.4, 0.2), SLOWEST: (10.0, 2.0)}
# Bar and reach by change and figure. Bars of the medians of namespaces and policies are what a version without tiers,
# domain names, audit and staging took.
CHANGE_BARS: dict[str, dict[str, tuple[float, float | None]]] = {
    "pod relabelled": {**_OF_PODS},
    "pod deleted": {**_OF_PODS},
    "pod added": {**_OF_PODS},
    "namespace relabelled": {ONE_BY_ONE: (0.012, None), AFTER_OTHER_WORK: (0.035, None), SLOWEST: (50.0, 10.0)},
    "policy changed": {ONE_BY_ONE: (0.26, None), AFTER_OTHER_WORK: (0.44, None), SLOWEST: (20.0, 5.0)},
    "policy added": {ONE_BY_ONE: (0.079, None), AFTER_OTHER_WORK: (0.29, None), SLOWEST: (20.0, 5.0)},
}


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
    """World A with a bridge for each node, to change one object after another.

    `after_other_work`: much memory is read before each change, so that little of the last one is in the processor's
    caches.
    """

    def __init__(self, scale: float) -> None:
        gc.disable()
        self.after_other_work = False
        cluster = parsed(world("A", scale))
        # As the store makes them: a new one costs what changed.
        self.cluster = replace(cluster, **{one: Snapshot(dict(getattr(cluster, one))) for one in CLUSTER_SECTIONS})
        before = memory()
        self.states = bridges(self.cluster)
        self.world, self.seconds, _ = cpu(lambda: planned(self.cluster, self.states))
        self.megabytes = memory() - before
        self.flows = flow_count(self.world)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)  # as in `headgate run`, and so are large pages
        gc.enable()
        use_large_pages()
        self._much = {one: dict(getattr(cluster, one)) for one in CLUSTER_SECTIONS}

    def put(self, section: str, key: Any, value: Any) -> tuple[float, float]:
        """Set one object to `value`, None to delete it. Returns CPU milliseconds and the number of changed flows."""
        self.cluster = replace(self.cluster, **{section: getattr(self.cluster, section).updated({key: value})})
        if self.after_other_work:
            self._much[section] = dict(self._much[section])
        flows, seconds, _ = cpu(lambda: self._update_plans(CLUSTER_SECTIONS[section], key))
        return seconds * 1e3, flows

    def _update_plans(self, kind: str, key: Any) -> int:
        self.world.set_cluster(self.cluster, [(kind, key)])
        return sum(map(len, self.world.update_plans().values()))


def measure_changes(scale: float) -> list[Result]:
    """One object changes in world A with 500 bridges: CPU time until the changed flows of all bridges are known."""
    changer = ObjectChanger(scale)
    one_by_one = _change_costs(changer)
    changer.after_other_work = True
    return [*_change_results(one_by_one, _change_costs(changer)), *_plan_results(changer)]


ChangeCosts = dict[str, list[tuple[float, float]]]  # milliseconds and flows of each change, by kind


def _change_costs(changer: ObjectChanger) -> ChangeCosts:
    """Change objects by chance, each back again. Every call changes the same."""
    chance = random.Random(5)
    pods, spaces, policies = (dict(getattr(changer.cluster, one)) for one in ("pods", "namespaces", "policies"))
    found = ChangeCosts()

    def note(name: str, *cost: tuple[float, float]) -> None:
        found.setdefault(name, []).extend(cost)

    keys, names, rules = sorted(pods), sorted(spaces), sorted(policies)
    for n in range(CHANGES):
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
    return found


def _change_results(one_by_one: ChangeCosts, after_other_work: ChangeCosts) -> list[Result]:
    results = []
    for name, bars in CHANGE_BARS.items():
        flows = sum(flows for _, flows in one_by_one[name]) / len(one_by_one[name])
        for what, (bar, reach) in bars.items():
            costs = (after_other_work if what == AFTER_OTHER_WORK else one_by_one)[name]
            time = quantile([time for time, _ in costs], 0.99 if what == SLOWEST else 0.5)
            results.append(Result(f"{name}, {what}", time, "ms CPU", bar, reach, more={"flows": flows}))
    return results


def _plan_results(changer: ObjectChanger) -> list[Result]:
    return [
        Result("plans of all bridges of world A", changer.seconds, "s CPU", 5, 3,
               more={"flows": changer.flows, "bridges": len(changer.states), "MB": changer.megabytes,
                     "bytes for a flow": changer.megabytes * 1e6 / changer.flows})
    ]  # fmt: skip
