"""The views of a status, kept from one reading to the next; only those that may have changed are read again.

`reference.py` reads the same from nothing, and a test holds this module equal to it. When a status is read: see
`runtime.status_cache`.

Theory of operation. A reading begins with `state()`, which takes the reconciler's lock once and costs as much as there
are bridges. It also collects the dirty bridges: those whose pods may differ since the last reading, because their ports
or flows changed. Then each kind of view is read:

- switches: all of them, each at a constant cost; the ports of a bridge only after its binding changed;
- pods: those of dirty bridges; pods without a port if the pods or bridges changed;
- policies: all of them, if policies, pods, namespaces, the revision or the set of unrealized bridges changed;
- problems: all of them, if one changed.

"Changed" compares identities of immutable values, so it costs nothing. The lock is taken for ITEMS_PER_READ pods or
policies at a time, so a view may be some milliseconds younger than the one before it.

Example: a port of node n1 is given to pod x/a. The bridge of n1 has a new binding, so it is dirty: the pods of n1 are
read again, those of n2 to n1000 are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from controller.reconcile.name_problems import name_problems
from controller.reconcile.problem import Problem
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.service_problems import service_problems
from controller.status.model import NodeView, PodView, PolicyView, ProblemView, SwitchView
from controller.status.node_views import bridges_by_node, node_view
from controller.status.pod_views import pods_on, pods_without_port
from controller.status.policy_views import cluster_policy_view, policy_view, what_is_left_out
from controller.status.problem_views import flush_problems, foreign_flow_problems, unknown_switches
from controller.status.switch_views import UnboundPorts, ports_of, switch_view, unrealized_bridges
from flows.bridge.binding import read_bridge
from flows.bridge.claim_contest import BridgeName
from flows.bridge.routing import RoutedNode
from flows.bridge.state import BindingResult, BridgeState, PodBinding
from flows.cluster.model import Cluster, Key

T = TypeVar("T")
ITEMS_PER_READ = 250  # pods or policies that are read with the lock held
READ_TIMEOUT_SECONDS = 10.0  # that a reading waits for the lock before it is given up


class ReconcilerAccess(Protocol):
    """Read access to the reconciler; see `runtime.locked_reconciler`."""

    def read(self, look: Callable[[Reconciler, float], T], timeout: float = -1) -> T:
        """What `look` returns for the reconciler and the time, called with the lock held. Raises TimeoutError."""


@dataclass(frozen=True, slots=True)
class ReconcilerState:
    """What is read in one go: values that cost as much as there are bridges, and immutable ones."""

    bridges: Mapping[BridgeName, tuple[BridgeState, BindingResult | None]]
    cluster: Cluster | None
    problems: tuple[Problem, ...]
    contained: tuple[Problem, ...]
    unknown_switches: tuple[ProblemView, ...]
    unrealized: tuple[BridgeName, ...]
    waiting: tuple[str, ...]
    revision: int
    routed_nodes: tuple[RoutedNode, ...]

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that have a bridge."""
        return frozenset(bridge.node for bridge, _ in self.bridges.values())


class IncrementalViews:
    """Reads views, or returns those it has. For one thread, except `switch_changed`.

    Every other method raises TimeoutError when the reconciler is busy for longer than READ_TIMEOUT_SECONDS.
    """

    def __init__(self, reconciler: ReconcilerAccess) -> None:
        self._reconciler = reconciler
        self._dirty: set[BridgeName] = set()  # bridges whose pods may have changed since they were read
        self._changed_dpids: set[int] = set()
        self._readings: dict[BridgeName, tuple[BridgeState, Cluster | None, BindingResult]] = {}
        self._ports: dict[BridgeName, tuple[BindingResult, UnboundPorts]] = {}
        self._pods_of_bridge: dict[BridgeName, dict[Key, PodView]] = {}
        self._pods: tuple[PodView, ...] = ()
        self._pods_depend_on: tuple[object, ...] = ()  # the values that they were read from, beside the bridges
        self._policies: tuple[PolicyView, ...] = ()
        self._policies_depend_on: tuple[object, ...] = ()
        self._problems: tuple[ProblemView, ...] = ()
        self._problems_depend_on: tuple[object, ...] = ()

    def switch_changed(self, dpid: int) -> None:
        """An event of this switch was handled. With the reconciler's lock held."""
        self._changed_dpids.add(dpid)

    def state(self) -> ReconcilerState:
        """The state that the views of this reading are made from."""
        return self._reconciler.read(self._look, READ_TIMEOUT_SECONDS)

    def _look(self, reconciler: Reconciler, _: float) -> ReconcilerState:
        world = reconciler.world
        self._dirty |= world.take_bridges_to_show()
        for dpid in self._changed_dpids:
            if (name := reconciler.bridge_of(dpid)) is not None:
                self._dirty.add(name)
        self._changed_dpids = set()
        return ReconcilerState(
            bridges={name: (bridge, world.kept_binding(name)) for name, bridge in world.bridges.items()},
            cluster=world.cluster,
            problems=reconciler.problems,
            contained=(
                *reconciler.contained_problems(),
                *service_problems(world),
                *name_problems(world, reconciler.held_answers.full),
                *reconciler.missing_bridges(),
            ),
            unknown_switches=(
                *unknown_switches(reconciler),
                *foreign_flow_problems(reconciler),
                *flush_problems(reconciler),
            ),
            unrealized=tuple(unrealized_bridges(reconciler)),
            waiting=tuple(reconciler.waiting_for()),
            revision=reconciler.revision,
            routed_nodes=world.network.routed_nodes(),
        )

    # -- switches ----------------------------------------------------------------------------------------------------

    def switches(self, state: ReconcilerState) -> tuple[float, tuple[SwitchView, ...]]:
        """The monotonic time of the reading, and every bridge of ours, by node and name."""
        ports = {name: self._ports_of(name, state) for name in state.bridges}
        _drop_gone(state.bridges.keys(), self._readings, self._ports, self._pods_of_bridge)

        def look(reconciler: Reconciler, now: float) -> tuple[float, list[SwitchView]]:
            there = reconciler.world.bridges
            return now, [switch_view(reconciler, name, found, now) for name, found in ports.items() if name in there]

        at, views = self._reconciler.read(look, READ_TIMEOUT_SECONDS)
        return at, tuple(sorted(views, key=lambda view: (view.node, view.bridge)))

    def _ports_of(self, name: BridgeName, state: ReconcilerState) -> UnboundPorts:
        bridge, reading = state.bridges[name]
        if reading is None:
            reading = self._read_binding(name, bridge, state.cluster)
        known = self._ports.get(name)
        if known is None or known[0] is not reading:
            known = self._ports[name] = (reading, ports_of(bridge, reading))
            self._dirty.add(name)
            _yield_to_hub()
        return known[1]

    def _read_binding(self, name: BridgeName, bridge: BridgeState, cluster: Cluster | None) -> BindingResult:
        """The binding of a bridge that the reconciler has not read yet, for it may not send anything."""
        known = self._readings.get(name)
        if known is None or known[0] is not bridge or known[1] is not cluster:
            known = self._readings[name] = (bridge, cluster, read_bridge(bridge, cluster or Cluster()))
        return known[2]

    # -- nodes -------------------------------------------------------------------------------------------------------

    def nodes(self, state: ReconcilerState) -> tuple[NodeView, ...]:
        """Every node of a network in which switches route, by name."""
        bridges = bridges_by_node((name, bridge) for name, (bridge, _) in state.bridges.items())
        views: list[NodeView] = []

        def look(reconciler: Reconciler, part: Sequence[RoutedNode]) -> None:
            views.extend(node_view(reconciler, node, bridges.get(node.name, ())) for node in part)

        self._read_few(state.routed_nodes, look)
        return tuple(views)

    # -- pods --------------------------------------------------------------------------------------------------------

    def pods(self, state: ReconcilerState) -> tuple[PodView, ...]:
        """Every pod with a port, and those that should have one, by name. Call `switches` with this state first."""
        cluster = state.cluster
        if cluster is None:
            return ()
        dirty = self._dirty & self._ports.keys()
        depends = (cluster.pods, state.nodes, frozenset(self._ports))
        if not dirty and _same(depends, self._pods_depend_on):
            return self._pods
        for name in dirty:
            self._pods_of_bridge[name] = self._pods_on(name, self._ports[name][0].binding.pods)
            self._dirty.discard(name)
        found: dict[Key, PodView] = {}
        for name in state.bridges:
            found.update(self._pods_of_bridge.get(name, {}))
            _yield_to_hub()
        for keys in _chunks(list(cluster.pods)):
            found.update(pods_without_port(cluster, state.nodes, found, keys))
        self._pods, self._pods_depend_on = tuple(_in_order(found)), depends
        self._dirty &= self._ports.keys()
        return self._pods

    def _pods_on(self, name: BridgeName, pod_bindings: Sequence[PodBinding]) -> dict[Key, PodView]:
        found: dict[Key, PodView] = {}

        def look(reconciler: Reconciler, part: Sequence[PodBinding]) -> None:
            if name in reconciler.world.bridges:
                found.update(pods_on(reconciler, name, part))

        self._read_few(pod_bindings, look)
        return found

    # -- policies and problems ---------------------------------------------------------------------------------------

    def policies(self, state: ReconcilerState) -> tuple[PolicyView, ...]:
        """Every policy by name, with the reason where it is not wholly realized."""
        cluster = state.cluster
        if cluster is None:
            return ()
        depends = (
            cluster.policies,
            cluster.cluster_policies,
            cluster.pods,
            cluster.namespaces,
            state.revision,
            state.unrealized,
        )
        if _same(depends, self._policies_depend_on):
            return self._policies
        unrealized = self._pods_on_unrealized(state)
        views: list[PolicyView] = []

        def look(reconciler: Reconciler, part: Sequence[Key]) -> None:
            out = what_is_left_out(reconciler)
            views.extend(policy_view(reconciler, cluster.policies[key], unrealized, out) for key in part)

        def look_at_tiers(reconciler: Reconciler, part: Sequence[Key]) -> None:
            out = what_is_left_out(reconciler)
            of_cluster = cluster.cluster_policies
            views.extend(cluster_policy_view(reconciler, of_cluster[key], unrealized, out) for key in part)

        self._read_few(sorted(cluster.policies), look)
        self._read_few(sorted(cluster.cluster_policies), look_at_tiers)
        self._policies, self._policies_depend_on = tuple(views), depends
        return self._policies

    def _pods_on_unrealized(self, state: ReconcilerState) -> dict[int, str]:
        """As `reference.pods_on_unrealized_bridges`, a few pods at a time."""
        found: dict[int, str] = {}
        pods: list[tuple[Key, str]] = []
        for name in state.unrealized:
            bridge, reading = state.bridges[name]
            pods += [(one.pod, bridge.node) for one in reading.binding.pods] if reading else []

        def look(reconciler: Reconciler, part: Sequence[tuple[Key, str]]) -> None:
            number = reconciler.world.pod_numbers
            found.update((number[key], node) for key, node in part if key in number)

        self._read_few(pods, look)
        return found

    def _read_few(self, items: Sequence[T], work: Callable[[Reconciler, Sequence[T]], None]) -> None:
        """Call `work` with all items, a few at a time, with the lock held."""
        for part in _chunks(items):
            self._reconciler.read(partial(_call_with, work, part), READ_TIMEOUT_SECONDS)

    def problems(self, state: ReconcilerState) -> tuple[ProblemView, ...]:
        """The problems of the sources, switches that no OVSDB has, and foreign flows."""
        depends = (state.problems, state.contained, state.unknown_switches)
        if not _same(depends, self._problems_depend_on):
            views: list[ProblemView] = []
            for part in _chunks((*state.problems, *state.contained)):
                views += [ProblemView(one.where, one.key, one.field, one.reason) for one in part]
            self._problems, self._problems_depend_on = (*views, *state.unknown_switches), depends
        return self._problems


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether they hold the same objects; small values are compared."""
    if len(one) != len(other):
        return False
    return all(a is b or (_is_small(a) and a == b) for a, b in zip(one, other, strict=True))


def _is_small(value: object) -> bool:
    """Whether it may be compared by value; a snapshot of the cluster is too large."""
    return isinstance(value, int) or (isinstance(value, (tuple, frozenset)) and len(value) < 10 * ITEMS_PER_READ)


def _call_with(
    work: Callable[[Reconciler, Sequence[T]], None], part: Sequence[T], reconciler: Reconciler, _: float
) -> None:
    work(reconciler, part)


def _drop_gone(there: AbstractSet[BridgeName], *kept: dict[BridgeName, Any]) -> None:
    for pieces in kept:
        for name in pieces.keys() - there:
            del pieces[name]


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, ITEMS_PER_READ at a time; the hub runs other threads in between."""
    for start in range(0, len(items), ITEMS_PER_READ):
        if start:
            _yield_to_hub()
        yield items[start : start + ITEMS_PER_READ]


def _in_order(found: Mapping[Key, PodView]) -> Iterator[PodView]:
    """The pods by name, sorted a namespace at a time: one large sort would hold up every thread."""
    spaces: dict[str, list[Key]] = {}
    for count, key in enumerate(found, 1):
        spaces.setdefault(key.namespace, []).append(key)
        if not count % (20 * ITEMS_PER_READ):
            _yield_to_hub()
    for namespace in sorted(spaces):
        for key in sorted(spaces[namespace]):
            yield found[key]
        _yield_to_hub()


def _yield_to_hub() -> None:
    time.sleep(0)
