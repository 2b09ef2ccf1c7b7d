"""Which OVSDB owns a datapath id and a node's name: of several that claim one, at most one is served.

Each bridge of an OVSDB claims its datapath id and its node. A claim to a datapath id is proven where the OpenFlow
session of that datapath comes from the same connection peer as the OVSDB's connection (`claim_contest.compare_peers`);
a claim to a node is proven where the OVSDB's certificate names the node. A bridge is served where it owns its datapath
id and its OVSDB owns its node. An owner keeps its place while it is connected; docs/adr/0007 says why.

Example: OVSDBs A and B both have a bridge with datapath id 1. A came first, so A owns 1, and B's bridge is refused.
Then the OpenFlow session of datapath 1 comes from B's address. A's claim is doubted and never was proven, B's is
proven: `decide` gives 1 to B and returns both bridges. Had A been proven once, A would keep 1 until it is away.

`now` is always the time of a monotonic clock, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter

from flows.bridge.claim_contest import BridgeName, ClaimContest, ClaimProof, T, compare_peers
from flows.bridge.connection_peer import NO_PEER, ConnectionPeer
from flows.bridge.node_names import SET_NAME_COMMAND
from flows.bridge.state import BridgeState

# A doubted claim may be true, where an address translation is between. It waits so long, in seconds, for another OVSDB
# that can prove the same claim.
PROOF_WAIT_SECONDS = 10.0


class Owners:
    """All contests. Claims and peers come in; `decide` says which bridges are served now and were not, or the reverse;
    `refusal` says why a bridge is not served."""

    def __init__(self, is_node: Callable[[str], bool] = lambda name: False) -> None:
        self._is_node = is_node
        self._bridges: dict[BridgeName, BridgeState] = {}
        self._bridges_of: dict[str, set[BridgeName]] = {}  # by OVSDB
        self._bridges_on: dict[tuple[str, str], set[BridgeName]] = {}  # by OVSDB and node
        self._dpids: dict[int, ClaimContest[BridgeName]] = {}
        self._nodes: dict[str, ClaimContest[str]] = {}
        self._peers: dict[str, ConnectionPeer] = {}
        self._away: set[str] = set()
        self._sessions: dict[int, tuple[ConnectionPeer, float]] = {}  # with the time of its start
        self._refusals: dict[BridgeName, str] = {}
        self._stale_dpids: set[int] = set()
        self._stale_nodes: set[str] = set()
        self._doubted: set[int] = set()  # datapath ids whose doubted claim waits for a better one
        self._named: dict[int, ConnectionPeer] = {}  # by datapath id: the peer last found to replace its session
        self._replacing: dict[int, ConnectionPeer] = {}  # the same, until `take_replacing_peers`

    # -- changes -----------------------------------------------------------------------------------------------------

    def claim(self, bridge: BridgeState, now: float) -> None:
        """A bridge was added or changed. A claim that did not change keeps its place among the claims."""
        name = (bridge.ovsdb, bridge.name)
        old = self._bridges.get(name)
        same_dpid = old is not None and old.dpid == bridge.dpid
        same_node = old is not None and (old.node, old.claimed_node) == (bridge.node, bridge.claimed_node)
        if old is not None:
            self._withdraw(old, not same_dpid, not same_node)
        self._bridges[name] = bridge
        self._bridges_of.setdefault(bridge.ovsdb, set()).add(name)
        if bridge.dpid and not same_dpid:
            self._dpids.setdefault(bridge.dpid, ClaimContest()).claims[name] = now
            self._stale_dpids.add(bridge.dpid)
        if bridge.node and not same_node:
            self._bridges_on.setdefault((bridge.ovsdb, bridge.node), set()).add(name)
            self._nodes.setdefault(bridge.node, ClaimContest()).claims.setdefault(bridge.ovsdb, now)
            self._stale_nodes.add(bridge.node)

    def unclaim(self, name: BridgeName) -> None:
        """A bridge was removed."""
        bridge = self._bridges.get(name)
        if bridge is not None:
            self._withdraw(bridge, True, True)
            self._bridges_of[bridge.ovsdb].discard(name)
            del self._bridges[name]

    def _withdraw(self, bridge: BridgeState, dpid: bool, node: bool) -> None:
        """Take back the claims of a bridge: to its datapath id, and to its node."""
        name = (bridge.ovsdb, bridge.name)
        if dpid or node:
            self._refusals.pop(name, None)
        if dpid and bridge.dpid:
            self._dpids[bridge.dpid].claims.pop(name)
            self._stale_dpids.add(bridge.dpid)
        if node and bridge.node:
            there = self._bridges_on[bridge.ovsdb, bridge.node]
            there.discard(name)
            if not there:
                del self._bridges_on[bridge.ovsdb, bridge.node]
                self._nodes[bridge.node].claims.pop(bridge.ovsdb, None)
            self._stale_nodes.add(bridge.node)

    def set_peer(self, ovsdb: str, peer: ConnectionPeer) -> None:
        """Set the connection peer of an OVSDB."""
        if self._peers.get(ovsdb) != peer:
            self._peers[ovsdb] = peer
            self._mark_bridges_of(ovsdb)

    def peer_of(self, ovsdb: str) -> ConnectionPeer:
        """The connection peer of an OVSDB, as it was last known."""
        return self._peers.get(ovsdb, NO_PEER)

    def set_away(self, ovsdb: str, away: bool) -> None:
        """An OVSDB's connection ended (`away`), or its contents are complete."""
        if (ovsdb in self._away) != away:
            (self._away.add if away else self._away.discard)(ovsdb)
            self._mark_bridges_of(ovsdb)

    def forget(self, ovsdb: str) -> None:
        """Drop an OVSDB that has no bridges any more."""
        self._peers.pop(ovsdb, None)
        self._bridges_of.pop(ovsdb, None)
        self._away.discard(ovsdb)

    def set_session(self, dpid: int, peer: ConnectionPeer | None, now: float) -> None:
        """The switch of a datapath id has an OpenFlow session with this peer; None when the session ended."""
        if peer is None:
            self._sessions.pop(dpid, None)
        else:
            self._sessions[dpid] = peer, now
        self._stale_dpids.add(dpid)

    def _mark_bridges_of(self, ovsdb: str) -> None:
        for name in self._bridges_of.get(ovsdb, ()):
            self._stale_dpids.add(self._bridges[name].dpid)
            self._stale_nodes.add(self._bridges[name].node)

    def nodes_changed(self) -> None:
        """Nodes were added or removed, so a certificate may name another node than before."""
        self._stale_nodes.update(self._nodes)

    # -- decisions ---------------------------------------------------------------------------------------------------

    def decide(self, now: float) -> set[BridgeName]:
        """Decide the contests that changed; returns the bridges that are served now and were not, or the reverse."""
        if not (self._stale_dpids or self._stale_nodes or self._doubted):
            return set()
        dpids, self._stale_dpids = self._stale_dpids | self._doubted, set()
        nodes, self._stale_nodes = self._stale_nodes, set()
        self._doubted = set()
        concerned: set[BridgeName] = set()
        for dpid in dpids & self._dpids.keys():
            contest = self._dpids[dpid]
            concerned.update(self._decide_dpid(dpid, contest, now))
            self._find_replacing_peer(dpid, contest)
            if not contest.claims:
                del self._dpids[dpid]
                self._named.pop(dpid, None)
        for node in nodes & self._nodes.keys():
            of_node = self._nodes[node]
            self._note_first(node, of_node)
            self._decide(of_node, partial(self._proof_of_node, node=node), str)
            for ovsdb in of_node.claims:
                concerned |= self._bridges_on[ovsdb, node]
            if not of_node.claims:
                del self._nodes[node]
        return {name for name in concerned if self._update_refusal(name)}

    def _find_replacing_peer(self, dpid: int, contest: ClaimContest[BridgeName]) -> None:
        """Note an OVSDB whose certificate proves its claim while the OpenFlow session of the datapath id has another
        certificate: its own session is to replace that one."""
        found = {peer for name in contest.claims if (peer := self._peer_named_as_node(name)) is not None}
        names = self._session(dpid).names
        if len(found) != 1 or not names or set(names) & set(next(iter(found)).names):
            return
        (peer,) = found
        if self._named.get(dpid) != peer:
            self._named[dpid] = self._replacing[dpid] = peer

    def _peer_named_as_node(self, name: BridgeName) -> ConnectionPeer | None:
        peer, node = self._peers.get(name[0], NO_PEER), self._bridges[name].node.casefold()
        return peer if node and node in {one.casefold() for one in peer.names} else None

    def take_replacing_peers(self) -> dict[int, ConnectionPeer]:
        """By datapath id, the peers whose sessions are to replace the present ones; each is returned once."""
        found, self._replacing = self._replacing, {}
        return found

    def _decide_dpid(self, dpid: int, contest: ClaimContest[BridgeName], now: float) -> tuple[BridgeName, ...]:
        def proof(name: BridgeName) -> ClaimProof:
            found = compare_peers(self._peers.get(name[0], NO_PEER), self._session(dpid))
            if found is ClaimProof.DOUBTED and not (name == contest.owner and (contest.proven or contest.waited)):
                since = max(contest.claims[name], self._sessions[dpid][1])
                if now - since < PROOF_WAIT_SECONDS:
                    self._doubted.add(dpid)
                    return ClaimProof.REFUTED
            return found

        self._decide(contest, proof, itemgetter(0))
        return tuple(contest.claims)

    def _decide(self, contest: ClaimContest[T], proof: Callable[[T], ClaimProof], ovsdb_of: Callable[[T], str]) -> None:
        proofs = {claim: proof(claim) for claim in contest.claims}
        contest.decide(proofs, {claim for claim in proofs if ovsdb_of(claim) not in self._away})

    def _session(self, dpid: int) -> ConnectionPeer:
        return self._sessions[dpid][0] if dpid in self._sessions else NO_PEER

    def _proof_of_node(self, ovsdb: str, node: str) -> ClaimProof:
        peer = self._peers.get(ovsdb, NO_PEER)
        names = {name.casefold() for name in peer.names}
        if node.casefold() in names:
            return ClaimProof.PROVEN
        if any(self._is_node(name) for name in peer.names):
            return ClaimProof.REFUTED  # the certificate is another node's
        if self._has_other_name(ovsdb, node) and self._rival(ovsdb, node):
            return ClaimProof.REFUTED
        owner = self._nodes[node].owner
        if isinstance(owner, str) and owner != ovsdb and owner in self._away and not peer.names:
            same = bool(peer.host) and peer.host == self._peers.get(owner, NO_PEER).host
            return ClaimProof.PROVEN if same else ClaimProof.UNKNOWN  # PROVEN: a machine that was installed again
        return ClaimProof.DOUBTED if peer.names else ClaimProof.UNKNOWN

    def _has_other_name(self, ovsdb: str, node: str) -> bool:
        """Whether the OVSDB's host name only stands for the node, and is not its exact name."""
        return all(self._bridges[name].claimed_node != node for name in self._bridges_on[ovsdb, node])

    def _note_first(self, node: str, contest: ClaimContest[str]) -> None:
        """Note the first two connected OVSDBs that claim a node; those with its exact name come first."""
        connected = [ovsdb for ovsdb in contest.claims if ovsdb not in self._away]
        other_name = {ovsdb: self._has_other_name(ovsdb, node) for ovsdb in connected}
        contest.first = tuple(sorted(connected, key=lambda ovsdb: other_name[ovsdb])[:2])

    def _rival(self, ovsdb: str, node: str) -> str:
        """Another OVSDB that claims the node. It beats an OVSDB whose host name only stands for the node: where one has
        the exact name, that one is meant; where none has, it is not known which."""
        return next((other for other in self._nodes[node].first if other != ovsdb), "")

    def _update_refusal(self, name: BridgeName) -> bool:
        """Note why a bridge is not served. Returns whether it is served now and was not, or the reverse."""
        before, reason = self._refusals.get(name, ""), self._reason_for_refusal(self._bridges[name])
        if reason:
            self._refusals[name] = reason
        else:
            self._refusals.pop(name, None)
        return bool(before) != bool(reason)

    def _reason_for_refusal(self, bridge: BridgeState) -> str:
        name = (bridge.ovsdb, bridge.name)
        contest = self._dpids.get(bridge.dpid)
        if contest is not None and contest.owner != name:
            which = f"datapath id {bridge.dpid:016x}"
            if isinstance(contest.owner, tuple):
                return f"{which} is used by bridge {contest.owner[1]} at {contest.owner[0]} too; not served"
            peer = self._session(bridge.dpid)
            return f"the OpenFlow connection of {which} comes from {peer}, this OVSDB's does not; not served"
        of_node = self._nodes.get(bridge.node)
        if of_node is not None and of_node.owner != bridge.ovsdb:
            rival = self._rival(bridge.ovsdb, bridge.node) if bridge.claimed_node != bridge.node else ""
            if rival and of_node.owner is None:
                return (
                    f"its host name {bridge.claimed_node} and that of {rival} both may stand for node {bridge.node}; "
                    f"not served until one of them has its node's name: {SET_NAME_COMMAND}"
                )
            if of_node.owner is not None:
                return f"node {bridge.node} has its switch at {of_node.owner}, which this one claims too; not served"
            return f"its certificate names another node than {bridge.node}; not served"
        return ""

    def is_replaced(self, ovsdb: str) -> bool:
        """Whether an OVSDB is away and all its bridges belong to other, connected OVSDBs."""
        return (
            ovsdb in self._away
            and bool(self._bridges_of.get(ovsdb))
            and all(map(self._is_taken, self._bridges_of[ovsdb]))
        )

    def _is_taken(self, name: BridgeName) -> bool:
        bridge = self._bridges[name]
        of_dpid, of_node = self._dpids.get(bridge.dpid), self._nodes.get(bridge.node)
        owners = (
            of_dpid.owner[0] if of_dpid is not None and isinstance(of_dpid.owner, tuple) else name[0],
            of_node.owner if of_node is not None and isinstance(of_node.owner, str) else name[0],
        )
        return any(owner != name[0] and owner not in self._away for owner in owners)

    def refusal(self, name: BridgeName) -> str:
        """Why a bridge is not served, empty for one that is."""
        return self._refusals.get(name, "")

    def bridges_of(self, ovsdb: str) -> frozenset[BridgeName]:
        """The bridges that an OVSDB claims."""
        return frozenset(self._bridges_of.get(ovsdb, ()))

    def is_waiting(self) -> bool:
        """True while a doubted claim waits for one that is proven: call `decide` again later."""
        return bool(self._doubted)

    def served(self, dpid: int) -> BridgeName | None:
        """The bridge that owns a datapath id and is served; None where there is none."""
        contest = self._dpids.get(dpid)
        owner = contest.owner if contest is not None else None
        return owner if isinstance(owner, tuple) and not self._refusals.get(owner) else None
