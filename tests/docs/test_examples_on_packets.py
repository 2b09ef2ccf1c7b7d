"""Every example holds on real packets too, in the lab that their pages tell people to make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from tests.helpers.examples import EXAMPLES, EXAMPLES_LAB, connections, objects
from topology.errors import MissingError
from topology.host.machine import require_lab_support
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe
from topology.spec.load import load_topology

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    try:
        require_lab_support("userspace")
    except MissingError as error:
        pytest.skip(str(error))
    with TemporaryDirectory(prefix="hge-", dir="/tmp") as folder:
        made = Lab(load_topology(EXAMPLES_LAB), Path(folder))
        try:
            made.up("userspace")
            yield made
        finally:
            made.down()


def probes(lab: Lab, example: Path) -> dict[LabProbe, bool]:
    """What the example expects of each probe, over every family that it is about."""
    machines = {
        address: (name, family)
        for name, endpoint in lab.endpoints.items()
        for family, address in endpoint.addresses.items()
    }
    found = {}
    for one in connections(example):
        ends = [machines.get(text, (text, None)) for text in (one.source, one.destination)]
        families = {family for _, family in ends if family} or {4, 6}
        for family in families:
            found[LabProbe(ends[0][0], ends[1][0], one.protocol, one.port, family)] = one.allowed
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example(example: Path, lab: Lab) -> None:
    expected = probes(lab, example)
    try:
        lab.apply(yaml.safe_dump_all([item for item in objects(example) if item["kind"] != "Pod"]))
        seen = lab.run_probes(sorted(expected), (0.5,), lambda probe: expected[probe])
        assert {probe: outcome.reachable for probe, outcome in seen.results.items()} == expected
    finally:
        lab.reset()
