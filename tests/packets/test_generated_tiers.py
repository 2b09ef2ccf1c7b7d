"""Policies of the whole cluster by chance, some of them broken, on real packets: what passes is what the verdict says.

Policies are tied, name pods, nodes, networks and ports by name, and stand before NetworkPolicies. A pod to itself, the
own node and others, and the machine outside are among the ends. A seed that failed names itself.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from controller.sources.offline import offline_manifests
from flows.cluster.model import Cluster, Key, Protocol
from flows.cluster.net import parse_address
from flows.policy.probe import ICMP, ICMPV6, EndpointName, probe_between
from flows.policy.verdict import verdict
from tests.helpers.lab.truth_lab import NODES, OUTSIDE_END
from tests.helpers.lab.truth_table_run import PATIENCE
from tests.helpers.truth.layout import PODS
from topology.lab.lab import Lab
from topology.lab.product import EXIT_NOT_REALIZED
from topology.probe.matrix import LabProbe, Outcome

pytestmark = [pytest.mark.lab, pytest.mark.slow]

Json = dict[str, Any]
PROBES = 120
WAYS = (("TCP", 80), ("TCP", 81), ("UDP", 80), ("UDP", 81), ("ICMP", 0))
ENDS = (*PODS, *(f"node:{name}" for name in NODES), OUTSIDE_END)
BROKEN: tuple[Any, ...] = (None, "Allow", 5, [], {}, {"services": {}}, [{"services": {}}], "x" * 300)


class Author:
    """Writes policies by chance."""

    def __init__(self, seed: int, chance: random.Random, blocks: list[str]) -> None:
        self.seed, self.chance, self.blocks = seed, chance, blocks

    def name(self, number: int) -> str:
        """Another for each seed: of one that breaks, what was good before would stay in force."""
        return f"by-chance-{self.seed}-{number}"

    def pods(self) -> Json:
        not_x = {"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x"]}]}
        namespaces = self.chance.choice([{}, {"matchLabels": {"ns": self.chance.choice("xyz")}}, not_x])
        if self.chance.random() < 0.5:
            return {"namespaces": namespaces}
        own = {"matchLabels": {"pod": self.chance.choice("abc")}}
        return {"pods": {"podSelector": own, "namespaceSelector": namespaces}}

    def peer(self, egress: bool) -> Json:
        if egress and self.chance.random() < 0.4:
            return {"networks": self.chance.sample(self.blocks, 2)} if self.chance.random() < 0.7 else {"nodes": {}}
        return self.pods()

    def ports(self) -> list[Json]:
        kind = self.chance.choice(("tcp", "udp"))
        number = self.chance.choice((80, 81))
        return [self.chance.choice([{kind: {"destinationPort": {"number": number}}},
                                    {kind: {"destinationPort": {"range": {"start": 1, "end": 80}}}},
                                    {"destinationNamedPort": f"serve-{number}-{kind}"}])]  # fmt: skip

    def rule(self, direction: str) -> Json:
        egress = direction == "egress"
        peers = [self.peer(egress) for _ in range(self.chance.choice((1, 1, 2)))]
        made: Json = {"action": self.chance.choice(("Accept", "Deny", "Pass")), "to" if egress else "from": peers}
        if self.chance.random() < 0.6:
            made["protocols"] = self.ports()
        if self.chance.random() < 0.15:
            made[self.chance.choice([*made, "unknown"])] = self.chance.choice(BROKEN)
        return made

    def policy(self, number: int) -> Json:
        tier, priority = self.chance.choice(("Admin", "Baseline")), self.chance.choice((0, 0, 1, 1000))
        spec: Json = {"tier": tier, "priority": priority, "subject": self.pods()}
        for direction in ("ingress", "egress"):
            spec[direction] = [self.rule(direction) for _ in range(self.chance.choice((0, 1, 2, 3)))]
        if self.chance.random() < 0.08:
            spec[self.chance.choice(("tier", "priority", "subject", "egress"))] = self.chance.choice(BROKEN)
        return {"apiVersion": "policy.networking.k8s.io/v1beta1", "kind": "ClusterNetworkPolicy",
                "metadata": {"name": self.name(number)}, "spec": spec}  # fmt: skip

    def network_policy(self, number: int) -> Json:
        spec = {"podSelector": self.chance.choice([{}, {"matchLabels": {"pod": self.chance.choice("abc")}}]),
                "policyTypes": self.chance.choice([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
                "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 80}]}]}  # fmt: skip
        meta = {"name": self.name(number), "namespace": self.chance.choice("xyz")}
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def allowed(lab: Lab, cluster: Cluster, probe: LabProbe) -> bool:
    number = (ICMP if probe.family == 4 else ICMPV6) if probe.protocol == "ICMP" else Protocol[probe.protocol]
    ends = end_of(lab, probe.source, probe.family), end_of(lab, probe.destination, probe.family)
    return verdict(cluster, probe_between(cluster, *ends, number, probe.port or None, probe.family)).allowed


def end_of(lab: Lab, end: str, family: int) -> EndpointName:
    """What `verdict` calls an end of the lab."""
    if end == OUTSIDE_END:
        return parse_address(lab.endpoints[end].addresses[family])
    return end.removeprefix("node:") if end.startswith("node:") else Key(*end.split("/"))


@pytest.mark.parametrize("seed", range(8))
def test_packets_pass_as_the_verdict_says(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    addresses = [address for end in ENDS for address in lab.endpoints[end].addresses.values()]
    one = sorted(address for address in addresses if ":" not in address)
    blocks = [f"{chance.choice(one)}/32", "10.10.0.0/24", "10.10.1.0/30", "0.0.0.0/0", "::/0", "203.0.113.0/24"]
    author = Author(seed, chance, blocks)
    policies = [author.policy(number) for number in range(5)] + [author.network_policy(number) for number in range(2)]
    lab.objects.put(policies)
    try:
        waited = lab.product.call(["status", "--wait", "--timeout", "20"])  # fails where something cannot be read
        assert waited.returncode in (0, EXIT_NOT_REALIZED)
        assert not [line for line in waited.stderr.splitlines() if "flows" in line or "away" in line]
        cluster = offline_manifests([str(lab.manifests.path)]).cluster
        mesh = [
            LabProbe(source, target, *way, family)
            for source in ENDS for target in ENDS for way in WAYS for family in (4, 6)
            if not (source == target and source not in PODS) and not (source not in PODS and target not in PODS)
        ]  # fmt: skip
        expected = {probe: allowed(lab, cluster, probe) for probe in chance.sample(mesh, PROBES)}
        assert 0 < sum(expected.values()) < len(expected), "a seed that says nothing: take another"
        seen = lab.run_probes(expected, PATIENCE, lambda probe: expected[probe])
        wrong = [f"{probe}: {outcome.value}" for probe, outcome in seen.results.items()
                 if outcome is Outcome.WRONG or outcome.reachable != expected[probe]]  # fmt: skip
        assert not wrong, f"seed {seed}: {wrong}\n{json.dumps(policies)}"
    finally:
        lab.objects.delete(policies)
