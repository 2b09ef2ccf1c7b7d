"""The flows of the other nodes on one bridge, in mode `overlay`: one piece for each node.

A node that comes, goes, or changes its address or its pod ranges changes its own piece, and no other flow.
"""

from __future__ import annotations

from flows.bridge.routing import FLAT, RoutedNode, Routing
from flows.plan.encoder import FlowEncoder
from flows.plan.pieces import Pieces
from flows.render.flow_set import FlowSet
from flows.render.tunnel import render_remote_node


class RemoteNodes:
    """Keeps the pieces numbered from `first` on."""

    __slots__ = ("_encoder", "_first", "_free", "_nodes", "_numbers", "_pieces", "_routing", "_tunnel")

    def __init__(self, pieces: Pieces, encoder: FlowEncoder, first: int) -> None:
        self._pieces = pieces
        self._encoder = encoder
        self._first = first
        self._free: list[int] = []
        self._numbers: dict[str, int] = {}
        self._nodes: dict[str, RoutedNode] = {}
        self._routing: Routing = FLAT
        self._tunnel: int | None = None

    def set(self, routing: Routing, tunnel: int | None) -> None:
        """The nodes that are reached through port `tunnel` are these now; none without a port."""
        if (routing.nodes, routing.node, routing.mode, tunnel) == (
            self._routing.nodes, self._routing.node, self._routing.mode, self._tunnel
        ):  # fmt: skip
            return
        nodes = routing.remotes if tunnel is not None else {}
        moved, self._tunnel, self._routing = tunnel != self._tunnel, tunnel, routing
        for name in self._nodes.keys() - nodes.keys():
            number = self._numbers.pop(name)
            self._pieces.drop(number)
            self._free.append(number)
        for name, node in nodes.items():
            if tunnel is not None and (moved or self._nodes.get(name) != node):
                flows = FlowSet()
                render_remote_node(flows, node, tunnel)
                self._pieces.put(self._number(name), *self._encoder.flows(flows))
        self._nodes = nodes

    def _number(self, name: str) -> int:
        """The number of a node's piece; those of nodes that are gone are used again."""
        found = self._numbers.get(name)
        if found is None:
            found = self._free.pop() if self._free else self._first + len(self._numbers)
            self._numbers[name] = found
        return found
