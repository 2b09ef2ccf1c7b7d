"""The generated clusters contain every special case, and the probes cover it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from flows.cluster.model import Cluster, PortSpec
from flows.policy.explanation import Isolation
from flows.policy.probe import pods_with_address
from flows.policy.verdict import verdict
from tests.helpers.cluster.generated_clusters import MOST_PROBES, clusters, endpoints, probes

seen: Counter[str] = Counter()


@pytest.mark.slow
def test_every_special_case_occurs() -> None:
    seen.clear()
    _count_cases()
    wanted = {
        "contested", "finished", "host network", "v4 only", "v6 only", "no address", "unknown node", "one name twice",
        "named port allows", "range allows", "block allows", "selector allows", "invalid rule", "no namespace object",
        "isolates nothing",
    }  # fmt: skip
    wanted |= {f"isolation {isolation.name}" for isolation in set(Isolation) - {Isolation.NOT_A_SUBJECT}}
    assert wanted <= set(seen), wanted - set(seen)


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(clusters())
def _count_cases(cluster: Cluster) -> None:
    for pod in cluster.pods.values():
        versions = {address.version for address in pod.addresses}
        seen["finished"] += pod.finished
        seen["host network"] += pod.host_network
        seen["unknown node"] += not pod.node
        seen["v4 only"] += versions == {4}
        seen["v6 only"] += versions == {6}
        seen["no address"] += not versions
        seen["contested"] += any(len(pods_with_address(cluster, address)) > 1 for address in pod.addresses)
        seen["one name twice"] += len({(port.name, port.protocol) for port in pod.ports}) < len(pod.ports)
    for policy in cluster.policies.values():
        seen["invalid rule"] += None in (*policy.ingress, *policy.egress)
        seen["no namespace object"] += policy.key.namespace not in cluster.namespaces
        seen["isolates nothing"] += not policy.isolates
    for probe in probes(cluster):
        answer = verdict(cluster, probe)
        for side in (answer.egress, answer.ingress):
            seen[f"isolation {side.isolation.name}"] += 1
            for allowing in side.allowed_by:
                rule = cluster.policies[allowing.policy].rules(allowing.direction)[allowing.rule]
                peer = rule.peers[allowing.peer] if rule is not None and allowing.peer is not None else None
                seen["block allows"] += peer is not None and peer.ip_block is not None
                seen["selector allows"] += peer is not None and peer.ip_block is None
                seen[_kind(allowing.port)] += 1
    for kind in [kind for kind, times in seen.items() if not times]:
        del seen[kind]


def _kind(port: PortSpec | None) -> str:
    if port is None or port.port is None:
        return "any port allows"
    if isinstance(port.port, str):
        return "named port allows"
    return "number allows" if port.end_port is None else "range allows"


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(clusters())
def test_probes_are_bounded_repeatable_and_about_every_pair(cluster: Cluster) -> None:
    asked = probes(cluster)
    assert asked == probes(cluster)
    assert len(asked) <= MOST_PROBES
    pods = [end for end in endpoints(cluster) if end.pod is not None]
    pairs = {(probe.source, probe.destination) for probe in asked}
    for one in pods:
        for other in pods:
            assert (one, other) in pairs or one.address.version != other.address.version
