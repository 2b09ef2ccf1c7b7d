"""What of Services has no effect, as problems: addresses that another Service has, endpoints that are left out.

The authors of Services decide how many there are, so only the first are listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from controller.reconcile.problem import Problem
from flows.plan.world_state import WorldState
from flows.services.frontends import object_of
from flows.services.limits import MAX_COST, MAX_COST_OF_NEW

MAX_SERVICE_PROBLEMS = 1000
WITHOUT_ROOM = (
    f"nothing of it is served: all Services and host ports together would cost a bridge more than {MAX_COST:,} flows "
    f"and buckets, or new ones more than {MAX_COST_OF_NEW:,}"
)


def service_problems(world: WorldState) -> Iterator[Problem]:
    """The first MAX_SERVICE_PROBLEMS; then, where there are more, one that says so."""
    of_all = ((key, WITHOUT_ROOM) for key in world.services_without_room)
    found = chain(of_all, ((key, why) for key, reasons in sorted(world.service_problems.items()) for why in reasons))
    first = (
        Problem("the controller", object_of(key), "", reason) for key, reason in islice(found, MAX_SERVICE_PROBLEMS)
    )
    more = (Problem("the controller", "", "", "more Services have problems than are listed") for _ in islice(found, 1))
    return chain(first, more)
