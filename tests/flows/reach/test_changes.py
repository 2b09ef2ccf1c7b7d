"""What a change changes equals the difference of two whole decisions, for every pair of ends."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster, Direction
from flows.reach.changes import affected_pods, differences, reach_changes
from flows.reach.decision import Decision
from flows.reach.ends import Ends
from flows.reach.regions import at
from tests.helpers.cluster.generated_tiers import tiered_clusters

SECTIONS = ("namespaces", "pods", "policies", "cluster_policies", "nodes")


@st.composite
def changed(draw: st.DrawFn) -> tuple[Cluster, Cluster]:
    """A cluster, and one with some objects of another, or without some."""
    before, other = draw(tiered_clusters()), draw(tiered_clusters())
    after = before
    for field in draw(
        st.sets(st.sampled_from(["namespaces", "pods", "policies", "cluster_policies", "nodes"]), min_size=1)
    ):
        objects = dict(getattr(before, field))
        for key in draw(st.lists(st.sampled_from(sorted({*objects, *getattr(other, field)}, key=str)), max_size=3)):
            objects.pop(key, None)
            if key in getattr(other, field):
                objects[key] = getattr(other, field)[key]
        after = replace(after, **{field: objects})
    return before, after


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changed())
def test_nothing_else_changes_and_each_change_is_told(clusters: tuple[Cluster, Cluster]) -> None:
    before, after = clusters
    ends = Ends([before, after])
    old, new = Decision(before, ends), Decision(after, ends)
    affected = affected_pods(before, after)
    count = 0
    for a in range(ends.size):
        regions = [one.region(a, Direction.EGRESS) for one in (old, new)]
        told = {}
        for difference, bits in differences(*regions):
            told.update({b: difference for b in range(ends.size) if bits >> b & 1})
        for b in range(ends.size):
            one, other = at(regions[0], b), at(regions[1], b)
            assert told.get(b, (one, one)) == (one, other)
            pods = {ends.addresses[n][0] for n in (a, b) if n < len(ends.addresses)}
            if one != other:
                assert pods & affected
                count += len(pods) == 2 or max(a, b) >= len(ends.addresses)
    assert bool(reach_changes(before, after)) == bool(count)
