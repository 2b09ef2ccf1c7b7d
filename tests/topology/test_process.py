"""Processes of a lab are started and ended."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from topology.host import process

BEYOND_SELECT = 1100


@pytest.mark.process
def test_a_process_with_very_many_descriptors_starts_and_ends_others(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(BEYOND_SELECT)]
    try:
        process.start(tmp_path, "sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "log")
        assert process.end(tmp_path) == 1
        assert not process.find(tmp_path)
    finally:
        for one in kept:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
