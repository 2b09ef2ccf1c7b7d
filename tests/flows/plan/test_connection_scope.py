"""The verdict in the small scope of a connection is that of the whole effective cluster, word for word."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster
from flows.explain.audited_packet import AuditedPacket, reasons
from flows.pipeline.registers import Audited
from flows.plan.connection_scope import connection_scope, scoped_cluster
from flows.policy.engine import PolicyEngine
from flows.policy.verdict import verdict
from tests.helpers.cluster.generated_clusters import clusters, probes
from tests.helpers.cluster.generated_tiers import tiered_clusters


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(cluster=st.one_of(clusters(), tiered_clusters()))
def test_the_verdict_is_that_of_the_whole_cluster(cluster: Cluster) -> None:
    engine = PolicyEngine()
    engine.load(cluster)
    for probe in probes(cluster, 60):
        ends = (probe.source, probe.destination)
        keys = [end.pod for end in ends if end.pod is not None]
        scope = connection_scope(cluster, engine, keys, [end.address for end in ends])
        small, expected = scoped_cluster(scope), verdict(cluster, probe)
        assert verdict(small, probe) == expected
        for reason, end in ((Audited.DENIED_EGRESS, expected.egress), (Audited.DENIED_INGRESS, expected.ingress)):
            found = reasons(small, AuditedPacket(reason, 1), probe)
            if not end.allowed and end.decided_by is None:
                assert found.policies == tuple(map(str, end.isolated_by)) and not found.rules
            elif not end.allowed and end.decided_by is not None:
                assert found.policies == (str(end.decided_by.policy),) and found.rules == (str(end.decided_by),)
            else:
                assert "allows it now" in found.text and not found.policies
