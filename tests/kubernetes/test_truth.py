"""Every truth table with the API server as source, driven with kubectl.

After each step the world that Headgate reads is the one that manifests give, and its verdicts are the table's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.model import Cluster
from tests.kubernetes.reader import Reader
from tests.kubernetes.server import ApiServer
from tests.truth.cases import CASES, Case
from tests.truth.paper import PaperCluster
from tests.truth.test_tables import wrong
from tests.truth.world import NAMESPACES, paper_world

pytestmark = pytest.mark.slow
WORLD = paper_world()


@pytest.fixture(scope="module")
def table_reader(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A source that reads an API server which has the world of the tables."""
    manifests = WORLD.manifests()
    api.apply(manifests)
    api.apply_status(manifests)
    with Reader(api.credentials(tmp_path_factory.mktemp("tables"))) as one:
        one.wait_synced()
        yield one
    api.delete(manifest for manifest in manifests if manifest["kind"] in ("Pod", "Node"))


def comparable(cluster: Cluster) -> Cluster:
    """What of the world belongs to the tables, without UIDs, which only an API server gives."""
    return Cluster(
        {name: one for name, one in cluster.namespaces.items() if name in NAMESPACES},
        {key: replace(pod, uid="") for key, pod in cluster.pods.items() if key.namespace in NAMESPACES},
        {name: one for name, one in cluster.nodes.items() if name in WORLD.nodes},
        {key: one for key, one in cluster.policies.items() if key.namespace in NAMESPACES},
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_table(api: ApiServer, table_reader: Reader, case: Case) -> None:
    paper = PaperCluster(WORLD.manifests())
    for step in (*case.steps(WORLD), case.cleanup(WORLD)):
        for manifest in step.delete:
            paper.delete_policy(manifest)
        for manifest in step.apply:
            paper.apply(manifest)
        if step.delete:
            api.delete(step.delete)
        if step.apply:
            api.apply(step.apply)
        found = comparable(table_reader.reread())
        assert found == comparable(paper.snapshot()), step.why
        for check in step.checks:
            assert wrong(found, WORLD, check) == [], f"{step.why} {check}"
