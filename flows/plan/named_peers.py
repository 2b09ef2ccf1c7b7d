"""The addresses that the subjects of one rule here learned for its names, as the elements of a clause.

Each is a match of the subject's ofport and the address (`flows.render.rules.named_peer_terms`), so that what one pod
learns opens nothing for another. What pods learned is in `learned_names`, and never here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from flows.cluster.domain_names import NamePatterns
from flows.cluster.net import Net
from flows.openflow.match import Match, match
from flows.render.rules import AnyStage, named_peer_terms

Names = Mapping[str, bool]  # the names that an address was learned for, and whether each is live
Learned = Mapping[Net, Names]  # what one pod learned
LearnedAt = Callable[[int], Learned]  # by the pod's ofport


class NamedPeers:
    """The elements of one rule with these patterns. Compared by identity, as tracked sets are."""

    __slots__ = ("_at", "_patterns", "_stage")

    def __init__(self, patterns: tuple[str, ...], stage: AnyStage) -> None:
        self._patterns = NamePatterns(patterns)
        self._stage = stage
        self._at: dict[int, dict[Net, Match]] = {}  # by ofport

    @property
    def elements(self) -> list[Match]:
        """All elements, in any order."""
        return [one for known in self._at.values() for one in known.values()]

    def update(self, ofport: int, learned: Learned, addresses: Iterable[Net] | None = None) -> list[Match]:
        """The subject at an ofport learned this; nothing where there is no subject. Only `addresses` may differ since
        the last call; None: any. Returns the elements that came or went."""
        known = self._at.setdefault(ofport, {})
        toggled: list[Match] = []
        for address in known.keys() | learned.keys() if addresses is None else addresses:
            names = learned.get(address)
            live = None if names is None else self._patterns.liveness(names.items())
            after = None if live is None else match(*named_peer_terms(self._stage, ofport, address, live))
            before = known.get(address)
            if before == after:
                continue
            if before is not None:
                toggled.append(before)
                del known[address]
            if after is not None:
                toggled.append(after)
                known[address] = after
        if not known:
            del self._at[ofport]
        return toggled
