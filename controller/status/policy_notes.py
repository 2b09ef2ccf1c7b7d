"""What the log and Kubernetes' events say of the sources, kept so that a change costs what it changes.

For the core's thread. It knows what was said before; who is told, and how, stands elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from controller.reconcile.events import ClusterChanged, Problem
from flows.cluster.model import Key, Policy

log = structlog.get_logger("headgate")

MAX_PROBLEM_LINES = 100  # log lines on the problems of one change


class SourceProblemLog:
    """The problems that were said, and the policies that cannot be realized as they stand."""

    def __init__(self) -> None:
        # Replaced, never changed, so that any thread may read it.
        self.faults: Mapping[Key, str] = {}
        self._problems: tuple[Problem, ...] = ()
        self._said: frozenset[Problem] = frozenset()

    def take(self, event: ClusterChanged) -> None:
        """Say what is new in the log, and bring `faults` up to date: another mapping when it differs."""
        if event.problems is not self._problems:
            self._say(event.problems)
        found = self._judge(event)
        if found != self.faults:
            self.faults = found

    def _say(self, problems: tuple[Problem, ...]) -> None:
        new = [problem for problem in problems if problem not in self._said]
        for problem in new[:MAX_PROBLEM_LINES]:
            log.error(problem.reason, where=problem.where, object=problem.key, field=problem.field)
        if len(new) > MAX_PROBLEM_LINES:
            log.error("there are more problems; `headgate status` lists them", more=len(new) - MAX_PROBLEM_LINES)
        self._problems, self._said = problems, frozenset(problems)

    def _judge(self, event: ClusterChanged) -> Mapping[Key, str]:
        policies = event.cluster.policies
        if event.touched is None:
            return _faults(policies.values())
        touched = [key for kind, key in event.touched if kind == "NetworkPolicy" and isinstance(key, Key)]
        if not any(key in self.faults or (key in policies and policies[key].errors) for key in touched):
            return self.faults
        found = {**self.faults}
        for key in touched:
            found.pop(key, None)
        found.update(_faults(policies[key] for key in touched if key in policies))
        return found


def _faults(policies: Iterable[Policy]) -> dict[Key, str]:
    return {policy.key: "; ".join(policy.errors) for policy in policies if policy.errors}
