"""Every connection that an example speaks of is decided as the example says, by the reference semantics."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cluster.model import Cluster, Key, Protocol
from flows.cluster.net import parse_address
from flows.policy.probe import EndpointName, probe_between
from flows.policy.verdict import verdict
from tests.helpers.examples import EXAMPLES, EXAMPLES_LAB, Connection, cluster_of, connections
from topology.spec.address import plan_endpoints
from topology.spec.load import load_topology

examples = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)


def end(text: str) -> EndpointName:
    return Key(*text.split("/")) if "/" in text else parse_address(text)


def decide(cluster: Cluster, connection: Connection) -> tuple[bool, str]:
    """Whether it is allowed over every family that both ends have, and why, in words."""
    allowed, words = set(), []
    for version in (4, 6):
        ends = end(connection.source), end(connection.destination)
        if any(not isinstance(one, Key | str) and one.version != version for one in ends):
            continue
        answer = verdict(
            cluster, probe_between(cluster, *ends, Protocol[connection.protocol], connection.port, version)
        )
        allowed.add(answer.allowed)
        words += answer.explain()
    (only,) = allowed
    return only, "\n".join(words)


def test_there_are_ten_examples_numbered_without_gaps() -> None:
    assert [int(path.name[:2]) for path in EXAMPLES] == list(range(1, len(EXAMPLES) + 1))
    assert len(EXAMPLES) >= 10
    assert [path.name for path in EXAMPLES if not (path / "README.md").is_file()] == []


@examples
def test_every_connection_is_decided_as_the_example_says(example: Path) -> None:
    cluster = cluster_of(example)
    for connection in connections(example):
        allowed, words = decide(cluster, connection)
        assert allowed is connection.allowed, f"{connection}:\n{words}"


@examples
def test_an_example_shows_something_allowed_and_something_denied(example: Path) -> None:
    assert {connection.allowed for connection in connections(example)} == {True, False}


@examples
def test_pods_are_where_the_examples_lab_has_them(example: Path) -> None:
    topology = load_topology(EXAMPLES_LAB)
    endpoints, nodes = plan_endpoints(topology), {pod.key: pod.node for pod in topology.pods}
    for pod in cluster_of(example).pods.values():
        addresses = endpoints[str(pod.key)].addresses.values()
        assert set(pod.addresses) == set(map(parse_address, addresses))
        assert pod.node == nodes[str(pod.key)]
