"""Runs truth tables in a lab: applies each step's objects, then sends every probe of its checks."""

from __future__ import annotations

from collections.abc import Iterator

from tests.helpers.lab.probe_evidence import evidence
from tests.helpers.lab.truth_lab import endpoint_name, world_of
from tests.helpers.truth.cases import Case, Step
from tests.helpers.truth.layout import TruthLayout
from topology.lab.lab import REALIZE_SECONDS, Lab
from topology.probe.matrix import LabProbe, Outcome

# What is allowed although it should not be answers at once; only what should be allowed is worth waiting for longer.
PATIENCE = (0.5,)


def expectations(step: Step, world: TruthLayout) -> dict[LabProbe, bool]:
    """Every probe that the step's checks speak of, and whether it must get through."""
    found: dict[LabProbe, bool] = {}
    for check in step.checks:
        for (source, destination), allowed in check.matrix(world).items():
            for family in check.families:
                ends = endpoint_name(source, world), endpoint_name(destination, world)
                probe = LabProbe(*ends, check.protocol, check.port or 0, family)
                if found.setdefault(probe, allowed) != allowed:
                    raise ValueError(f"two lines of one table disagree about {probe}")
    return found


def take(lab: Lab, step: Step, wait: float | None = REALIZE_SECONDS) -> None:
    """Apply and delete the step's objects; wait until they are realized, unless `wait` is None."""
    lab.objects.delete(step.delete)
    lab.objects.put(step.apply)
    if wait is not None:
        lab.wait(wait)


def observe(lab: Lab, expected: dict[LabProbe, bool]) -> list[str]:
    """Probe, and return one line for each outcome that differs from the expected one."""
    seen = lab.run_probes(expected, PATIENCE, lambda probe: expected[probe])
    wrong = {
        probe: outcome
        for probe, outcome in seen.results.items()
        if outcome is Outcome.WRONG or outcome.reachable != expected[probe]
    }
    lines = [
        f"{probe}: {outcome.value}, should be {'allowed' if expected[probe] else 'denied'}"
        for probe, outcome in wrong.items()
    ]
    return lines + [line for probe in list(wrong)[:1] for line in evidence(lab, probe)]


def play(lab: Lab, case: Case) -> Iterator[tuple[Step, int, list[str]]]:
    """Go through a case, yielding each step with the number of its probes and what was wrong.

    The world is as before afterwards, whatever happens; that is in force no later than the next case's first step.
    """
    world = world_of(lab)
    try:
        for step in case.steps(world):
            take(lab, step)
            expected = expectations(step, world)
            yield step, len(expected), observe(lab, expected)
    finally:
        take(lab, case.cleanup(world), wait=None)
