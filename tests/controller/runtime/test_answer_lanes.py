"""Questions take one share of the machine for each lane, however many ask; and never the reconciler's lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from controller.runtime import answer_lanes
from controller.runtime.answer_lanes import compute, compute_long
from tests.helpers.cluster.page_cluster import page_cluster
from tests.helpers.controller.page_world import PageWorld
from tests.helpers.waiting import until


@pytest.mark.parametrize("lane", [compute, compute_long])
def test_one_computation_at_a_time(lane: Callable[..., None]) -> None:
    lock, running, most, done = threading.Lock(), 0, 0, 0

    def work() -> None:
        nonlocal running, most, done
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.005)
        with lock:
            running -= 1
            done += 1

    threads = [threading.Thread(target=lane, args=(work,)) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert (most, done) == (1, 20)


def test_a_computation_that_fails_leaves_its_lane() -> None:
    for lane in (compute, compute_long):
        with pytest.raises(ZeroDivisionError):
            lane(lambda: 1 // 0)
        assert lane(int, "5") == 5


def test_a_long_question_keeps_no_short_one_waiting() -> None:
    asked = threading.Event()
    long = threading.Thread(target=compute_long, args=(asked.wait, 20))
    long.start()
    assert compute(int, "5") == 5
    asked.set()
    long.join(20)


def test_flows_are_described_in_chunks_without_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    world = PageWorld(page_cluster(20))
    try:
        until(lambda: world.page.state().pod_count == 20 and all(one.installed for one in world.page.state().pods))
        sizes = []

        def described(work: Callable[..., Any], *args: object) -> Any:
            found = work(*args)
            sizes.append(len(found))
            assert world.locked.lock.acquire(timeout=10), "the event loop waits for an answer"
            world.locked.lock.release()
            return found

        monkeypatch.setattr(answer_lanes, "offload", described)
        flows, missing = world.answers.flows(None)
        listed = list(flows)
        assert not missing and len(listed) == sum(sizes) > 500
        assert max(sizes) <= 500
        for node in {one.node for one in listed}:
            order = [(one.table, -one.priority) for one in listed if one.node == node]
            assert order == sorted(order)
    finally:
        world.stop()
