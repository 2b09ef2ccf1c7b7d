"""A node that comes and goes, and many pods at once."""

from __future__ import annotations

from tests.cluster.workload import SCHEDULE_SECONDS, WEB, Workload, each, eventually

MANY = 60


def test_a_node_is_added_and_removed(work: Workload) -> None:
    added = work.cluster.add_node()
    try:
        work.cluster.wait_ready()
        work.pod("old", "n1")
        work.pod("new", added.name)
        work.wait_ready()
        for address in work.addresses("new"):
            assert work.reaches("old", address, WEB)
        for address in work.addresses("old"):
            assert work.reaches("new", address, WEB)
        address = str(work.service("new", "new")["clusterIP"])
        eventually(lambda: work.reaches("old", address), address)
        work.kubectl.run("-n", work.namespace, "delete", "pod", "new")
    finally:
        work.cluster.remove_node()
    eventually(lambda: added.addresses[0] not in _flows(work), "no flows of it are left")


def _flows(work: Workload) -> str:
    return " ".join(node.check("ovs-ofctl", "dump-flows", "br-int") for node in work.cluster.nodes)


def test_many_pods_start_at_once(work: Workload) -> None:
    """Policy is there first: no pod is ever reached by who may not."""
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]}
    meta = {"name": "own-namespace"}
    work.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
    names = [f"pod-{number}" for number in range(MANY)]
    for name in names:
        work.pod(name, container={"readinessProbe": None})
    work.wait_ready(seconds=2 * SCHEDULE_SECONDS)
    targets = [work.addresses(name) for name in names[::10]]
    each([work.reaches(names[1], address, WEB) for found in targets for address in found], "pods reach each other")
