"""The flows of the other nodes on one bridge, in mode `overlay`: one piece for each node.

A node that comes, goes, or changes its address or its pod ranges changes its own piece, and no other flow. A change
costs the nodes that differ: what differs is found once for all bridges (`routing.NodeDifferences`), and bridges whose
tunnel port has the same ofport share the encoded flows of a node.
"""

from __future__ import annotations

from flows.bridge.routing import FLAT, RoutedNode, Routing
from flows.plan.encoder import FlowEncoder
from flows.plan.pieces import Pieces


class RemoteNodes:
    """Keeps the pieces numbered from `first` on."""

    __slots__ = ("_encoder", "_first", "_free", "_numbers", "_pieces", "_routing", "_tunnel")

    def __init__(self, pieces: Pieces, encoder: FlowEncoder, first: int) -> None:
        self._pieces = pieces
        self._encoder = encoder
        self._first = first
        self._free: list[int] = []
        self._numbers: dict[str, int] = {}
        self._routing: Routing = FLAT
        self._tunnel: int | None = None

    def set(self, routing: Routing, tunnel: int | None) -> None:
        """The nodes that are reached through port `tunnel` are these now; none without a port."""
        old, before = self._routing, self._tunnel
        self._routing, self._tunnel = routing, tunnel
        if (old.mode, old.node, before) != (routing.mode, routing.node, tunnel):
            remotes = routing.remotes if tunnel is not None else {}
            for name in [name for name in self._numbers if name not in remotes]:
                self._drop(name)
            for node in remotes.values():
                self._put(node)
        elif old.nodes is not routing.nodes:
            gone, came = self._encoder.node_differences.between(old.nodes, routing.nodes)
            for name in gone:
                self._drop(name)
            for node in came:
                if routing.is_remote(node):
                    self._put(node)
                else:
                    self._drop(node.name)

    def _put(self, node: RoutedNode) -> None:
        if self._tunnel is None:
            return
        try:
            flows = self._encoder.remote_node(node, self._tunnel)
        except Exception as error:  # noqa: BLE001 - it concerns this node: the world goes on without it
            self._encoder.fail_node(node.name, error)
            return
        self._pieces.put(self._number(node.name), *flows)

    def _drop(self, name: str) -> None:
        number = self._numbers.pop(name, None)
        if number is not None:
            self._pieces.drop(number)
            self._free.append(number)

    def _number(self, name: str) -> int:
        """The number of a node's piece; those of nodes that are gone are used again."""
        found = self._numbers.get(name)
        if found is None:
            found = self._free.pop() if self._free else self._first + len(self._numbers)
            self._numbers[name] = found
        return found
