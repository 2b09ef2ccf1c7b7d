"""Threads whose start does not wait: a listener starts hundreds of them in a turn."""

from __future__ import annotations

import subprocess
import sys

import pytest

_MANY = """
from controller.base.hub import install
install({hub!r})
import threading, time
from controller.base.threads import PromptThread

ran, turns, stopping = [], [0], threading.Event()

def count():  # a thread that always can run
    while not stopping.is_set():
        turns[0] += 1
        time.sleep(0)

other = threading.Thread(target=count, daemon=True)
other.start()
threads = [PromptThread(ran.append, f"one-{{number}}", (number,)) for number in range(200)]
before = turns[0]
for one in threads:
    one.start()
if {hub!r} == "eventlet":
    assert turns[0] == before, "another thread had a turn"
for one in threads:
    one.join(30)
assert sorted(ran) == list(range(200)) and not any(one.is_alive() for one in threads)
stopping.set()
"""


@pytest.mark.process
@pytest.mark.parametrize("hub", ["eventlet", "native"])
def test_starting_many_threads_gives_no_turn_away(hub: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MANY.format(hub=hub)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
