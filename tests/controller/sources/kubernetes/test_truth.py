"""Every truth table with the API server as source, driven with kubectl, on real packets.

After each step the world that Headgate reads is the one that manifests give, and every probe as the table says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.cluster.model import Cluster, Node
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.kubernetes_source import RunningSource
from tests.helpers.lab.truth_lab import NODES, world_lab, world_of
from tests.helpers.lab.truth_table_run import play
from tests.helpers.truth.cases import CASES, Case
from tests.helpers.truth.layout import NAMESPACES
from tests.helpers.truth.paper_cluster import PaperCluster
from topology.lab.lab import Lab
from topology.lab.manifests import cluster_objects

pytestmark = [pytest.mark.lab, pytest.mark.slow]
DEFINITIONS = Path(__file__).parents[3] / "helpers/api_server/crds/clusternetworkpolicies.yaml"


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the kubeconfig that Headgate has."""
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def lab(api: ApiServer, credentials: Path) -> Iterator[Lab]:
    """A lab of the tables' world whose objects are in the API server."""
    api.kubectl("apply", "--server-side", "-f", str(DEFINITIONS))
    api.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(DEFINITIONS))
    try:
        with world_lab(cluster=api.cluster(credentials)) as one:
            yield one
            objects = cluster_objects(one.topology, one.endpoints)
            one.objects.delete(item for item in objects if item["kind"] != "Namespace")
    finally:
        api.kubectl("delete", "-f", str(DEFINITIONS))


@pytest.fixture(scope="module")
def table_reader(lab: Lab) -> Iterator[RunningSource]:
    """The source by itself, with the same rights, beside the lab's controller."""
    assert lab.cluster is not None
    with RunningSource(lab.cluster.kubeconfig) as one:
        one.wait_synced()
        yield one


def comparable(cluster: Cluster) -> Cluster:
    """What of the world belongs to the tables, without UIDs, which only an API server gives, and host names' labels,
    which only a lab's Nodes have."""
    return Cluster(
        {name: one for name, one in cluster.namespaces.items() if name in NAMESPACES},
        {key: pod._replace(uid="") for key, pod in cluster.pods.items() if key.namespace in NAMESPACES},
        {name: _without_host_name(one) for name, one in cluster.nodes.items() if name in NODES},
        {key: one for key, one in cluster.policies.items() if key.namespace in NAMESPACES},
    )


def _without_host_name(node: Node) -> Node:
    labels = {key: value for key, value in node.labels.items() if key != "kubernetes.io/hostname"}
    return replace(node, created="", labels=labels)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_table(lab: Lab, table_reader: RunningSource, case: Case) -> None:
    paper = PaperCluster(world_of(lab).manifests())
    probes = 0
    for step, count, wrong in play(lab, case):
        for manifest in step.delete:
            paper.delete_policy(manifest)
        for manifest in step.apply:
            paper.apply(manifest)
        assert comparable(table_reader.reread()) == comparable(paper.snapshot()), step.why
        probes += count
        assert wrong == [], f"{case}, {step.why}:\n" + "\n".join(wrong)
    assert probes > 0
