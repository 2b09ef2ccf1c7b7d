"""A replica's own wall clock jumps as it is set, and nothing else of time does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.wall_clock import WallClock, can_build

TELL = """
import sys, time
from datetime import datetime
for _ in sys.stdin:
    began = time.monotonic()
    time.sleep(0.05)
    print(time.time(), datetime.now().timestamp(), time.monotonic(), time.monotonic() - began, flush=True)
"""


@pytest.mark.process
@pytest.mark.skipif(not can_build(), reason="no C compiler here")
def test_a_wall_clock_jumps_and_waits_do_not(tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    environment = {**os.environ, **clock.environment}
    command = [sys.executable, "-c", TELL]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as told:
        assert told.stdin is not None and told.stdout is not None

        def ask() -> list[float]:
            assert told.stdin is not None and told.stdout is not None
            told.stdin.write("\n")
            told.stdin.flush()
            return [float(one) for one in told.stdout.readline().split()]

        before = ask()
        for ahead in (3600, -3600, 0):
            clock.set(ahead)
            wall, of_datetime, monotonic, waited = ask()
            passed = monotonic - before[2]
            assert wall - before[0] - passed == pytest.approx(ahead, abs=30)
            assert of_datetime == pytest.approx(wall, abs=30)
            assert 0 <= passed < 600 and 0.05 <= waited < 30
        told.stdin.close()
