"""Situations in which other network plugins went wrong, by public reports: each holds here, on real packets.

They are scenarios like those of `headgate lab scenario`, and stand here because nobody learns policies from them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from topology.errors import MissingError
from topology.host.machine import require_lab_support
from topology.lab.lab import Lab
from topology.scenarios.check import run_scenario
from topology.scenarios.model import load_scenario, scenario_names

pytestmark = [pytest.mark.lab, pytest.mark.slow]

SITUATIONS = Path(__file__).with_name("situations")


@pytest.mark.parametrize("name", scenario_names(SITUATIONS))
def test_situation(name: str) -> None:
    try:
        require_lab_support("userspace")
    except MissingError as error:
        pytest.skip(str(error))
    scenario = load_scenario(name, SITUATIONS)
    with tempfile.TemporaryDirectory(prefix="hgl-", dir="/tmp") as folder:
        lab = Lab(scenario.topology, Path(folder) / "labs")
        lab.up()
        try:
            for result in run_scenario(scenario, lab):
                assert result.passed, f"{name}, {result.step.say}:\n" + "\n".join(result.lines())
        finally:
            lab.down()
