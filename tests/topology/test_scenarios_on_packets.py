"""Every scenario holds on real packets, with the product in the lab; labs of one topology are shared, and left as
they were."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from topology.errors import MissingError
from topology.host.machine import require_lab_support
from topology.lab.lab import Lab
from topology.scenarios.check import run_scenario
from topology.scenarios.model import Scenario, load_scenario, scenario_names

pytestmark = [pytest.mark.lab, pytest.mark.slow]


class Labs:
    """Labs that are up, one for each topology."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._up: dict[str, Lab] = {}

    def of(self, scenario: Scenario) -> Lab:
        """The lab of the scenario's topology, made now if there is none yet."""
        name = scenario.topology.name
        if name not in self._up:
            lab = Lab(scenario.topology, self._base)
            lab.up()
            self._up[name] = lab
        return self._up[name]

    def down(self) -> None:
        """Take all down."""
        for lab in self._up.values():
            lab.down()


@pytest.fixture(scope="module")
def labs() -> Iterator[Labs]:
    try:
        require_lab_support("userspace")
    except MissingError as error:
        pytest.skip(str(error))
    with tempfile.TemporaryDirectory(prefix="hgl-", dir="/tmp") as folder:
        made = Labs(Path(folder) / "labs")
        yield made
        made.down()


@pytest.mark.parametrize("name", scenario_names())
def test_scenario(name: str, labs: Labs) -> None:
    scenario = load_scenario(name)
    lab = labs.of(scenario)
    try:
        for result in run_scenario(scenario, lab):
            assert result.passed, f"{name}, {result.step.say}:\n" + "\n".join(result.lines())
    finally:
        lab.reset()
