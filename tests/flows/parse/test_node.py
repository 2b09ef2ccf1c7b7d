"""Node objects: addresses, ranges of pods, and the time of creation; from valid and from absurd JSON."""

from __future__ import annotations

from typing import Any

import pytest

from flows.cluster.model import Node
from flows.cluster.net import parse_network
from flows.parse.objects import FieldError, parse_node


def read_node(spec: Any = None, **metadata: Any) -> tuple[Node, list[str]]:
    """The Node, and the fields that are in error."""
    errors: list[FieldError] = []
    node = parse_node({"metadata": {"name": "n1", **metadata}, "spec": spec}, errors)
    return node, [str(error) for error in errors]


def test_a_node_has_a_range_of_each_family() -> None:
    node, errors = read_node({"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"], "podCIDR": "10.244.1.0/24"})
    assert node.pod_cidrs == (parse_network("10.244.1.0/24"), parse_network("fd00:10:244:1::/64"))
    assert not errors


def test_the_older_field_counts_where_the_list_is_absent() -> None:
    assert read_node({"podCIDR": "10.244.1.0/24"})[0].pod_cidrs == (parse_network("10.244.1.0/24"),)
    assert read_node({"podCIDR": ""}) == (Node("n1"), [])


def test_repetitions_are_no_error() -> None:
    assert read_node({"podCIDRs": ["10.244.1.0/24", "10.244.1.0/24"]}) == (
        Node("n1", pod_cidrs=(parse_network("10.244.1.0/24"),)),
        [],
    )


def test_a_second_range_of_a_family_is_an_error() -> None:
    node, errors = read_node({"podCIDRs": ["10.244.1.0/24", "10.244.2.0/24"]})
    assert node.pod_cidrs == (parse_network("10.244.1.0/24"),)
    assert errors == ["spec.podCIDRs[1]: 10.244.2.0/24 is a second range of IPv4; one is used"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "must be a string, not null"),
        (5, "must be a string, not the number 5; quote it"),
        (["10.0.0.0/24"], "must be a string, not a list"),
        ("10.0.0.1", "is not a range in CIDR form"),
        ("10.0.0.0/33", "is not a range in CIDR form"),
        ("x" * 5000, "is not a range in CIDR form"),
        ("10.0.0.0/24; rm -rf /", "is not a range in CIDR form"),
        ("0.0.0.0/0", "wider than /8"),
        ("::/0", "wider than /32"),
        ("127.1.0.0/16", "loopback"),
        ("224.0.0.0/8", "multicast"),
        ("ff02::/64", "multicast"),
        ("0.1.0.0/16", "this network"),
        ("169.254.72.0/24", "link-local"),
        ("fe80::/64", "link-local"),
    ],
)
def test_absurd_ranges_are_left_out_and_named(value: Any, reason: str) -> None:
    node, errors = read_node({"podCIDRs": ["10.244.1.0/24", value]})
    assert node.pod_cidrs == (parse_network("10.244.1.0/24"),)
    assert len(errors) == 1
    assert errors[0].startswith("spec.podCIDRs[1]: ")
    assert reason in errors[0]
    assert len(errors[0]) < 300


@pytest.mark.parametrize("spec", [[], "x", 7])
def test_a_spec_that_is_no_object_is_an_error(spec: Any) -> None:
    node, errors = read_node(spec)
    assert node == Node("n1")
    assert [error.partition(":")[0] for error in errors] == ["spec"]


def test_the_time_of_creation() -> None:
    assert read_node(creationTimestamp="2026-01-31T12:00:00Z")[0].created == "2026-01-31T12:00:00Z"
    assert read_node() == (Node("n1"), [])


@pytest.mark.parametrize("value", ["0", "2026-01-31T12:00:00+01:00", "2026-01-31", 5])
def test_another_time_of_creation_is_an_error(value: Any) -> None:
    node, errors = read_node(creationTimestamp=value)
    assert not node.created
    assert [error.partition(":")[0] for error in errors] == ["metadata.creationTimestamp"]
