"""The last probe runs of a lab, kept to compare a new run with one of the same probes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from topology.probe.matrix import LabProbe, Matrix, Outcome

KEPT_RUNS = 5  # runs; a run is dropped when a newer one has all its probes


@dataclass(frozen=True)
class ProbeRun:
    """The results of one run, at a time in seconds since the epoch."""

    at: float
    matrix: Matrix

    def common(self, matrix: Matrix) -> int:
        """The number of probes of `matrix` that this run has, too."""
        return sum(probe in self.matrix.results for probe in matrix.results)


def load_runs(path: Path) -> list[ProbeRun]:
    """The kept runs, oldest first; none if the file is missing or invalid."""
    try:
        return [
            ProbeRun(float(one["at"]), Matrix(dict(map(_entry, one["probes"])))) for one in json.loads(path.read_text())
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def save_runs(path: Path, runs: Iterable[ProbeRun], new: ProbeRun) -> None:
    """Save a new run, and those earlier ones that have probes which it lacks."""
    kept = [run for run in runs if run.common(new.matrix) < len(run.matrix.results)]
    saved = [
        {"at": run.at, "probes": [[*probe, outcome.value] for probe, outcome in run.matrix.results.items()]}
        for run in [*kept, new][-KEPT_RUNS:]
    ]
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(saved), encoding="utf-8")
    partial.replace(path)


def comparable_run(runs: Iterable[ProbeRun], matrix: Matrix) -> ProbeRun | None:
    """The run to compare with: the newest with all these probes, or else the one with most of them, or None."""
    best = max(runs, key=lambda run: (run.common(matrix), run.at), default=None)
    return best if best is not None and best.common(matrix) else None


def _entry(row: list[object]) -> tuple[LabProbe, Outcome]:
    source, destination, protocol, port, family, outcome = row
    return LabProbe(str(source), str(destination), str(protocol), int(str(port)), int(str(family))), Outcome(outcome)
