"""The problems of the sources as the log and Kubernetes' events report them: each once, at the cost of what changed.

For the event loop's thread. Where problems come from: see `flows.parse`. Writing Events to the API server: see
`controller.sources.kubernetes.event_writer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from controller.reconcile.events import ClusterChanged
from controller.reconcile.problem import Problem
from flows.cluster.model import Key, Policy

log = structlog.get_logger("headgate")

MAX_PROBLEM_LINES = 100  # log lines for one change


class SourceProblemLog:
    """Logs new problems, and keeps the policies that cannot be realized as they are written."""

    def __init__(self) -> None:
        # Policies and why. Replaced, never changed, so that any thread may read it.
        self.policy_problems: Mapping[Key, str] = {}
        self._problems: tuple[Problem, ...] = ()
        self._logged: frozenset[Problem] = frozenset()

    def take(self, event: ClusterChanged) -> None:
        """Log new problems, and update `policy_problems`: it is another mapping if and only if it differs."""
        if event.problems is not self._problems:
            self._log_new(event.problems)
        found = self._updated(event)
        if found != self.policy_problems:
            self.policy_problems = found

    def _log_new(self, problems: tuple[Problem, ...]) -> None:
        new = [problem for problem in problems if problem not in self._logged]
        for problem in new[:MAX_PROBLEM_LINES]:
            log.error(problem.reason, where=problem.where, object=problem.key, field=problem.field)
        if len(new) > MAX_PROBLEM_LINES:
            log.error("there are more problems; `headgate status` lists them", more=len(new) - MAX_PROBLEM_LINES)
        self._problems, self._logged = problems, frozenset(problems)

    def _updated(self, event: ClusterChanged) -> Mapping[Key, str]:
        policies = event.cluster.policies
        if event.changed is None:
            return _problems_of(policies.values())
        changed = [key for kind, key in event.changed if kind == "NetworkPolicy" and isinstance(key, Key)]
        if not any(key in self.policy_problems or (key in policies and policies[key].errors) for key in changed):
            return self.policy_problems
        found = {**self.policy_problems}
        for key in changed:
            found.pop(key, None)
        found.update(_problems_of(policies[key] for key in changed if key in policies))
        return found


def _problems_of(policies: Iterable[Policy]) -> dict[Key, str]:
    return {policy.key: "; ".join(policy.errors) for policy in policies if policy.errors}
