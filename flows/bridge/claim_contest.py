"""A contest: all claims to one datapath id or node, and which of them owns it.

Claims are compared by their proof alone; what proves a claim is decided in `owners`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from flows.bridge.connection_peer import ConnectionPeer

BridgeName = tuple[str, str]  # the OVSDB's name and the bridge's
T = TypeVar("T", str, BridgeName)


class ClaimProof(enum.IntEnum):
    """How well a claim is proven."""

    REFUTED = 0  # a certificate says otherwise: never served
    DOUBTED = 1  # the addresses differ
    UNKNOWN = 2  # there is nothing to compare
    PROVEN = 3


def compare_peers(ovsdb: ConnectionPeer, session: ConnectionPeer) -> ClaimProof:
    """Whether an OVSDB connection and an OpenFlow session come from one machine: by a common name in their
    certificates, else by their addresses."""
    if ovsdb.names and session.names:
        return ClaimProof.PROVEN if set(ovsdb.names) & set(session.names) else ClaimProof.REFUTED
    if not ovsdb.host or not session.host:
        return ClaimProof.UNKNOWN
    return ClaimProof.PROVEN if ovsdb.host == session.host else ClaimProof.DOUBTED


@dataclass(slots=True)
class ClaimContest(Generic[T]):
    """All claims to one thing with the time of each, in the order in which they came, and the owner among them."""

    claims: dict[T, float] = field(default_factory=dict)
    owner: T | None = None
    proven: bool = False  # the owner's claim was proven at some time
    waited: bool = False  # the owner's claim was doubted, and no better one came in time
    first: tuple[T, ...] = ()  # the first two claims of connected OVSDBs, those with the exact name before others

    def decide(self, proofs: Mapping[T, ClaimProof], connected: AbstractSet[T]) -> None:
        """Choose the owner, given the proof of each claim, and the claims whose OVSDB is connected.

        The best claim is the one with the best proof; of equals, a connected one; of those, the first. A refuted claim
        never wins. The owner keeps its place unless its claim is refuted, or another claim is proven and connected
        while the owner is away, or is doubted and never was proven.
        """
        best = max(proofs, key=lambda claim: (proofs[claim], claim in connected), default=None)
        if best is not None and proofs[best] is ClaimProof.REFUTED:
            best = None
        owner = self.owner
        if owner in proofs and best is not None and owner is not None and proofs[owner] is not ClaimProof.REFUTED:
            stays = owner in connected and (self.proven or proofs[owner] is not ClaimProof.DOUBTED)
            if stays or proofs[best] is not ClaimProof.PROVEN or best not in connected:
                best = owner
        if best != owner:
            self.owner, self.proven, self.waited = best, False, False
        self.proven |= best is not None and proofs[best] is ClaimProof.PROVEN
        self.waited |= best is not None and proofs[best] is ClaimProof.DOUBTED
