"""The start: nothing is sent to switches until what policy depends on has been read.

Without all pods' addresses, rules would cut connections that are allowed. So the first flows wait until the sources
have synced, the configured OVSDBs have been read, and, where further OVSDBs may call, no running pod is without an
address. An OVSDB that cannot be reached must not hold up the others for ever: after STARTUP_WAIT_SECONDS only the
sources are waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flows.plan.world import World

STARTUP_WAIT_SECONDS = 5.0


class Startup:
    """`over` once flows may be sent; it stays so. `configured` are the OVSDBs that the configuration names."""

    def __init__(self, configured: Iterable[str], now: float, more_may_call: bool) -> None:
        self.configured = frozenset(configured)
        self.over = False
        self._more_may_call = more_may_call
        self._started = now

    def is_over(self, world: World, is_synced: Callable[[str], bool], now: float) -> bool:
        """Whether flows may be sent."""
        if world.cluster is None:
            return False
        if not self.over:
            complete = all(is_synced(name) for name in self.configured)
            complete = complete and not (self._more_may_call and world.pods_without_address())
            self.over = complete or now >= self._started + STARTUP_WAIT_SECONDS
        return self.over

    def due_at(self, world: World) -> float | None:
        """When time alone ends the start; None if it cannot."""
        return self._started + STARTUP_WAIT_SECONDS if not self.over and world.cluster is not None else None

    def waiting_for(self, world: World, is_synced: Callable[[str], bool]) -> list[str]:
        """What the first flows wait for, a line each."""
        lines = [] if world.cluster is not None else ["the sources have not all been read yet"]
        lines += [f"OVSDB {name} has not been read yet" for name in sorted(self.configured) if not is_synced(name)]
        return lines or [f"pod {key} has no address yet" for key in world.pods_without_address()]
