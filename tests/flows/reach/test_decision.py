"""The indexed decision equals the verdict: for every pair of ends, at every port that a cluster mentions."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster, Direction
from flows.policy.probe import Probe
from flows.policy.verdict import verdict
from flows.reach.decision import Decision
from flows.reach.ports import contains
from flows.reach.regions import at
from tests.helpers.cluster.generated_clusters import clusters, probes
from tests.helpers.cluster.generated_tiers import tiered_clusters


def number_of(decision: Decision, probe: Probe, *, source: bool) -> int:
    """The number of an end of a probe."""
    one = probe.source if source else probe.destination
    ends = decision.ends
    if one.pod is not None:
        return ends.addresses.index((one.pod, one.address))
    value = one.address.value
    return next(
        len(ends.addresses) + n
        for n, outside in enumerate(ends.outside)
        if outside.version == one.address.version and any(low <= value <= high for low, high in outside.ranges)
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(clusters(), tiered_clusters()))
def test_every_pair_and_port_is_as_the_verdict_says(cluster: Cluster) -> None:
    decision = Decision(cluster)
    for probe in probes(cluster):
        ends = (probe.source, probe.destination)
        if ends[0].pod == ends[1].pod or any(one.node is not None for one in ends):
            continue  # itself is not asked; a node reaches its own pods besides
        source, destination = (number_of(decision, probe, source=one) for one in (True, False))
        expected = verdict(cluster, probe).allowed
        row = at(decision.region(source, Direction.EGRESS), destination)
        column = at(decision.region(destination, Direction.INGRESS), source)
        assert contains(row, probe.protocol, probe.port) == expected, verdict(cluster, probe).explain()
        assert row == column
