"""The cluster of these specs, and when they are skipped.

HEADGATE_CLUSTER_TEST says what runs: `all`, or `short` for those that are marked so; without it nothing does, because a
cluster takes a minute to come up and the whole machine's attention.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster.workload import Workload
from topology.cluster.cluster import Cluster
from topology.cluster.needs import require_cluster_support
from topology.errors import MissingError
from topology.host.machine import choose_datapath

VARIABLE = "HEADGATE_CLUSTER_TEST"
NAME = "test"


def _skipped() -> str:
    """Why nothing runs, "" if it does."""
    if os.environ.get(VARIABLE) not in ("all", "short"):
        return "runs with `make cluster-test`"
    try:
        require_cluster_support(choose_datapath("auto"))
    except MissingError as error:
        return str(error)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of this folder, and leave out those that the short form does not run."""
    own = [item for item in items if item.nodeid.startswith("tests/cluster/")]
    reason = _skipped() if own else ""
    for item in own:
        item.add_marker(pytest.mark.cluster)
        item.add_marker(pytest.mark.timeout(900))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
        elif os.environ[VARIABLE] == "short" and "test_short.py" not in item.nodeid:
            item.add_marker(pytest.mark.skip(reason="not in the short form"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of two nodes, without what an earlier run has left."""
    made = Cluster(NAME)
    made.down()
    made.up()
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def work(cluster: Cluster) -> Iterator[Workload]:
    """A namespace of the test's own, deleted after it."""
    made = Workload(cluster)
    try:
        yield made
    finally:
        made.delete()
