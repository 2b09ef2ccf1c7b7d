"""The world of the fault suite: nodes, pods and policies by name, as a topology and as objects. Pure.

Namespace w never changes: two servers that their clients may reach and strangers may not, for traffic whose verdict
is the same in every state. Pods of x, y and z are probed at random, and there policies come and go, and roles of pods
change.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.helpers.lab.policies import Spec, policy, port

NODES = ("n0", "n1", "n2", "n3")
REPLICAS = ("r0", "r1", "r2")
NAMESPACES = ("w", "x", "y", "z")
PORTS = (80, 81)
FAMILIES = (4, 6)
PROTOCOLS = ("TCP", "UDP")
ROLES = ("client", "other")
MIN_PODS = 12
# All namespaces of a machine share one limit of neighbours, 1024 by default, and each pair of pods takes two.
PAIRS = 96
# Prefixes of addresses for pods that move, outside of the blocks of the nodes (see topology.spec.address).
NEW_ADDRESSES = {4: "10.10.200.", 6: "fd10:10::c8:"}

_WEB = {"podSelector": {"matchLabels": {"app": "web"}}}
_EVERYWHERE: Spec = {"namespaceSelector": {}}


def _role(name: str) -> Spec:
    return {"podSelector": {"matchLabels": {"role": name}}}


def _namespace(name: str) -> Spec:
    return {"namespaceSelector": {"matchLabels": {"ns": name}}}


STANDING: dict[str, Spec] = {
    "w/deny": {"policyTypes": ["Ingress"]},
    "w/serve": {**_WEB, "ingress": [{"from": [_role("client")], "ports": [port(80), port(80, "UDP")]}]},
    "x/deny": {"policyTypes": ["Ingress"]},
    "x/serve": {**_WEB, "ingress": [{"from": [_role("client")], "ports": [port(80), port(80, "UDP")]}]},
}
FLAPPING: dict[str, Spec] = {
    "x/also-z": {**_WEB, "ingress": [{"from": [_namespace("z")], "ports": [port(81), port(81, "UDP")]}]},
    "x/from-clients": {"ingress": [{"from": [{**_EVERYWHERE, **_role("client")}]}]},
    "y/closed": {"policyTypes": ["Ingress"]},
    "y/only-80": {"ingress": [{"ports": [port(80), port(80, "UDP")]}]},
    "y/no-way-out": {**_role("other"), "policyTypes": ["Egress"]},
    "z/to-x": {**_role("client"), "policyTypes": ["Egress"], "egress": [{"to": [_namespace("x")]}]},
    "z/from-web": {**_role("other"), "ingress": [{"from": [{**_EVERYWHERE, **_WEB}], "ports": [port(80, end=81)]}]},
}


@dataclass(frozen=True)
class Pod:
    """A pod of the world; `namespace/name` is its key."""

    key: str
    node: str
    app: str
    role: str


@dataclass(frozen=True)
class World:
    """A world of so many pods, at least MIN_PODS."""

    size: int

    @property
    def pods(self) -> tuple[Pod, ...]:
        """The fixed ones of w first."""
        fixed = [Pod(f"w/s{number}", NODES[number], "web", "other") for number in (0, 1)]
        fixed += [Pod(f"w/c{number}", node, "fixed", "client") for number, node in enumerate(NODES)]
        fixed += [Pod(f"w/d{number}", NODES[number], "fixed", "other") for number in (2, 3)]
        found = [_pod(number) for number in range(max(MIN_PODS, self.size) - len(fixed))]
        return (*fixed, *found)

    @property
    def movable(self) -> tuple[str, ...]:
        """The pods whose role may change, and which are probed at random."""
        return tuple(pod.key for pod in self.pods if not pod.key.startswith("w/"))

    def pairs(self, seed: int) -> list[tuple[str, str]]:
        """The pairs of pods that are probed."""
        every = [(one, other) for one in self.movable for other in self.movable if one != other]
        return random.Random(seed).sample(every, min(PAIRS, len(every)))

    def topology(self) -> dict[str, Any]:
        """For `check_topology`."""
        return {
            "ports": [{"port": number, "protocol": protocol} for number in PORTS for protocol in PROTOCOLS],
            "nodes": [{"name": name} for name in NODES],
            "namespaces": [{"name": name, "labels": {"ns": name}} for name in NAMESPACES],
            "pods": [
                {"namespace": pod.key.partition("/")[0], "name": pod.key.partition("/")[2], "node": pod.node,
                 "labels": {"app": pod.app, "role": pod.role}}
                for pod in self.pods
            ],
        }  # fmt: skip


def _pod(number: int) -> Pod:
    name = f"{'xyz'[number % 3]}/p{number}"
    return Pod(name, NODES[number // 3 % len(NODES)], "web" if number % 2 else "app", ROLES[number // 2 % 2])


def standing_policies() -> list[dict[str, Any]]:
    """The policies that are always there."""
    return [policy(name, spec) for name, spec in STANDING.items()]


def flapping_policy(name: str) -> dict[str, Any]:
    """One that comes and goes."""
    return policy(name, FLAPPING[name])
