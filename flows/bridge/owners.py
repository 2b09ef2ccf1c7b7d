"""Who may speak for a datapath id and for a node's name: of several OVSDBs that claim one, at most one is served.

What an OVSDB says of itself is a claim. It is proven where the OpenFlow session of that datapath id comes from the same
peer as the OVSDB's connection (the same certificate, else the same address), and where the OVSDB's certificate names
the node. Who is served stays so for as long as its connection lives; what a newcomer claims is the newcomer's problem.
docs/adr/0007 says why. No input or output here; `now` is a monotonic clock's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Generic, TypeVar

from flows.bridge.connection_peer import NO_PEER, ConnectionPeer
from flows.bridge.node_names import SET_HOSTNAME_COMMAND
from flows.bridge.state import BridgeState

BridgeName = tuple[str, str]  # the OVSDB's name and the bridge's
T = TypeVar("T", str, BridgeName)
# A claim that the session's address speaks against may still be true, behind an address translation. Whoever can prove
# the same gets this long, in seconds, to come first.
PROOF_WAIT_SECONDS = 10.0


class ClaimProof(enum.IntEnum):
    """What there is for a claim."""

    REFUTED = 0  # a certificate says otherwise: never served
    DOUBTED = 1  # the addresses say otherwise
    UNKNOWN = 2  # nothing to compare
    PROVEN = 3


@dataclass(slots=True)
class _Contest(Generic[T]):
    """All claims to one thing, in the order they came, with the time; and whose it is."""

    claims: dict[T, float] = field(default_factory=dict)
    owner: T | None = None
    proven: bool = False  # the owner was proven once
    waited: bool = False  # the owner was in doubt for long enough
    first: tuple[T, ...] = ()  # two of those that are there, the best by what they say


class Owners:
    """Claims come in, `settle` says for which bridges the answer changed, `refusal` has the answers."""

    def __init__(self, is_node: Callable[[str], bool] = lambda name: False) -> None:
        self._is_node = is_node
        self._bridges: dict[BridgeName, BridgeState] = {}
        self._of: dict[str, set[BridgeName]] = {}  # by the OVSDB's name
        self._on: dict[tuple[str, str], set[BridgeName]] = {}  # by the OVSDB's name and the node that is meant
        self._dpids: dict[int, _Contest[BridgeName]] = {}
        self._nodes: dict[str, _Contest[str]] = {}
        self._peers: dict[str, ConnectionPeer] = {}
        self._away: set[str] = set()
        self._sessions: dict[int, tuple[ConnectionPeer, float]] = {}  # and since when
        self._refusals: dict[BridgeName, str] = {}
        self._stale_dpids: set[int] = set()
        self._stale_nodes: set[str] = set()
        self._doubted: set[int] = set()  # ids whose claims wait for a better one
        self._named: dict[int, ConnectionPeer] = {}  # who was said last to be the switch of an id, by its certificate
        self._rightful: dict[int, ConnectionPeer] = {}  # the same, not handed out yet

    # -- what happens ------------------------------------------------------------------------------------------------

    def claim(self, bridge: BridgeState, now: float) -> None:
        """A bridge of an OVSDB says this of itself. What it said before keeps its place among the claims."""
        name = (bridge.ovsdb, bridge.name)
        old = self._bridges.get(name)
        same_dpid = old is not None and old.dpid == bridge.dpid
        same_node = old is not None and (old.node, old.claimed_node) == (bridge.node, bridge.claimed_node)
        if old is not None:
            self._withdraw(old, not same_dpid, not same_node)
        self._bridges[name] = bridge
        self._of.setdefault(bridge.ovsdb, set()).add(name)
        if bridge.dpid and not same_dpid:
            self._dpids.setdefault(bridge.dpid, _Contest()).claims[name] = now
            self._stale_dpids.add(bridge.dpid)
        if bridge.node and not same_node:
            self._on.setdefault((bridge.ovsdb, bridge.node), set()).add(name)
            self._nodes.setdefault(bridge.node, _Contest()).claims.setdefault(bridge.ovsdb, now)
            self._stale_nodes.add(bridge.node)

    def unclaim(self, name: BridgeName) -> None:
        """A bridge is gone."""
        bridge = self._bridges.get(name)
        if bridge is not None:
            self._withdraw(bridge, True, True)
            self._of[bridge.ovsdb].discard(name)
            del self._bridges[name]

    def _withdraw(self, bridge: BridgeState, dpid: bool, node: bool) -> None:
        """What a bridge said of itself does not hold any more."""
        name = (bridge.ovsdb, bridge.name)
        if dpid or node:
            self._refusals.pop(name, None)
        if dpid and bridge.dpid:
            self._dpids[bridge.dpid].claims.pop(name)
            self._stale_dpids.add(bridge.dpid)
        if node and bridge.node:
            there = self._on[bridge.ovsdb, bridge.node]
            there.discard(name)
            if not there:
                del self._on[bridge.ovsdb, bridge.node]
                self._nodes[bridge.node].claims.pop(bridge.ovsdb, None)
            self._stale_nodes.add(bridge.node)

    def set_peer(self, ovsdb: str, peer: ConnectionPeer) -> None:
        """An OVSDB's connection has this peer."""
        if self._peers.get(ovsdb) != peer:
            self._peers[ovsdb] = peer
            self._concern(ovsdb)

    def set_away(self, ovsdb: str, away: bool) -> None:
        """An OVSDB's connection ended, or its contents are there."""
        if (ovsdb in self._away) != away:
            (self._away.add if away else self._away.discard)(ovsdb)
            self._concern(ovsdb)

    def forget(self, ovsdb: str) -> None:
        """An OVSDB has no bridge any more and will not be heard of."""
        self._peers.pop(ovsdb, None)
        self._of.pop(ovsdb, None)
        self._away.discard(ovsdb)

    def set_session(self, dpid: int, peer: ConnectionPeer | None, now: float) -> None:
        """The switch of a datapath id has an OpenFlow session with this peer, or none any more."""
        if peer is None:
            self._sessions.pop(dpid, None)
        else:
            self._sessions[dpid] = peer, now
        self._stale_dpids.add(dpid)

    def _concern(self, ovsdb: str) -> None:
        for name in self._of.get(ovsdb, ()):
            self._stale_dpids.add(self._bridges[name].dpid)
            self._stale_nodes.add(self._bridges[name].node)

    def nodes_changed(self) -> None:
        """There are other nodes than before, so that certificates may be others' than was thought."""
        self._stale_nodes.update(self._nodes)

    # -- what follows ------------------------------------------------------------------------------------------------

    def decide(self, now: float) -> set[BridgeName]:
        """Decide what is open; returns the bridges for which the answer is another than before."""
        dpids, self._stale_dpids = self._stale_dpids | self._doubted, set()
        nodes, self._stale_nodes = self._stale_nodes, set()
        self._doubted = set()
        concerned: set[BridgeName] = set()
        for dpid in dpids & self._dpids.keys():
            contest = self._dpids[dpid]
            concerned.update(self._decide_dpid(dpid, contest, now))
            self._find_rightful(dpid, contest)
            if not contest.claims:
                del self._dpids[dpid]
                self._named.pop(dpid, None)
        for node in nodes & self._nodes.keys():
            rivals = self._nodes[node]
            self._list(node, rivals)
            self._decide(rivals, partial(self._proof_of_node, node=node), str)
            for ovsdb in rivals.claims:
                concerned |= self._on[ovsdb, node]
            if not rivals.claims:
                del self._nodes[node]
        return {name for name in concerned if self._answer(name)}

    def _find_rightful(self, dpid: int, contest: _Contest[BridgeName]) -> None:
        """Of those that claim an id, one may be named by its certificate as the node that it says to be, while the
        OpenFlow session is of somebody with another certificate."""
        found = {peer for name in contest.claims if (peer := self._named_peer(name)) is not None}
        theirs = self._session(dpid).names
        if len(found) != 1 or not theirs or set(theirs) & set(next(iter(found)).names):
            return
        (peer,) = found
        if self._named.get(dpid) != peer:
            self._named[dpid] = self._rightful[dpid] = peer

    def _named_peer(self, name: BridgeName) -> ConnectionPeer | None:
        peer, node = self._peers.get(name[0], NO_PEER), self._bridges[name].node.casefold()
        return peer if node and node in {one.casefold() for one in peer.names} else None

    def take_replacing_peers(self) -> dict[int, ConnectionPeer]:
        """By datapath id, the peers whose sessions are to take the place of others; each is told once."""
        found, self._rightful = self._rightful, {}
        return found

    def _decide_dpid(self, dpid: int, contest: _Contest[BridgeName], now: float) -> tuple[BridgeName, ...]:
        def proof(name: BridgeName) -> ClaimProof:
            found = self._proof_of_dpid(name[0], dpid)
            if found is ClaimProof.DOUBTED and not (name == contest.owner and (contest.proven or contest.waited)):
                since = max(contest.claims[name], self._sessions[dpid][1])
                if now - since < PROOF_WAIT_SECONDS:
                    self._doubted.add(dpid)
                    return ClaimProof.REFUTED
            return found

        self._decide(contest, proof, itemgetter(0))
        return tuple(contest.claims)

    def _decide(self, contest: _Contest[T], proof: Callable[[T], ClaimProof], ovsdb_of: Callable[[T], str]) -> None:
        """Whose it is. The owner stays while its OVSDB is there, unless much speaks against it and for another."""
        found = {name: proof(name) for name in contest.claims}
        there = {name: ovsdb_of(name) not in self._away for name in found}
        # Of equals it is the first that came.
        best = max(found, key=lambda name: (found[name], there[name]), default=None)
        if best is not None and found[best] is ClaimProof.REFUTED:
            best = None
        owner = contest.owner
        if owner in found and best is not None and owner is not None and found[owner] is not ClaimProof.REFUTED:
            stays = there[owner] and (contest.proven or found[owner] is not ClaimProof.DOUBTED)
            if stays or found[best] is not ClaimProof.PROVEN or not there[best]:
                best = owner
        if best != owner:
            contest.owner, contest.proven, contest.waited = best, False, False
        contest.proven |= best is not None and found[best] is ClaimProof.PROVEN
        contest.waited |= best is not None and found[best] is ClaimProof.DOUBTED

    def _session(self, dpid: int) -> ConnectionPeer:
        return self._sessions[dpid][0] if dpid in self._sessions else NO_PEER

    def _proof_of_dpid(self, ovsdb: str, dpid: int) -> ClaimProof:
        mine, theirs = self._peers.get(ovsdb, NO_PEER), self._session(dpid)
        if mine.names and theirs.names:
            return ClaimProof.PROVEN if set(mine.names) & set(theirs.names) else ClaimProof.REFUTED
        if not mine.host or not theirs.host:
            return ClaimProof.UNKNOWN
        return ClaimProof.PROVEN if mine.host == theirs.host else ClaimProof.DOUBTED

    def _proof_of_node(self, ovsdb: str, node: str) -> ClaimProof:
        peer = self._peers.get(ovsdb, NO_PEER)
        names = {name.casefold() for name in peer.names}
        if node.casefold() in names:
            return ClaimProof.PROVEN
        if any(self._is_node(name) for name in peer.names):
            return ClaimProof.REFUTED  # the certificate is another node's
        if self._is_only_like(ovsdb, node) and self._rival(ovsdb, node):
            return ClaimProof.REFUTED
        owner = self._nodes[node].owner
        if isinstance(owner, str) and owner != ovsdb and owner in self._away and not peer.names:
            same = bool(peer.host) and peer.host == self._peers.get(owner, NO_PEER).host
            return ClaimProof.PROVEN if same else ClaimProof.UNKNOWN  # a machine that was installed again
        return ClaimProof.DOUBTED if peer.names else ClaimProof.UNKNOWN

    def _is_only_like(self, ovsdb: str, node: str) -> bool:
        """Whether an OVSDB's host name is not the node's name, but only means it."""
        return all(self._bridges[name].claimed_node != node for name in self._on[ovsdb, node])

    def _list(self, node: str, rivals: _Contest[str]) -> None:
        """Who claims a node now, those first whose host name is its name."""
        there = [ovsdb for ovsdb in rivals.claims if ovsdb not in self._away]
        like = {ovsdb: self._is_only_like(ovsdb, node) for ovsdb in there}
        rivals.first = tuple(sorted(there, key=lambda ovsdb: like[ovsdb])[:2])

    def _rival(self, ovsdb: str, node: str) -> str:
        """Somebody else who claims a node; beside one whose host name is the node's no name that is like it counts, and
        of several that are only like it nobody knows which is meant."""
        return next((other for other in self._nodes[node].first if other != ovsdb), "")

    def _answer(self, name: BridgeName) -> bool:
        """Note why a bridge is not served; whether that is another answer than before."""
        before, reason = self._refusals.get(name, ""), self._why_not(self._bridges[name])
        if reason:
            self._refusals[name] = reason
        else:
            self._refusals.pop(name, None)
        return bool(before) != bool(reason)

    def _why_not(self, bridge: BridgeState) -> str:
        name = (bridge.ovsdb, bridge.name)
        contest = self._dpids.get(bridge.dpid)
        if contest is not None and contest.owner != name:
            which = f"datapath id {bridge.dpid:016x}"
            if isinstance(contest.owner, tuple):
                return f"{which} is used by bridge {contest.owner[1]} at {contest.owner[0]} too; not served"
            peer = self._session(bridge.dpid)
            return f"{which} has its OpenFlow connection from {peer}, which is not this OVSDB's peer; not served"
        rivals = self._nodes.get(bridge.node)
        if rivals is not None and rivals.owner != bridge.ovsdb:
            rival = self._rival(bridge.ovsdb, bridge.node) if bridge.claimed_node != bridge.node else ""
            if rival and rivals.owner is None:
                return (
                    f"its host name {bridge.claimed_node} and that of {rival} both may mean node {bridge.node}; not "
                    f"served until one of them says its node's name: {SET_HOSTNAME_COMMAND}"
                )
            if rivals.owner is not None:
                return f"node {bridge.node} has its switch at {rivals.owner}, and this one says the same; not served"
            return f"its certificate is another node's than {bridge.node}; not served"
        return ""

    def is_replaced(self, ovsdb: str) -> bool:
        """Whether an OVSDB is away and every bridge that it had belongs to another OVSDB, which is there."""
        return ovsdb in self._away and bool(self._of.get(ovsdb)) and all(map(self._is_taken, self._of[ovsdb]))

    def _is_taken(self, name: BridgeName) -> bool:
        bridge = self._bridges[name]
        contest, rivals = self._dpids.get(bridge.dpid), self._nodes.get(bridge.node)
        of_dpid = contest.owner[0] if contest is not None and isinstance(contest.owner, tuple) else name[0]
        of_node = rivals.owner if rivals is not None and isinstance(rivals.owner, str) else name[0]
        return any(owner != name[0] and owner not in self._away for owner in (of_dpid, of_node))

    def refusal(self, name: BridgeName) -> str:
        """Why a bridge is not served, empty for one that is."""
        return self._refusals.get(name, "")

    def bridges_of(self, ovsdb: str) -> frozenset[BridgeName]:
        """The bridges that an OVSDB claims."""
        return frozenset(self._of.get(ovsdb, ()))

    def is_waiting(self) -> bool:
        """True while a claim waits for somebody who can prove the same."""
        return bool(self._doubted)

    def served(self, dpid: int) -> BridgeName | None:
        """The bridge that has a datapath id."""
        contest = self._dpids.get(dpid)
        owner = contest.owner if contest is not None else None
        return owner if isinstance(owner, tuple) and not self._refusals.get(owner) else None
