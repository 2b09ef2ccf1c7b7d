"""Which node has which ranges and addresses: Node objects claim them, and no two nodes may have the same.

A switch sends to a node what goes to the node's ranges of pods and its addresses, and takes from it what comes from
them. A kubelet writes addresses into its own Node, so a claim may be wrong or hostile. Theory of operation: all claims
of all nodes (`Node.pod_cidrs`, then `Node.addresses`) share one space, in which accepted claims never overlap. A claim
that overlaps an accepted one is refused, for as long as that one stands: whoever comes later cannot take away what
another node has. Claims that come together, as after a start, are decided in the order in which the Nodes were created,
then by name. Of an address that several claimed together, a node that proves it has it before one that does not,
whatever their age: see `prove`. Claims that overlap what is no node's at all (`reserved`), or lie outside the ranges
that the operator gives for pods or for nodes, are refused as well.

Example. node-1 has 10.244.1.0/24. node-2 comes with 10.244.1.0/24 and 192.0.2.2: its range is refused, and
`problems("node-2")` says whose it is; its address is accepted. node-1 is deleted: node-2 gets the range.

A change costs its own claims, and those that are refused now, which are decided anew where anything became free.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flows.bridge.routing import NetworkMode, RoutedNode
from flows.cluster.model import Node
from flows.cluster.net import ADDRESS_BITS, Net

MAX_NODE_CLAIMS = 16  # ranges and addresses of one node that are considered
MAX_NAME = 80  # characters of a node's name in a message
NO_TUNNEL_END = "it has no InternalIP of IPv{}, so no tunnel leads to its pods"


class ReservedNet(NamedTuple):
    """A range that no node can have, and whose it is."""

    net: Net
    owner: str


class _Held(NamedTuple):
    """An accepted claim; sorted, these do not overlap."""

    first: int
    last: int
    net: Net
    holder: str  # a node's name, or the owner of a reserved range


class NodeClaims:
    """The claims of all nodes.

    `pod_cidrs` are the ranges within which all pods are, `node_cidrs` those of all nodes' addresses; each is empty when
    the operator does not say.
    """

    def __init__(
        self,
        mode: NetworkMode,
        pod_cidrs: Sequence[Net] = (),
        reserved: Iterable[ReservedNet] = (),
        node_cidrs: Sequence[Net] = (),
    ) -> None:
        self._mode = mode
        self._pod_cidrs = tuple(pod_cidrs)
        self._node_cidrs = tuple(node_cidrs)
        self._nodes: dict[str, Node] = {}
        self._held: dict[int, list[_Held]] = {4: [], 6: []}  # by family, sorted
        self._accepted: dict[str, tuple[Net, ...]] = {}
        self._refused: dict[str, dict[Net, str]] = {}  # by node: the claim, and why
        self._open: set[str] = set()  # nodes with claims to decide
        self._fresh: set[Net] = set()  # accepted in this round of decisions
        self.contested: dict[Net, set[str]] = {}  # addresses that several nodes claimed together, and who did
        self._proven: set[tuple[Net, str]] = set()  # of contested addresses: who proved them
        self._routed: dict[str, RoutedNode] = {}
        self._family: int | None = None  # of the tunnel ends
        self._all: tuple[RoutedNode, ...] | None = None
        for net, owner in reserved:
            if self._holder_of(net) is None:
                self._hold(net, owner)

    # -- changes -----------------------------------------------------------------------------------------------------

    def put(self, node: Node) -> None:
        """A Node came or changed."""
        self._nodes[node.name] = node
        claims = set(_claims(node))
        self._leave_contests(node.name, claims)
        kept = tuple(net for net in self._accepted.get(node.name, ()) if net in claims)
        self._release(node.name, claims)
        self._accepted[node.name] = kept
        self._refused.pop(node.name, None)
        self._open.add(node.name)
        self._all = None

    def remove(self, name: str) -> None:
        """A Node is gone."""
        if self._nodes.pop(name, None) is not None:
            self._leave_contests(name, set())
            self._release(name, set())
            self._accepted.pop(name, None)
            self._refused.pop(name, None)
            self._routed.pop(name, None)
            self._open.discard(name)
            self._all = None

    def prove(self, name: str, address: Net) -> None:
        """A connection that is the node's own comes from this address: whoever has the address let it come.

        That counts for `contested` addresses alone, and for good: a node that is away keeps what it has. It is no
        certain proof, for a pod's connections come from its node's address too, so one that another node proved as well
        is decided by age again.
        """
        claimants = self.contested.get(address, ())
        if name not in claimants or (address, name) in self._proven:
            return
        self._proven.add((address, name))
        best = min(claimants, key=lambda one: ((address, one) not in self._proven, *self._age(one)))
        held = self._holder_of(address)
        if held is None or held.holder == best or held.holder not in claimants:
            return
        loser = held.holder
        self._accepted[loser] = tuple(net for net in self._accepted[loser] if net != address)
        self._unhold(address)
        self._hold(address, best)
        self._accepted[best] = (*self._accepted[best], address)
        self._open |= {best, loser}
        self._all = None

    def _leave_contests(self, name: str, claims: set[Net]) -> None:
        """The node makes these claims alone now."""
        for net, claimants in list(self.contested.items()):
            if name in claimants and net not in claims:
                claimants.discard(name)
                self._proven.discard((net, name))
                if len(claimants) < 2:
                    self._proven -= {(net, one) for one in claimants}
                    del self.contested[net]

    def _release(self, name: str, kept: set[Net]) -> None:
        """Free the accepted claims that the node does not make any more; those that were refused are decided anew."""
        gone = [net for net in self._accepted.get(name, ()) if net not in kept]
        for net in gone:
            self._unhold(net)
        if gone:
            self._open.update(self._refused)

    # -- decisions ---------------------------------------------------------------------------------------------------

    def routed(self) -> tuple[RoutedNode, ...]:
        """All nodes with what they have, sorted by name; the same tuple until anything changes."""
        if self._all is None:
            self._fresh = set()
            for name in sorted(self._open, key=self._age):
                try:
                    self._decide(self._nodes[name])
                except Exception as error:  # noqa: BLE001 - it concerns this node: it has nothing
                    self._give_nothing(self._nodes[name], error)
            changed, self._open = self._open, set()
            family = self._tunnel_family()
            if family != self._family:
                self._family, changed = family, set(self._nodes)
            for name in changed:
                self._routed[name] = self._routed_node(self._nodes[name])
            self._all = tuple([self._routed[name] for name in sorted(self._routed)])
        return self._all

    def problems(self, name: str) -> tuple[str, ...]:
        """Why a node does not have all that it claims, or cannot be reached; nothing for an unknown node."""
        self.routed()
        node = self._nodes.get(name)
        if node is None:
            return ()
        found = list(self._refused.get(name, {}).values())
        more = len(node.pod_cidrs) + len(node.addresses) - MAX_NODE_CLAIMS
        if more > 0:
            found.append(f"{more} more addresses of the Node are not considered")
        if not node.pod_cidrs:
            found.append("its Node has no spec.podCIDRs, so its pods have no addresses")
        if self._mode is NetworkMode.OVERLAY and self._routed[name].tunnel_end is None:
            found.append(NO_TUNNEL_END.format(self._family or "4 or IPv6"))
        return tuple(found)

    def _age(self, name: str) -> tuple[str, str]:
        return self._nodes[name].created or "unknown", name  # letters sort after the digits of any date

    def _decide(self, node: Node) -> None:
        accepted = dict.fromkeys(self._accepted[node.name])
        refused: dict[Net, str] = {}
        for net in _claims(node):
            if net in accepted:
                continue
            reason = self._reason_to_refuse(node, net)
            if reason:
                refused[net] = reason
                self._contest(net, node)
            else:
                self._fresh.add(net)
                self._hold(net, node.name)
                accepted[net] = None
        self._accepted[node.name] = tuple(accepted)
        if refused:
            self._refused[node.name] = refused
        else:
            self._refused.pop(node.name, None)

    def _give_nothing(self, node: Node, error: Exception) -> None:
        for version, held in self._held.items():
            self._held[version] = [one for one in held if one.holder != node.name]
        self._accepted[node.name] = ()
        reason = f"its claims cannot be decided: {type(error).__name__}: {error}"
        self._refused[node.name] = dict.fromkeys(_claims(node), reason)

    def _contest(self, net: Net, node: Node) -> None:
        """Note an address of a node that another node was given just now."""
        held = self._holder_of(net)
        if held is not None and held.net == net and net in self._fresh and held.holder != node.name:
            both = (node, self._nodes[held.holder])
            if all(net in one.addresses and net not in one.pod_cidrs for one in both):
                self.contested.setdefault(net, set()).update(one.name for one in both)

    def _reason_to_refuse(self, node: Node, net: Net) -> str:
        held = self._holder_of(net)
        if held is not None:
            whose = f"{'its own' if held.holder == node.name else 'that of ' + held.holder[:MAX_NAME]}"
            same = "is" if held.net == net else f"overlaps {held.net}, which is"
            return f"{_kind(node, net)} {net} is refused: it {same} {whose} already"
        allowed = self._pod_cidrs if net in node.pod_cidrs else self._node_cidrs
        if allowed and not any(one.contains(net) for one in allowed):
            return f"{_kind(node, net)} {net} is refused: it is not within {' '.join(map(str, allowed))}"
        return ""

    def _tunnel_family(self) -> int | None:
        """The family of all tunnels: that of the first address of the oldest node that has one."""
        if self._mode is not NetworkMode.OVERLAY:
            return None
        found = (
            (self._age(name), addresses[0].version) for name in self._nodes if (addresses := self._addresses(name))
        )
        oldest = min(found, default=None)
        return oldest[1] if oldest is not None else None

    def _addresses(self, name: str) -> tuple[Net, ...]:
        accepted = self._accepted[name]
        return tuple(net for net in self._nodes[name].addresses if net in accepted)

    def _routed_node(self, node: Node) -> RoutedNode:
        accepted = self._accepted[node.name]
        addresses = self._addresses(node.name)
        end = next((net for net in addresses if net.version == self._family), None)
        return RoutedNode(node.name, end, tuple(net for net in node.pod_cidrs if net in accepted), addresses)

    # -- the space of addresses --------------------------------------------------------------------------------------

    def _hold(self, net: Net, holder: str) -> None:
        insort(self._held[net.version], _Held(net.value, _last(net), net, holder))

    def _unhold(self, net: Net) -> None:
        held = self._held[net.version]
        del held[bisect_right(held, net.value, key=_first) - 1]

    def _holder_of(self, net: Net) -> _Held | None:
        """An accepted claim that overlaps a range. As accepted ones do not overlap, the last one that begins before the
        range's end is the only one to look at."""
        held = self._held[net.version]
        place = bisect_right(held, _last(net), key=_first)
        return held[place - 1] if place and held[place - 1].last >= net.value else None


def _first(held: _Held) -> int:
    return held.first


def _last(net: Net) -> int:
    return net.value | (1 << ADDRESS_BITS[net.version] - net.prefix) - 1


def _claims(node: Node) -> list[Net]:
    return list(dict.fromkeys((*node.pod_cidrs, *node.addresses)))[:MAX_NODE_CLAIMS]


def _kind(node: Node, net: Net) -> str:
    return "spec.podCIDRs" if net in node.pod_cidrs else "InternalIP"
