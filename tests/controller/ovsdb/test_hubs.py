"""The same tests under eventlet, in a process of its own; the test run itself is the native hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.process

HERE = Path(__file__).parent
TESTS = (
    "test_reading.py",
    "test_managers.py",
    "test_hostile.py",
    "test_floods.py",
    "test_settings.py::test_a_new_bridge_is_set_up_and_a_restart_writes_nothing",
    "test_settings.py::test_installed_flags",
    "test_settings.py::test_ours_is_added_beside_an_operators_that_leads_elsewhere",
)


@pytest.mark.parametrize("test", TESTS)
def test_under_eventlet(test: str) -> None:
    """Each in a process of its own: a hub remembers descriptors that a test before has closed by another way."""
    runner = "tests.helpers.controller.pytest_under_hub"
    command = [sys.executable, "-W", "ignore", "-m", runner, "eventlet", str(HERE / test)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
