"""Earlier probes of a lab, kept so that a later one is compared with one of the same question."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from topology.probe.matrix import LabProbe, Matrix, Outcome

KEPT_RUNS = 5  # runs; each newer one makes those needless that it has all probes of


@dataclass(frozen=True)
class ProbeRun:
    """What was seen at a time (seconds since the epoch)."""

    at: float
    matrix: Matrix

    def common(self, matrix: Matrix) -> int:
        """How many probes of `matrix` were tried then, too."""
        return sum(probe in self.matrix.results for probe in matrix.results)


def load_runs(path: Path) -> list[ProbeRun]:
    """The earlier runs, oldest first; none where there are none or the file is not what `remember` wrote."""
    try:
        return [
            ProbeRun(float(one["at"]), Matrix(dict(map(_entry, one["probes"])))) for one in json.loads(path.read_text())
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def save_runs(path: Path, runs: Iterable[ProbeRun], new: ProbeRun) -> None:
    """Keep a run for later ones, and those of the earlier ones that it does not stand for."""
    kept = [run for run in runs if run.common(new.matrix) < len(run.matrix.results)]
    told = [
        {"at": run.at, "probes": [[*probe, outcome.value] for probe, outcome in run.matrix.results.items()]}
        for run in [*kept, new][-KEPT_RUNS:]
    ]
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(told), encoding="utf-8")
    partial.replace(path)


def comparable_run(runs: Iterable[ProbeRun], matrix: Matrix) -> ProbeRun | None:
    """The run to compare with: the newest one with all these probes, else that with the most of them, else None."""
    best = max(runs, key=lambda run: (run.common(matrix), run.at), default=None)
    return best if best is not None and best.common(matrix) else None


def _entry(row: list[object]) -> tuple[LabProbe, Outcome]:
    source, destination, protocol, port, family, outcome = row
    return LabProbe(str(source), str(destination), str(protocol), int(str(port)), int(str(family))), Outcome(outcome)
