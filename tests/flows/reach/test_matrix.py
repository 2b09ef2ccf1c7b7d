"""The matrix at every level equals what all verdicts between pods say together; and its cost is a sum."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster, Direction
from flows.reach.bits import numbers_of
from flows.reach.decision import Decision
from flows.reach.matrix import Level, Matrix
from flows.reach.ports import NOTHING, Ports, union
from flows.reach.regions import at
from tests.helpers.cluster.generated_clusters import clusters
from tests.helpers.cluster.generated_tiers import tiered_clusters

WORKLOADS = (["Deployment/a"], ["Deployment/a", "", "Job/b"])


def by_pairs(decision: Decision, matrix: Matrix, source: int, destination: int) -> tuple[Ports, bool]:
    """A cell out of every pair of ends: the union of ports, and whether all pairs are equal."""
    ends = decision.ends
    found = []
    one, other = matrix.groups[source], matrix.groups[destination]
    for a, b in product(range(one.first, one.end), range(other.first, other.end)):
        outside = [n >= len(ends.addresses) for n in (a, b)]
        if ends.version_of(a) != ends.version_of(b) or all(outside):
            continue
        if not any(outside) and ends.addresses[a][0] == ends.addresses[b][0]:
            continue
        found.append(at(decision.region(a, Direction.EGRESS), b))
    whole = NOTHING
    for ports in found:
        whole = union(whole, ports)
    return whole, len(set(found)) <= 1


def with_workloads(cluster: Cluster, names: list[str]) -> Cluster:
    pods = {
        key: pod._replace(workload=names[n % len(names)]) for n, (key, pod) in enumerate(sorted(cluster.pods.items()))
    }
    return replace(cluster, pods=pods)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(clusters(), tiered_clusters()),
    st.sampled_from(WORKLOADS),
    st.sampled_from(list(Level)),
)
def test_every_cell_is_what_all_its_pairs_are(cluster: Cluster, names: list[str], level: Level) -> None:
    decision = Decision(with_workloads(cluster, names))
    matrix = Matrix(decision, level)
    cells: dict[tuple[int, int], tuple[Ports, bool]] = {}
    for block in matrix.blocks():
        for pair in product(numbers_of(block.sources), numbers_of(block.destinations)):
            assert pair not in cells
            cells[pair] = block.ports, block.complete
    for source, destination in product(range(len(matrix.groups)), repeat=2):
        if source == destination and matrix.groups[source].pods < 2:
            continue
        expected = by_pairs(decision, matrix, source, destination)
        assert cells.get((source, destination), (NOTHING, True)) == expected
