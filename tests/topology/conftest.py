"""What the lab's tests share: a folder for labs that is empty again afterwards, and labs without a controller."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from topology.errors import MissingError
from topology.host.machine import require_lab_support
from topology.lab.lab import Lab
from topology.spec.load import check_topology

SMALL: dict[str, Any] = {
    "nodes": [{"name": "one"}, {"name": "two"}],
    "ports": [80, "80/UDP", "80/SCTP"],
    "namespaces": [{"name": "x"}],
    "pods": [
        {"namespace": "x", "name": "a", "node": "one"},
        {"namespace": "x", "name": "b", "node": "two", "ports": ["80/TCP", "80/UDP", "80/SCTP", 81]},
    ],
    "externals": [{"name": "world"}],
}
MakeLab = Callable[..., Lab]


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder for labs. Its path is short: sockets inside have a limit."""
    path = Path(tempfile.mkdtemp(prefix="hgl-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_lab(base: Path) -> Iterator[MakeLab]:
    """Makes labs of topology data (SMALL if none is given), not up yet; they are taken down whatever happens."""
    try:
        require_lab_support("userspace")
    except MissingError as error:
        pytest.skip(str(error))
    made: list[Lab] = []

    def make(data: dict[str, Any] | None = None, name: str = "t") -> Lab:
        lab = Lab(check_topology(SMALL if data is None else data, "test", name), base)
        made.append(lab)
        return lab

    yield make
    for lab in made:
        lab.down()


def open_switches(lab: Lab) -> None:
    """Let everything through, as learning switches do."""
    for node in lab.nodes.values():
        node.ofctl("add-flow", "actions=NORMAL")


def close_switches(lab: Lab) -> None:
    """Let nothing through."""
    for node in lab.nodes.values():
        node.ofctl("del-flows")
        node.appctl("revalidator/wait")  # until then the datapath goes by what it has cached
