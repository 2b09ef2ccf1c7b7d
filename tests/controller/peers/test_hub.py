"""The layer around the hub: no exception escapes a handler or ends a thread that must live, and threads are cheap."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from controller.base.hub import HUBS, log_exceptions, run_until

# Counted, not timed: with many threads, neither log lines nor ends of threads go through the list of all of them.
MANY = """
import sys
from controller.base.hub import install
install(sys.argv[1])
import logging, threading
logging.basicConfig(level=logging.INFO, stream=open("/dev/null", "w"))
listed = 0
original = threading.enumerate
def enumerate_():
    global listed
    listed += 1
    return original()
threading.enumerate = enumerate_
go = threading.Event()
names = set()
def work():
    go.wait()
    logging.info("over")
    names.add(threading.current_thread().name)
threads = [threading.Thread(target=work, name=f"t{n}", daemon=True) for n in range(200)]
for one in threads: one.start()
go.set()
for one in threads: one.join()
assert names == {one.name for one in threads}, names
assert threading.current_thread().name == "MainThread"
print(listed)
"""


@pytest.mark.process
@pytest.mark.parametrize("hub", HUBS)
def test_no_thread_goes_through_the_list_of_all(hub: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MANY, hub], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "0", done.stderr


def test_a_handler_contains_its_exceptions(caplog: pytest.LogCaptureFixture) -> None:
    @log_exceptions
    def handler(number: int) -> None:
        raise ValueError(f"number {number}")

    handler(5)
    assert "number 5" in caplog.text
    assert handler.__name__ == "handler"  # os-ken marks handlers, and names them


def test_a_thread_that_must_live_goes_on_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.base.hub._REST_SECONDS", 0.001)
    ended, calls = threading.Event(), []

    def work() -> None:
        calls.append(1)
        if len(calls) == 3:
            ended.set()
        raise RuntimeError("again")

    thread = threading.Thread(target=run_until(ended, work), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(calls) == 3
