"""The machine's own sh reads every shell script. shellcheck, which knows them better, takes words that dash refuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.helpers.paths import ROOT

_NOT_OURS = {".git", ".venv", "build", "dist"}


def _scripts() -> list[Path]:
    found = []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if Path(folder) != ROOT or name not in _NOT_OURS]
        for path in (Path(folder, name) for name in names if Path(name).suffix in ("", ".sh")):
            with path.open("rb") as file:
                if file.readline().rstrip() == b"#!/bin/sh":
                    found.append(path)
    return found


def test_sh_reads_every_shell_script() -> None:
    scripts = _scripts()
    assert ROOT / "tests" / "upstream" / "build" in scripts
    refused = []
    for path in scripts:
        done = subprocess.run(["sh", "-n", path], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            refused.append(done.stderr.strip())
    assert not refused
