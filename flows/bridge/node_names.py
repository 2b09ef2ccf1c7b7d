"""Which Node a bridge's host name stands for, and which nodes have pods but no bridge.

OVS's scripts write `hostname -f` into OVSDB, and the kubelet names the Node: the two may differ in case, and one may be
the short form of the other. A host name stands for, in this order:
1. the Node of exactly that name;
2. the only Node of that name in any case;
3. the only Node with the same first label, if one of the two names is just that label.
Otherwise it stands for no Node: a guess would give one machine another's pods.

Example: `Worker-01.corp.example` stands for Node `worker-01`, unless Node `worker-01.lab.example` exists too.
Every question is a dictionary look-up, whatever the number of nodes.
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
SET_NAME_COMMAND = "ovs-vsctl set Open_vSwitch . external_ids:headgate-node-name=NAME"


class NodeNames:
    """The names of the Node objects, the bridges that claim one, and how many pods run where."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, None]] = {}  # by first label
        self._folded: dict[str, dict[str, None]] = {}  # by the whole name, casefolded
        self._claims: dict[str, dict[_Bridge, None]] = {}  # by first label: the bridges that claim such a name
        self._bridges: Counter[str] = Counter()  # number of bridges by the Node that their host name stands for
        self._pods: Counter[str] = Counter()  # number of pods by node
        self._homeless: dict[str, None] = {}  # nodes with pods and without a bridge

    # -- changes -------------------------------------------------------------------------------------------------------

    def add_node(self, node: str) -> Iterable[_Bridge]:
        """A Node was added; returns the bridges whose host name may now stand for another Node."""
        self._nodes.setdefault(first_label(node), {})[node] = None
        self._folded.setdefault(node.casefold(), {})[node] = None
        return tuple(self._claims.get(first_label(node), ()))

    def remove_node(self, node: str) -> Iterable[_Bridge]:
        """A Node was removed; returns the bridges whose host name may now stand for another Node."""
        for index, key in ((self._nodes, first_label(node)), (self._folded, node.casefold())):
            there = index.get(key, {})
            there.pop(node, None)
            if not there:
                index.pop(key, None)
        return tuple(self._claims.get(first_label(node), ()))

    def update_bridge(self, name: _Bridge, old: BridgeState | None, new: BridgeState | None) -> None:
        """A bridge was added (`old` is None), changed, or removed (`new` is None)."""
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
        """Count all pods; called once, before `update_pod`."""
        self._pods = Counter(pod.node for pod in pods if pod.node and pod.networked)
        for node in self._pods:
            self._update_homeless(node)

    def update_pod(self, old: Pod | None, new: Pod | None) -> None:
        """A pod was added, changed or removed."""
        before = old.node if old is not None and old.networked else ""
        after = new.node if new is not None and new.networked else ""
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

    # -- questions -----------------------------------------------------------------------------------------------------

    def node_for(self, claimed: str) -> str:
        """The Node that a host name stands for; the host name itself where it stands for none."""
        same = self._folded.get(claimed.casefold(), {})
        if claimed in same:
            return claimed
        if not same:
            alike = self._nodes.get(first_label(claimed), {})
            short = first_label(claimed)
            same = alike if len(alike) == 1 and short in (claimed.casefold(), *(map(str.casefold, alike))) else {}
        return next(iter(same)) if len(same) == 1 else claimed

    def why_no_node(self, bridge: BridgeState) -> str:
        """Why a bridge has no Node, if nodes with pods lack a bridge at the same time; else empty."""
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
        return f"its host name {claimed} {what}, so it has no pods; on it: {SET_NAME_COMMAND} ({which}: {listed})"


def first_label(name: str) -> str:
    """The first label of a host name, casefolded; the whole name where it is an IP address."""
    try:
        parse_address(name)
    except ValueError:
        return name.partition(".")[0].casefold()
    return name.casefold()
