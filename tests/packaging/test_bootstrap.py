"""A target states what it needs before anything is installed for it."""

from __future__ import annotations

import os
import re
import subprocess
import time

import pytest

from tests.helpers.paths import ROOT

NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else to try")
def test_need_of_root_is_said_at_once() -> None:
    began = time.monotonic()
    # Through standard input: the other user may not be able to read this checkout.
    text = (ROOT / "scripts" / "bootstrap").read_text().replace('cd "$(dirname "$0")/.."', "cd /")
    command = ["sh", "-s", "--", "--lab", "--root"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, user=NOBODY, cwd="/")
    assert done.returncode == 1
    assert done.stderr == "headgate: this needs root, to make network namespaces and switches: run it with sudo\n"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("target", ["demo", "test", "performance"])
def test_targets_that_need_root_ask_for_it_first(target: str) -> None:
    recipe = re.search(rf"^{target}:.*\(?.*needs root.*\n\t(.*)\n", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert recipe[1].startswith("@scripts/bootstrap ")
    assert "--root" in recipe[1].split()
