"""deploy/node.sh that dies at any of its steps: the undo takes all of it back, and another run makes a whole node.

So does an undo that dies and is run again. A step is a call of ovs-vsctl, ip or nft, by the scripts or by
headgate-node. The process that makes the chosen one is killed instead.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.cni_node import CniNode, made_cni_node, with_controller
from tests.deploy.machine import NODE, UNDO, UPLINK
from tests.helpers.lab.datapath_choice import DATAPATH_TYPE

pytestmark = [pytest.mark.lab, pytest.mark.slow]

PROGRAMS = ("ovs-vsctl", "ip", "nft")
OPTIONS = ("--datapath", DATAPATH_TYPE, "--controller", "198.51.100.1", "--name", "n1", "--cni", "--underlay", UPLINK)
STRIDE = 4  # every so many steps one is tried: all would take minutes
_SHIM = """#!/bin/sh
echo x >>{count}
[ "$(wc -l <{count})" -ne "{at}" ] || kill -9 $PPID
exec {program} "$@"
"""


@pytest.fixture
def node() -> Iterator[CniNode]:
    with made_cni_node() as made:
        yield made


class Shims:
    """Programs of the same names, first on the search path, that count calls and end the caller of one."""

    def __init__(self, node: CniNode) -> None:
        self._node = node
        self._folder = node.machine.folder / "shims"
        self._count = node.machine.folder / "count"
        self._folder.mkdir()

    def run(self, script: Path, at: int, *options: str) -> int:
        """Run a script, killed at the step `at` (0: never). Returns how many steps there were."""
        self._count.write_text("")
        for name in PROGRAMS:
            shim = self._folder / name
            shim.write_text(_SHIM.format(count=self._count, at=at, program=shutil.which(name)))
            shim.chmod(0o755)
        path = f"{self._folder}:/usr/sbin:/usr/bin:/sbin:/bin"
        done = self._node.machine.script(script, *options, **self._node.env, PATH=path)
        assert done.returncode == 0 or at, done.stderr
        return len(self._count.read_text().split())


def test_a_set_up_that_dies_anywhere_is_undone_or_ended(node: CniNode) -> None:
    with_controller(node)
    before, network, files = node.machine.everything(), node.network(), node.files()
    shims = Shims(node)
    steps = shims.run(NODE, 0, *OPTIONS)
    made, written = node.network(), node.files()
    assert steps > 30
    node.undo()
    for turn, at in enumerate(range(1, steps + 1, STRIDE)):
        node.write_facts()  # the undo removes them
        shims.run(NODE, at, *OPTIONS)
        if turn % 3 == 0:  # the next run ends it
            shims.run(NODE, 0, *OPTIONS)
            assert (node.network(), node.files()) == (made, written), at
        elif turn % 3 == 1:  # the undo dies as well
            shims.run(UNDO, at // 2 + 1)
        if node.machine.state.exists():
            node.undo()
        assert node.machine.everything() == before, at
        assert (node.network(), _without_state(node.files())) == (network, _without_state(files)), at


def _without_state(files: list[str]) -> list[str]:
    return [one for one in files if Path(one).name != "node.lock"]
