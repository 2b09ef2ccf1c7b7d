"""Addresses of nodes beyond their Node objects: those in external_ids of their bridges, and those that the nodes
answered probes for. An address that a pod has does not count.

This module keeps which bridges claim an address, so that a pod's change leads to the bridges to decide anew. Pods live
elsewhere: the caller reports their addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from flows.bridge.external_ids import parse_node_addresses
from flows.bridge.state import BridgeState
from flows.cluster.net import Net

_Bridge = tuple[str, str]  # its OVSDB's name and its own


class NodeAddresses:
    """The `bridges` that claim an address for their node, and the `doubtful` ones: those to decide anew because a pod's
    addresses changed."""

    def __init__(self) -> None:
        self.bridges: dict[Net, set[_Bridge]] = {}
        self.doubtful: set[_Bridge] = set()

    def update_bridge(self, name: _Bridge, old: BridgeState | None, new: BridgeState | None) -> None:
        """A bridge was added (`old` is None), changed, or removed (`new` is None)."""
        before, after = (_claimed_addresses(one) if one is not None else () for one in (old, new))
        if before == after:
            return
        for net in before:
            there = self.bridges.get(net, set())
            there.discard(name)
            if not there:
                self.bridges.pop(net, None)
        for net in after:
            self.bridges.setdefault(net, set()).add(name)
        self.doubtful.add(name)

    def mark_doubtful(self, addresses: Iterable[Net]) -> None:
        """A pod has or had these addresses: decide the bridges that claim one of them anew."""
        if self.bridges:
            for net in addresses:
                self.doubtful.update(self.bridges.get(net, ()))

    def mark_all_doubtful(self) -> None:
        """All pods may have changed."""
        self.doubtful.update(*self.bridges.values())

    def take_doubtful(self) -> set[_Bridge]:
        """The bridges to decide anew; each is returned once."""
        found, self.doubtful = self.doubtful, set()
        return found


def with_counted_addresses(bridge: BridgeState, is_pods: Callable[[Net], bool]) -> BridgeState:
    """The bridge with `node_addresses` and `confirmed_addresses` set: those that no pod has."""
    found = tuple(net for net in parse_node_addresses(bridge.node_addresses_text)[0] if not is_pods(net))
    answered = tuple(net for net in bridge.answered_addresses if not is_pods(net))
    if (found, answered) == (bridge.node_addresses, bridge.confirmed_addresses):
        return bridge
    return replace(bridge, node_addresses=found, confirmed_addresses=answered)


def _claimed_addresses(bridge: BridgeState) -> tuple[Net, ...]:
    return (*parse_node_addresses(bridge.node_addresses_text)[0], *bridge.answered_addresses)
