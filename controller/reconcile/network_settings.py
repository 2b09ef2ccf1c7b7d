"""Which settings of the network each bridge's OVSDB was told to have, so that only what differs is told.

Nothing is told of bridges that are not served, and nothing at all in a flat network.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.reconcile.commands import SetNetwork
from controller.reconcile.contained_errors import ContainedErrors
from flows.bridge.claim_contest import BridgeName
from flows.bridge.network import NodeNetwork
from flows.plan.world import World


class NetworkSettings:
    """The settings that were told last, by bridge. What the settings are: see `flows.plan.cluster_network`."""

    def __init__(self, world: World, errors: ContainedErrors) -> None:
        self._world = world
        self._errors = errors
        self._told: dict[BridgeName, NodeNetwork] = {}
        self._failed: set[BridgeName] = set()  # bridges that raised; looked at again with the next call

    def commands(self, bridges: Iterable[BridgeName]) -> list[SetNetwork]:
        """What to tell of these bridges, which may have changed, have come or are gone."""
        if not self._world.network.routes:
            return []
        found = []
        failed, self._failed = self._failed, set()
        for name in sorted(failed.union(bridges)):
            subject = f"settings of bridge {name[1]} at {name[0]}"
            self._errors.clear(subject)
            try:
                wanted = self._wanted(name)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self._errors.add(subject, error)
                self._failed.add(name)
                continue
            if wanted == self._told.get(name):
                continue
            found.append(SetNetwork(*name, wanted))
            if wanted is None:
                del self._told[name]
            else:
                self._told[name] = wanted
        return found

    def _wanted(self, name: BridgeName) -> NodeNetwork | None:
        bridge = self._world.bridges.get(name)
        return None if bridge is None or self._world.refusal(name) else self._world.network.network_of(bridge)
