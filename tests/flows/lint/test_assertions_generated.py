"""Assertions on generated clusters are decided as the verdict decides each connection by itself."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster, Pod, Protocol
from flows.cluster.net import parse_network
from flows.lint.assertion_parse import Assertion, End, Expect, PortRange
from flows.lint.assertions import failures
from flows.lint.codes import ASSERTION_EMPTY, ASSERTION_FAILED
from flows.policy.probe import ICMP, ICMPV6, Endpoint, Probe
from flows.policy.verdict import verdict
from tests.helpers.cluster.generated_clusters import OUTSIDE, clusters, interesting_ports
from tests.helpers.cluster.generated_tiers import tiered_clusters

ENDS = (
    End("outside"),
    End("pods"),
    End("anywhere"),
    End(namespace="x"),
    End(namespace="y"),
    End(other=End(namespace="x")),
    End(addresses=parse_network("10.0.1.0/24")),
    End(addresses=parse_network("203.0.113.0/24")),
)


def _has(cluster: Cluster, end: End, one: Endpoint) -> bool:
    """The meaning of an end, for one endpoint."""
    if end.other is not None:
        return not _has(cluster, end.other, one)
    if end.addresses is not None:
        return end.addresses.contains(one.address)
    if end.word:
        return end.word == "anywhere" or (one.pod is None) == (end.word == "outside")
    return one.pod is not None and one.pod.namespace == end.namespace


def _endpoints(cluster: Cluster) -> list[Endpoint]:
    pods: list[Pod] = [pod for pod in cluster.pods.values() if pod.networked]
    taken = {address for pod in pods for address in pod.addresses}
    found = [Endpoint(address, pod=pod.key) for pod in pods for address in pod.addresses]
    return found + [Endpoint(address) for address in OUTSIDE if address not in taken]


def _probes(cluster: Cluster, ports: tuple[PortRange, ...], one: Endpoint, other: Endpoint) -> list[Probe]:
    asked = [
        (int(protocol), number)
        for protocol, number in interesting_ports(cluster)
        if not ports or any(p.protocol == protocol and p.low <= number <= p.high for p in ports)
    ]
    found = [Probe(one, other, protocol, number) for protocol, number in asked]
    if not ports:
        found.append(Probe(one, other, ICMP if one.address.version == 4 else ICMPV6))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cluster=st.one_of(clusters(), tiered_clusters()),
    source=st.sampled_from(ENDS),
    destination=st.sampled_from(ENDS),
    expect=st.sampled_from(Expect),
    ports=st.sampled_from([(), (PortRange(Protocol.TCP, 80, 80),), (PortRange(Protocol.UDP, 1, 443),)]),
)
def test_what_brute_force_finds_is_found(
    cluster: Cluster, source: End, destination: End, expect: Expect, ports: tuple[PortRange, ...]
) -> None:
    found = list(failures(cluster, [Assertion("a", "", source, destination, ports, expect)]))
    wanted = expect is Expect.ALLOWED
    ends = _endpoints(cluster)
    wrong = [
        probe
        for one in ends
        if _has(cluster, source, one) != (expect is Expect.ONLY)
        for other in ends
        if _has(cluster, destination, other) and one.address.version == other.address.version
        if one.pod != other.pod
        for probe in _probes(cluster, ports, one, other)
        if verdict(cluster, probe).allowed != wanted
    ]
    if found and found[0].code is ASSERTION_EMPTY:
        return
    # The addresses outside are a sample here, and all of them there.
    assert found or not wrong, wrong[0]
    if found and not any(end.word in ("outside", "anywhere") or end.other for end in (source, destination)):
        assert found[0].code is ASSERTION_FAILED
