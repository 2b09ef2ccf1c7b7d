"""Where a node keeps its state: nodes that share a file system do not share that."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

CODE = "from node.host_settings import state_folder; print(state_folder())"


def folder(*before: str, **environment: str) -> str:
    command = [*before, sys.executable, "-c", CODE]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.process
def test_the_variable_comes_first() -> None:
    assert folder(HEADGATE_NODE_STATE="/somewhere") == "/somewhere"


@pytest.mark.lab
def test_a_namespace_has_a_folder_of_its_own() -> None:
    own = folder(
        "unshare", "--uts", "sh", "-c", 'hostname node-7; exec "$@"', "sh", PATH="/usr/sbin:/usr/bin:/sbin:/bin"
    )
    assert own == "/var/lib/headgate-node/node-7"
