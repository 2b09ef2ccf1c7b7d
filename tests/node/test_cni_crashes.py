"""The plugin is killed between any two of its steps; then nothing is lost and nothing is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from node.steps import KILL_AT
from tests.helpers.node.cni_node import NOTHING, Answer, CniNode, cni_node

pytestmark = [pytest.mark.lab, pytest.mark.switch, pytest.mark.process, pytest.mark.slow]
MANY = 100  # more steps than a command has


@pytest.fixture(scope="module")
def node() -> Iterator[CniNode]:
    with cni_node() as node:
        yield node


def killed(node: CniNode, command: str, step: int) -> bool:
    """Run a command that kills itself at a step; False if it has fewer steps."""
    answer = node.call(command, env={KILL_AT: str(step)})
    assert answer.status in (0, -signal.SIGKILL), answer
    return answer.status != 0


def succeeded(answer: Answer) -> Answer:
    assert answer.status == 0, answer
    return answer


def test_add_is_killed_then_deleted(node: CniNode) -> None:
    steps = 0
    while killed(node, "ADD", steps + 1):
        steps += 1
        succeeded(node.call("DEL"))
        assert node.left() == NOTHING, steps
        assert steps < MANY
    succeeded(node.call("DEL"))
    assert steps > 8 and node.left() == NOTHING


def test_add_is_killed_and_comes_again(node: CniNode) -> None:
    step = 1
    while killed(node, "ADD", step):
        again = node.call("ADD")
        if again.status:  # it was complete, but for its answer
            assert again.result["code"] == 4, again
            succeeded(node.call("DEL"))
            again = succeeded(node.call("ADD"))
        succeeded(node.call("CHECK", prevResult=again.result))
        left = node.left()
        assert [len(left[kind]) for kind in sorted(left)] == [2, 1, 1, 1], (step, left)
        succeeded(node.call("DEL"))
        step += 1
    succeeded(node.call("DEL"))
    assert node.left() == NOTHING


def test_add_is_killed_and_the_container_goes_before_garbage_is_collected(node: CniNode) -> None:
    step = 1
    while killed(node, "ADD", step):
        node.end_container("c1")
        succeeded(node.call("GC", "c2", **{"cni.dev/valid-attachments": []}))
        assert node.left() == NOTHING, step
        step += 1
    succeeded(node.call("DEL"))


def test_delete_is_killed_and_comes_again(node: CniNode) -> None:
    step, more = 1, True
    while more:
        succeeded(node.call("ADD"))
        more = killed(node, "DEL", step)
        succeeded(node.call("DEL"))
        assert node.left() == NOTHING, step
        step += 1
    assert step > 5


def test_another_pod_is_not_touched(node: CniNode) -> None:
    other = succeeded(node.call("ADD", "c2"))
    step = 1
    while killed(node, "ADD", step):
        succeeded(node.call("CHECK", "c2", prevResult=other.result))
        step += 3
        succeeded(node.call("DEL"))
    succeeded(node.call("DEL"))
    succeeded(node.call("CHECK", "c2", prevResult=other.result))
    succeeded(node.call("DEL", "c2"))
    assert node.left() == NOTHING
