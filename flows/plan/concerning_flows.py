"""Flows of a bridge that are there while they concern some pod here: those that lead to the tables of tiers, and those
that look up what the promotion of staged policies would change.

Which flows these are is decided in `flows.render.tiers` and `flows.render.staged`.
"""

from __future__ import annotations

from collections.abc import Callable

from flows.plan.pieces import Pieces
from flows.plan.pod_templates import EncodedFlows
from flows.policy.rule import Applies


class ConcerningFlows:
    """They are the piece with this number. `concern` tells by what applies to a pod whether they concern it; `make`
    makes one of their variants."""

    __slots__ = ("_concern", "_make", "_number", "_pieces", "_ports", "_shown")

    def __init__(
        self,
        pieces: Pieces,
        number: int,
        concern: Callable[[frozenset[Applies]], bool],
        make: Callable[[bool], EncodedFlows],
    ) -> None:
        self._pieces = pieces
        self._number = number
        self._concern = concern
        self._make = make
        self._ports: set[int] = set()  # the ofports of pods that they concern
        self._shown: bool | None = None  # the variant that is there; None where there are none

    def set_port(self, ofport: int, applies: frozenset[Applies]) -> None:
        """What applies to the pod at a port is this now; nothing where it is gone."""
        if self._concern(applies):
            self._ports.add(ofport)
        elif self._ports:
            self._ports.discard(ofport)

    def show(self, variant: bool | None) -> None:
        """Make the flows of a variant while they concern a pod, else drop them; None drops them too."""
        wanted = variant if self._ports else None
        if wanted is self._shown:
            return
        if wanted is None:
            self._pieces.drop(self._number)
        else:
            self._pieces.put(self._number, *self._make(wanted))
        self._shown = wanted
