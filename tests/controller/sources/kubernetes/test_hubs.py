"""The same tests under eventlet, in a process of its own; the test run itself is the native hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.api_server.assets import skipped
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.process


HERE = Path(__file__).parent
TESTS = (
    "test_reading.py",
    "test_faults.py::test_connections_cut",
    "test_faults.py::test_network_away",
    "test_faults.py::test_half_open_connections_and_a_reread",
    "test_faults.py::test_server_killed_and_restarted",
    "test_events.py",
)


@pytest.mark.slow
@pytest.mark.skipif(bool(skipped()), reason=skipped())
def test_under_eventlet() -> None:
    command = [
        *(sys.executable, "-W", "ignore", "-m", "tests.helpers.controller.pytest_under_hub", "eventlet"),
        *(str(HERE / test) for test in TESTS),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
