"""The flows of a bridge that lead to the tables of tiers: there while some pod here has rules of a tier.

Which flows these are is decided in `flows.render.tiers`.
"""

from __future__ import annotations

from flows.plan.encoder import FlowEncoder
from flows.plan.pieces import Pieces
from flows.policy.rule import Applies


class TierFlows:
    """They are the piece with this number."""

    __slots__ = ("_encoder", "_number", "_pieces", "_ports", "_shown", "_userspace")

    def __init__(self, pieces: Pieces, encoder: FlowEncoder, number: int, userspace: bool) -> None:
        self._pieces = pieces
        self._encoder = encoder
        self._number = number
        self._userspace = userspace
        self._ports: set[int] = set()  # the ofports of pods with rules of a tier
        self._shown: bool | None = None  # whether the flows that are there are `closed`; None where there are none

    def set_port(self, ofport: int, applies: frozenset[Applies]) -> None:
        """What applies to the pod at a port is this now; nothing where it is gone."""
        if any(isinstance(one, tuple) for one in applies):
            self._ports.add(ofport)
        elif self._ports:
            self._ports.discard(ofport)

    def render(self, closed: bool) -> None:
        """Make the flows, or drop them. `closed`: the rules cannot be rendered, so the tables deny everything."""
        wanted = closed if self._ports else None
        if wanted is self._shown:
            return
        if wanted is None:
            self._pieces.drop(self._number)
        else:
            self._pieces.put(self._number, *self._encoder.tier_flows(self._userspace, closed))
        self._shown = wanted
