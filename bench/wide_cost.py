"""Measures a pod that many policies contain as a peer, and rules whose numbers collide.

Only single changes are measured; bridges, policies and pods exist before.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from bench.plan_cost import bridges, flow_count, planned
from bench.result import Result, cpu, memory, quantile
from bench.worlds import ipv4
from controller.base.garbage_collector import GC_THRESHOLDS
from controller.base.large_pages import use_large_pages
from flows.cluster.model import (
    EVERYTHING,
    Cluster,
    Direction,
    IPBlock,
    Key,
    Namespace,
    Operator,
    Peer,
    Pod,
    Policy,
    PortSpec,
    Protocol,
    Requirement,
    Rule,
    Selector,
)
from flows.cluster.net import Net, parse_address
from flows.plan.world import World
from flows.policy.resolve import rule_identity
from flows.policy.rule import policy_rules
from flows.policy.rule_numbers import nth_number

T = TypeVar("T")
WIDE_ROUNDS = GUEST_PODS = 50
INGRESS_ONLY = frozenset({Direction.INGRESS})


def wide_world(pods: int, nodes: int, policies: int) -> Cluster:
    """Pods of 100 namespaces on every node, and policies that each allow all pods, on a port of its own, to a tenth of
    one namespace's pods. And GUEST_PODS that no policy selects as subjects."""
    anybody = Peer(namespaces=EVERYTHING)
    found: dict[Key, Pod] = {}
    for n in range(pods):
        guest = n < GUEST_PODS
        key = Key("guests" if guest else f"namespace-{n // nodes % 100}", f"pod-{n}")
        labels = {"part": f"part-{n % 10}"}
        found[key] = Pod(key, labels, f"node-{n % nodes}", f"{n}", (parse_address(ipv4(n)),))
    rules: dict[Key, Policy] = {}
    for n in range(policies):
        key = Key(f"namespace-{n % 100}", f"policy-{n}")
        part = Selector((Requirement("part", Operator.IN, (f"part-{n // 100 % 10}",)),))
        allow = Rule((anybody,), (PortSpec(Protocol.TCP, 1000 + n),))
        rules[key] = Policy(key, part, INGRESS_ONLY, (allow,))
    spaces = {f"namespace-{n}": Namespace(f"namespace-{n}") for n in range(100)}
    return Cluster(spaces, found, {}, rules)


class _Steps:
    """A world, to change one object after another."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.world: World = planned(cluster, bridges(cluster))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)  # as in `headgate run`, and so are large pages
        use_large_pages()

    def pod(self, key: Key, pod: Pod | None) -> tuple[float, int]:
        """Add a pod or delete it (None); returns CPU milliseconds and the number of changed flows."""
        return self._step(replace(self.cluster, pods=_with(self.cluster.pods, key, pod)), "Pod", key)

    def policy(self, key: Key, policy: Policy | None) -> tuple[float, int]:
        """The same for a policy."""
        found = replace(self.cluster, policies=_with(self.cluster.policies, key, policy))
        return self._step(found, "NetworkPolicy", key)

    def _step(self, cluster: Cluster, kind: str, key: Key) -> tuple[float, int]:
        self.cluster = cluster

        def settle() -> int:
            self.world.set_cluster(cluster, [(kind, key)])
            return sum(map(len, self.world.update_plans().values()))

        flows, seconds, _ = cpu(settle)
        return seconds * 1e3, flows


def _with(objects: Mapping[Key, T], key: Key, value: T | None) -> Mapping[Key, T]:
    changed = {one: other for one, other in objects.items() if one != key}
    if value is not None:
        changed[key] = value
    return MappingProxyType(changed)


def measure_wide(scale: float) -> list[Result]:
    """Delete and add a pod that 1,000 policies with `namespaceSelector: {}` contain, with 500 bridges."""
    gc.disable()
    before = memory()
    steps = _Steps(wide_world(round(100_000 * scale), 500, 1000))
    more: dict[str, float | str] = {"flows": flow_count(steps.world), "MB": memory() - before, "bridges": 500}
    chance, costs = random.Random(5), []
    guests = [pod for key, pod in steps.cluster.pods.items() if key.namespace == "guests"]
    for _ in range(WIDE_ROUNDS):
        pod = chance.choice(guests)
        costs += [steps.pod(pod.key, None), steps.pod(pod.key, pod)]
    times = [time for time, _ in costs]
    more["flows changed"] = sum(flows for _, flows in costs) / len(costs)
    return [
        Result(
            "pod that 1,000 policies for all namespaces contain, p50", quantile(times, 0.5), "ms CPU", 10, 2, more=more
        )
    ]


def measure_collisions(scale: float) -> list[Result]:
    """Delete and add a rule whose number collides with another one's, among 10,000 rules; against rules without
    collisions."""
    gc.disable()
    count = max(100, round(10_000 * scale))
    pairs = colliding(max(1, count // 100), count)
    chosen = [policy for pair in pairs for policy in pair]
    plain = [_policy(n) for n in range(count)]
    found = {}
    for name, policies in (("none", plain), ("some", [*plain[len(chosen) :], *chosen])):
        known = {policy.key: policy for policy in policies}
        steps = _Steps(Cluster({"one": Namespace("one")}, dict(map(_subject, range(100))), {}, known))
        times = []
        for policy in policies[-len(chosen) :][:200]:
            times += [steps.policy(policy.key, None)[0], steps.policy(policy.key, policy)[0]]
        found[name] = sum(times) / len(times)
    more: dict[str, float | str] = {"rules": count, "collisions": len(pairs), "ms CPU": found["some"]}
    name = "a rule that collides comes or goes among 10,000"
    return [Result(name, found["some"] / found["none"], "x none", 1.2, more={**more, "none, ms CPU": found["none"]})]


def colliding(pairs: int, after: int) -> list[tuple[Policy, Policy]]:
    """Pairs of policies whose rules hash to the same number, found by search as an attacker would."""
    seen: dict[int, int] = {}
    found: list[tuple[Policy, Policy]] = []
    n = after
    while len(found) < pairs:
        number = nth_number(_name(_policy(n)), 0)
        if number in seen:
            found.append((_policy(seen[number]), _policy(n)))
        seen[number] = n
        n += 1
    return found


def _policy(n: int) -> Policy:
    block = Peer(ip_block=IPBlock(Net(4, 0xC0000000 + n, 32)))
    subjects = Selector((Requirement("part", Operator.IN, (f"part-{n % 100}",)),))
    return Policy(Key("one", f"policy-{n}"), subjects, INGRESS_ONLY, (Rule((block,)),))


def _subject(n: int) -> tuple[Key, Pod]:
    key = Key("one", f"subject-{n}")
    return key, Pod(key, {"part": f"part-{n}"}, "node-0", "", (parse_address(ipv4(n)),))


def _name(policy: Policy) -> bytes:
    ((rule, _),) = policy_rules(policy)
    return rule_identity(rule, None)
