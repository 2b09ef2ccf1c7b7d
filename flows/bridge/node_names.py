"""Which Node a bridge's host name means, and on which nodes pods run that have no bridge.

OVS's own scripts write what `hostname -f` says, a Node is called what the kubelet thinks: they may differ in case, and
one may be the short form of the other. The Node of exactly that name is meant; else the only one of that name whatever
the case; else the only one whose first label is the same, if one of the two names is that label. Nobody else is, for a
guess would give one machine another's pods. Names are looked up, never searched for. No input or output here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from flows.bridge.state import BridgeState
from flows.cluster.model import Pod
from flows.cluster.net import parse_address

_Bridge = tuple[str, str]  # its OVSDB's name and its own
MAX_NODES_LISTED = 5  # of candidates
SET_HOSTNAME_COMMAND = "ovs-vsctl set Open_vSwitch . external_ids:hostname=NAME"


class NodeNames:
    """The names of the Node objects, the bridges that claim one, and how many pods run where."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, None]] = {}  # by label: the Nodes that share it
        self._folded: dict[str, dict[str, None]] = {}  # by the whole name without its case
        self._claims: dict[str, dict[_Bridge, None]] = {}  # by label: bridges that claim such a name
        self._bridges: Counter[str] = Counter()  # by the node that is meant
        self._pods: Counter[str] = Counter()
        self._homeless: dict[str, None] = {}  # nodes that pods run on and no bridge

    # -- what happens ------------------------------------------------------------------------------------------------

    def add_node(self, node: str) -> Iterable[_Bridge]:
        """There is such a Node; returns the bridges whose claim may mean another one now."""
        self._nodes.setdefault(first_label(node), {})[node] = None
        self._folded.setdefault(node.casefold(), {})[node] = None
        return tuple(self._claims.get(first_label(node), ()))

    def remove_node(self, node: str) -> Iterable[_Bridge]:
        """There is no such Node any more; returns the bridges whose claim may mean another one now."""
        for index, key in ((self._nodes, first_label(node)), (self._folded, node.casefold())):
            there = index.get(key, {})
            there.pop(node, None)
            if not there:
                index.pop(key, None)
        return tuple(self._claims.get(first_label(node), ()))

    def update_bridge(self, name: _Bridge, old: BridgeState | None, new: BridgeState | None) -> None:
        """A bridge claims and means these nodes now; None for one that is gone, or was not there."""
        if old is not None:
            there = self._claims.get(first_label(old.claimed_node), {})
            there.pop(name, None)
            if not there:
                self._claims.pop(first_label(old.claimed_node), None)
            self._count(self._bridges, old.node, -1)
        if new is not None:
            self._claims.setdefault(first_label(new.claimed_node), {})[name] = None
            self._count(self._bridges, new.node, 1)

    def set_pods(self, pods: Iterable[Pod]) -> None:
        """All pods there are; before any of them moves."""
        self._pods = Counter(pod.node for pod in pods if pod.node and pod.networked)
        for node in self._pods:
            self._update_homeless(node)

    def update_pod(self, old: Pod | None, new: Pod | None) -> None:
        """A pod came, changed or went."""
        before, after = (pod.node if pod is not None and pod.networked else "" for pod in (old, new))
        if before != after:
            self._count(self._pods, before, -1)
            self._count(self._pods, after, 1)

    def _count(self, counter: Counter[str], node: str, by: int) -> None:
        if not node:
            return
        counter[node] += by
        if counter[node] <= 0:
            del counter[node]
        self._update_homeless(node)

    def _update_homeless(self, node: str) -> None:
        if node in self._pods and node not in self._bridges:
            self._homeless[node] = None
        else:
            self._homeless.pop(node, None)

    # -- asking ------------------------------------------------------------------------------------------------------

    def node_for(self, claimed: str) -> str:
        """The Node that a host name means; the host name itself where it means none."""
        same = self._folded.get(claimed.casefold(), {})
        if claimed in same:
            return claimed
        if not same:
            alike = self._nodes.get(first_label(claimed), {})
            short = first_label(claimed)
            same = alike if len(alike) == 1 and short in (claimed.casefold(), *(map(str.casefold, alike))) else {}
        return next(iter(same)) if len(same) == 1 else claimed

    def why_no_node(self, bridge: BridgeState) -> str:
        """Why a bridge has no Node although pods run on nodes without a bridge; empty when that is not so."""
        claimed = bridge.claimed_node
        if not claimed or not self._homeless or bridge.node in self._pods:
            return ""
        if bridge.node in self._folded.get(bridge.node.casefold(), ()):
            return ""
        alike = self._nodes.get(first_label(claimed), {})
        what = "is like those of several Nodes" if len(alike) > 1 else "is no Node's"
        names = [*islice(alike or self._homeless, MAX_NODES_LISTED)]
        more = len(alike or self._homeless) - len(names)
        listed = ", ".join(names) + (f" and {more} more" if more else "")
        which = "the Nodes like it" if alike else "nodes with pods and without a switch"
        return f"its host name {claimed} {what}, so it has no pods; on it: {SET_HOSTNAME_COMMAND} ({which}: {listed})"


def first_label(name: str) -> str:
    """The first label of a host name, without its case; the whole of what is an address."""
    try:
        parse_address(name)
    except ValueError:
        return name.partition(".")[0].casefold()
    return name.casefold()
