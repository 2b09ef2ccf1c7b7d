"""What of Services has no effect, as problems: addresses that another Service has, endpoints that are left out.

The authors of Services decide how many there are, so only the first are listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from controller.reconcile.problem import Problem
from flows.plan.world_state import WorldState

MAX_SERVICE_PROBLEMS = 1000


def service_problems(world: WorldState) -> Iterator[Problem]:
    """The first MAX_SERVICE_PROBLEMS; then, where there are more, one that says so."""
    found = ((key, reason) for key, reasons in sorted(world.service_problems.items()) for reason in reasons)
    first = (
        Problem("the controller", f"Service {key}", "", reason) for key, reason in islice(found, MAX_SERVICE_PROBLEMS)
    )
    more = (Problem("the controller", "", "", "more Services have problems than are listed") for _ in islice(found, 1))
    return chain(first, more)
