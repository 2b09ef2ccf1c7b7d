"""Which addresses the nodes have that a selector selects, kept as nodes change. Pods are in `pod_index`."""

from __future__ import annotations

from collections.abc import Iterable

from flows.cluster.model import Node, Selector
from flows.cluster.net import Net
from flows.cluster.selectors import matches
from flows.policy.tracked_sets import ChangeLog, NetSet


class NodeGroup(NetSet):
    """The addresses of the nodes that one selector matches. `holders` counts its users; without any it is forgotten."""

    __slots__ = ("holders", "selector")

    def __init__(self, log: ChangeLog, selector: Selector, members: set[Net]) -> None:
        super().__init__(log, members)
        self.selector = selector
        self.holders = 0


class NodeIndex:
    """All nodes, and the groups that are held. Changes of groups go to the change log."""

    def __init__(self, log: ChangeLog) -> None:
        self._log = log
        self._nodes: dict[str, Node] = {}
        self._with_address: dict[Net, set[str]] = {}
        self._groups: dict[Selector, NodeGroup] = {}

    def put_node(self, node: Node) -> None:
        """A node is new or has changed."""
        self._replace(node.name, node)

    def remove_node(self, name: str) -> None:
        """A node is deleted."""
        self._replace(name, None)

    def _replace(self, name: str, new: Node | None) -> None:
        old = self._nodes.pop(name, None)
        for address in node_addresses(old):
            names = self._with_address[address]
            names.discard(name)
            if not names:
                del self._with_address[address]
        if new is not None:
            self._nodes[name] = new
        for address in node_addresses(new):
            self._with_address.setdefault(address, set()).add(name)
        for group in self._groups.values():
            for address in {*node_addresses(old), *node_addresses(new)}:
                group.set_member(address, self._belongs(group.selector, address))

    def _belongs(self, selector: Selector, address: Net) -> bool:
        return any(matches(selector, self._nodes[name].labels) for name in self._with_address.get(address, ()))

    def addresses(self, selector: Selector) -> set[Net]:
        """The addresses of the nodes that a selector matches."""
        nodes = [node for node in self._nodes.values() if matches(selector, node.labels)]
        return {address for node in nodes for address in node_addresses(node)}

    def group(self, selector: Selector) -> NodeGroup:
        """As `addresses`, kept up to date. The caller holds it until `release`."""
        found = self._groups.get(selector)
        if found is None:
            found = self._groups[selector] = NodeGroup(self._log, selector, self.addresses(selector))
        found.holders += 1
        return found

    def release(self, group: NodeGroup) -> None:
        """End one hold of the group."""
        group.holders -= 1
        if not group.holders:
            del self._groups[group.selector]


def node_addresses(node: Node | None) -> Iterable[Net]:
    """All addresses of a node; none of None."""
    return () if node is None else (*node.addresses, *node.external_addresses)
