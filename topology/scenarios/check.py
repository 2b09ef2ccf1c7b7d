"""Runs a scenario in a running lab: after each step, every probe must have the expected outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import yaml

from topology.lab.lab import REALIZE_SECONDS, Lab
from topology.probe.matrix import LabProbe, Matrix, Outcome
from topology.scenarios.model import Scenario, ScenarioStep

Realize = Callable[[], None]


@dataclass(frozen=True)
class StepResult:
    """The result of one step. `wrong` has the probes with an unexpected outcome."""

    step: ScenarioStep
    matrix: Matrix
    wrong: dict[LabProbe, Outcome]

    @property
    def passed(self) -> bool:
        """Whether everything came out as expected."""
        return not self.wrong

    def lines(self) -> list[str]:
        """One line for each unexpected outcome."""
        return [
            f"{probe}: {outcome.value}, should be {'denied' if outcome.reachable else 'allowed'}"
            for probe, outcome in self.wrong.items()
        ]


def run_scenario(scenario: Scenario, lab: Lab, settle: float = REALIZE_SECONDS) -> Iterator[StepResult]:
    """Run the scenario's steps in a lab of its topology; yields the result of each step.

    Raises LabError if a step is not realized after `settle` seconds.
    """
    for step in scenario.steps:
        if step.delete:
            lab.delete(yaml.safe_dump_all(step.delete), scenario.name, wait=None)
        lab.apply(yaml.safe_dump_all(step.apply), scenario.name, wait=settle)
        yield observe(scenario, step, lab)


def observe(scenario: Scenario, step: ScenarioStep, lab: Lab) -> StepResult:
    """Probe everything and compare the outcomes with those that the step expects."""

    def expected(probe: LabProbe) -> bool:
        return scenario.allowed(step, probe)

    matrix = lab.probe(nodes=scenario.nodes, icmp=scenario.icmp, expected=expected)
    wrong = {
        probe: outcome
        for probe, outcome in matrix.results.items()
        if outcome is Outcome.WRONG or outcome.reachable != expected(probe)
    }
    return StepResult(step, matrix, wrong)
