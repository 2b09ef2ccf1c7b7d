"""Nodes that end with their test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.ovs.node import EventCollector, Node


@pytest.fixture
def node() -> Iterator[Node]:
    """A database and a switch with the bridge br-int."""
    one = Node()
    try:
        one.add_bridge()
        yield one
    finally:
        one.stop()


@pytest.fixture
def core() -> EventCollector:
    return EventCollector()
