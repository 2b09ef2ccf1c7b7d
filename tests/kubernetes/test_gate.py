"""What is held back while watches are behind, and for how long; without a server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from controller.sources import kubernetes_gate
from controller.sources.kubernetes_gate import Gate, Units


class Opened(list[Units]):
    """What the gate let through, and the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(self.append)

    def wait(self, count: int) -> None:
        end = time.monotonic() + 30
        while len(self) < count:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def opened() -> Iterator[Opened]:
    one = Opened()
    one.gate.start()
    yield one
    one.gate.stop()


def test_nothing_is_held_while_nothing_is_behind(opened: Opened) -> None:
    opened.gate.put({"a": None})
    opened.gate.put({"b": None})
    assert opened == [{"a": None}, {"b": None}]


def test_what_was_missed_comes_together(opened: Opened) -> None:
    opened.gate.lost("pods")
    opened.gate.lost("policies")
    opened.gate.back("pods")
    opened.gate.put({"pod": None})
    opened.gate.back("policies")
    opened.gate.put({"policy": None})
    assert not opened
    opened.wait(1)
    assert opened == [{"pod": None, "policy": None}]


def test_one_that_is_lost_again_at_once_is_waited_for(opened: Opened) -> None:
    """A watch that opens only to say that it cannot go on: everything is listed then."""
    opened.gate.lost("policies")
    opened.gate.back("policies")
    opened.gate.put({"pod": None})
    opened.gate.lost("policies")
    time.sleep(2 * kubernetes_gate.SETTLE_SECONDS)
    assert not opened
    opened.gate.put({"policy": None})
    opened.gate.back("policies")
    opened.wait(1)
    assert opened == [{"pod": None, "policy": None}]


def test_one_that_stays_away_holds_up_once(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_gate, "HOLD_SECONDS", 0.1)
    opened.gate.lost("nodes")
    opened.gate.put({"pod": None})
    assert not opened
    opened.wait(1)
    opened.gate.lost("nodes")  # every try of it fails
    opened.gate.put({"other": None})
    assert len(opened) == 2
    opened.gate.back("nodes")
    opened.gate.lost("nodes")
    opened.gate.put({"third": None})
    assert len(opened) == 2


def test_flush(opened: Opened) -> None:
    opened.gate.lost("pods")
    opened.gate.put({"pod": None})
    opened.gate.flush()
    assert opened == [{"pod": None}]
