"""Every scenario file can be read, and none of its statements says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from topology.errors import TopologyError
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe
from topology.scenarios.model import load_scenario, scenario_names, unused_statements

RECIPES = ["01", "02", "02a", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "14"]


def test_all_well_known_ones_are_there() -> None:
    assert {f"recipe-{number}" for number in RECIPES} | {"tenant", "three-tier"} <= set(scenario_names())


@pytest.mark.parametrize("name", scenario_names())
def test_every_statement_is_about_something(name: str) -> None:
    scenario = load_scenario(name)
    lab = Lab(scenario.topology)
    assert unused_statements(scenario, lab.probes(nodes=scenario.nodes, icmp=scenario.icmp)) == []


def test_the_last_statement_that_fits_counts() -> None:
    scenario = load_scenario("tenant")
    step = scenario.steps[2]
    front, back = "tenant-a/frontend", "tenant-a/backend"
    assert scenario.allowed(step, LabProbe(front, back, "TCP", 80, 4))
    assert not scenario.allowed(step, LabProbe(front, back, "TCP", 5432, 4))
    assert not scenario.allowed(step, LabProbe(front, back, "UDP", 80, 6))
    assert not scenario.allowed(step, LabProbe("tenant-b/frontend", back, "TCP", 80, 4))
    assert scenario.allowed(step, LabProbe(back, "tenant-b/frontend", "TCP", 80, 4))


def test_a_pod_reaches_itself_and_its_node_reaches_it() -> None:
    scenario = load_scenario("tenant")
    step = scenario.steps[1]
    back = "tenant-a/backend"
    assert scenario.allowed(step, LabProbe(back, back, "TCP", 80, 4))
    assert scenario.allowed(step, LabProbe("node:node-2", back, "TCP", 80, 4))
    assert not scenario.allowed(step, LabProbe("node:node-1", back, "TCP", 80, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be a mapping"),
        ("a: [", "not YAML"),
        ("title: t\nabout: a\ntopology: nowhere\nsteps: []", r"nowhere\.yaml: No such file"),
        ("title: t\nabout: a\ntopology: {}\nsteps: []", "topology: nodes: "),
        (
            "title: t\nabout: a\ntopology: {nodes: [{name: n}]}\nsteps: [{say: s, expect: [{}]}]",
            "give either allow or deny",
        ),
        (
            "title: t\nabout: a\ntopology: {nodes: [{name: n}]}\nsteps: [{say: s, expect: [{deny: {form: x}}]}]",
            "no such key",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "broken.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TopologyError, match=message) as caught:
        load_scenario("broken", tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
