"""Sixty pods at once on one node: each gets addresses of its own, and their removal at once leaves nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from tests.helpers.node.cni_node import NOTHING, CniNode, cni_node, finish

pytestmark = [pytest.mark.lab, pytest.mark.switch, pytest.mark.process, pytest.mark.slow]
PODS = [f"c{number}" for number in range(60)]


@pytest.fixture(scope="module")
def node() -> Iterator[CniNode]:
    with cni_node() as node:
        yield node


def test_sixty_at_once(node: CniNode, record_property: Callable[[str, object], None]) -> None:
    for name in PODS:
        node.container(name)
    start = time.monotonic()
    answers = [finish(process) for process in [node.start("ADD", name, timeout=120) for name in PODS]]
    record_property("counted", f"60 pods attached after {time.monotonic() - start:.1f} s")
    assert [answer.status for answer in answers] == [0] * len(PODS), [a for a in answers if a.status]
    addresses = [entry["address"] for answer in answers for entry in answer.result["ips"]]
    assert len(set(addresses)) == 2 * len(PODS)
    left = node.left()
    assert [len(left[kind]) for kind in ("ports", "links", "addresses", "records")] == [60, 60, 120, 60]
    gone = [finish(process) for process in [node.start("DEL", name, timeout=120) for name in PODS]]
    assert {answer.status for answer in gone} == {0} and node.left() == NOTHING


def test_one_after_the_other(node: CniNode, record_property: Callable[[str, object], None]) -> None:
    taken = []
    for _ in range(10):
        start = time.monotonic()
        assert node.call("ADD").status == 0
        taken.append(time.monotonic() - start)
        assert node.call("DEL").status == 0
    record_property("counted", f"one pod attached after {1000 * statistics.median(taken):.0f} ms, without a controller")
