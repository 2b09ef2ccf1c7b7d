"""The pieces of a status, kept from one reading to the next, and read again where they may differ.

The core's lock is taken for a few hundred pods or policies at a time. What is read so may join moments that lie that
far apart. For one thread; when it reads, and who asks, is `board`'s business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from controller.reconcile.events import Problem
from controller.reconcile.reconciler import Reconciler
from controller.status.model import PodView, PolicyView, ProblemView, SwitchView
from controller.status.report import (
    UnboundPorts,
    foreign_flow_problems,
    pods_on,
    pods_without_port,
    policy_view,
    ports_of,
    switch_view,
    unknown_switches,
    unrealized_bridges,
)
from flows.bridge.binding import read_bridge
from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import BindingResult, BridgeState, PodBinding
from flows.cluster.model import Cluster, Key

T = TypeVar("T")
ITEMS_PER_READ = 250  # pods or policies that are read while the core waits
READ_TIMEOUT_SECONDS = 10.0  # for which the core may keep its lock before the reading is given up


class ReconcilerAccess(Protocol):
    """What is asked of the controller."""

    def read(self, look: Callable[[Reconciler, float], T], timeout: float = -1) -> T:
        """What `look` reads off the reconciler while nothing changes it. Raises TimeoutError."""


@dataclass(frozen=True, slots=True)
class CoreState:
    """What is read at once: all whose size is that of the switches, and values that never change."""

    bridges: Mapping[BridgeName, tuple[BridgeState, BindingResult | None]]
    cluster: Cluster | None
    problems: tuple[Problem, ...]
    contained: tuple[Problem, ...]
    unknown_switches: tuple[ProblemView, ...]
    behind: tuple[BridgeName, ...]
    waiting: tuple[str, ...]
    revision: int

    @property
    def nodes(self) -> frozenset[str]:
        """Those that have a switch."""
        return frozenset(bridge.node for bridge, _ in self.bridges.values())


class IncrementalViews:
    """Reads pieces, or hands out those it has. Everything may raise TimeoutError: the core is busy for too long."""

    def __init__(self, core: ReconcilerAccess) -> None:
        self._core = core
        self._dirty: set[BridgeName] = set()  # bridges whose pods may be otherwise than when they were read
        self._dpids: set[int] = set()
        self._readings: dict[BridgeName, tuple[BridgeState, Cluster | None, BindingResult]] = {}
        self._ports: dict[BridgeName, tuple[BindingResult, UnboundPorts]] = {}
        self._of_bridge: dict[BridgeName, dict[Key, PodView]] = {}
        self._pods: tuple[PodView, ...] = ()
        self._pods_of: tuple[object, ...] = ()  # what they depend on beside the bridges
        self._policies: tuple[PolicyView, ...] = ()
        self._policies_of: tuple[object, ...] = ()
        self._problems: tuple[ProblemView, ...] = ()
        self._problems_of: tuple[object, ...] = ()

    def touch(self, dpid: int) -> None:
        """Something happened to a switch. Under the core's lock."""
        self._dpids.add(dpid)

    def moment(self) -> CoreState:
        """How things stand now."""
        return self._core.read(self._look, READ_TIMEOUT_SECONDS)

    def _look(self, core: Reconciler, _: float) -> CoreState:
        world = core.world
        self._dirty |= world.take_bridges_to_show()
        for dpid in self._dpids:
            if (name := core.bridge_of(dpid)) is not None:
                self._dirty.add(name)
        self._dpids = set()
        return CoreState(
            bridges={name: (bridge, world.kept_binding(name)) for name, bridge in world.bridges.items()},
            cluster=world.cluster,
            problems=core.problems,
            contained=(*core.contained_problems(), *core.without_bridge()),
            unknown_switches=(*unknown_switches(core), *foreign_flow_problems(core)),
            behind=tuple(unrealized_bridges(core)),
            waiting=tuple(core.waiting_for()),
            revision=core.revision,
        )

    # -- switches ----------------------------------------------------------------------------------------------------

    def switches(self, moment: CoreState) -> tuple[float, tuple[SwitchView, ...]]:
        """Every bridge of ours by node and name, and when that was read."""
        ports = {name: self._ports_of(name, moment) for name in moment.bridges}
        _forget(moment.bridges.keys(), self._readings, self._ports, self._of_bridge)

        def look(core: Reconciler, now: float) -> tuple[float, list[SwitchView]]:
            there = core.world.bridges
            return now, [switch_view(core, name, found, now) for name, found in ports.items() if name in there]

        at, views = self._core.read(look, READ_TIMEOUT_SECONDS)
        return at, tuple(sorted(views, key=lambda view: (view.node, view.bridge)))

    def _ports_of(self, name: BridgeName, moment: CoreState) -> UnboundPorts:
        bridge, reading = moment.bridges[name]
        if reading is None:
            reading = self._read_ahead(name, bridge, moment.cluster)
        known = self._ports.get(name)
        if known is None or known[0] is not reading:
            known = self._ports[name] = (reading, ports_of(bridge, reading))
            self._dirty.add(name)
            _breathe()
        return known[1]

    def _read_ahead(self, name: BridgeName, bridge: BridgeState, cluster: Cluster | None) -> BindingResult:
        """What the core will read on a bridge's ports as soon as it may send anything."""
        known = self._readings.get(name)
        if known is None or known[0] is not bridge or known[1] is not cluster:
            known = self._readings[name] = (bridge, cluster, read_bridge(bridge, cluster or Cluster()))
        return known[2]

    # -- pods --------------------------------------------------------------------------------------------------------

    def pods(self, moment: CoreState) -> tuple[PodView, ...]:
        """Every pod with a port, and those that should have one, by name. `switches` was asked for before."""
        cluster = moment.cluster
        if cluster is None:
            return ()
        dirty = self._dirty & self._ports.keys()
        depends = (cluster.pods, moment.nodes, frozenset(self._ports))
        if not dirty and _same(depends, self._pods_of):
            return self._pods
        for name in dirty:
            self._of_bridge[name] = self._pods_on(name, self._ports[name][0].binding.pods)
            self._dirty.discard(name)
        found: dict[Key, PodView] = {}
        for name in moment.bridges:
            found.update(self._of_bridge.get(name, {}))
            _breathe()
        for keys in _parts(list(cluster.pods)):
            found.update(pods_without_port(cluster, moment.nodes, found, keys))
        self._pods, self._pods_of = tuple(_in_order(found)), depends
        self._dirty &= self._ports.keys()
        return self._pods

    def _pods_on(self, name: BridgeName, pod_bindings: Sequence[PodBinding]) -> dict[Key, PodView]:
        found: dict[Key, PodView] = {}

        def look(core: Reconciler, part: Sequence[PodBinding]) -> None:
            if name in core.world.bridges:
                found.update(pods_on(core, name, part))

        self._read_few(pod_bindings, look)
        return found

    # -- policies and problems ---------------------------------------------------------------------------------------

    def policies(self, moment: CoreState) -> tuple[PolicyView, ...]:
        """Every policy by name, with what keeps it from being wholly in force."""
        cluster = moment.cluster
        if cluster is None:
            return ()
        depends = (cluster.policies, cluster.pods, cluster.namespaces, moment.revision, moment.behind)
        if _same(depends, self._policies_of):
            return self._policies
        behind = self._pods_behind(moment)
        views: list[PolicyView] = []

        def look(core: Reconciler, part: Sequence[Key]) -> None:
            out = core.world.left_out()
            views.extend(policy_view(core, cluster.policies[key], behind, out) for key in part)

        self._read_few(sorted(cluster.policies), look)
        self._policies, self._policies_of = tuple(views), depends
        return self._policies

    def _pods_behind(self, moment: CoreState) -> dict[int, str]:
        """As `report.pods_behind` says it."""
        found: dict[int, str] = {}
        pods: list[tuple[Key, str]] = []
        for name in moment.behind:
            bridge, reading = moment.bridges[name]
            pods += [(one.pod, bridge.node) for one in reading.binding.pods] if reading else []

        def look(core: Reconciler, part: Sequence[tuple[Key, str]]) -> None:
            number = core.world.pod_numbers
            found.update((number[key], node) for key, node in part if key in number)

        self._read_few(pods, look)
        return found

    def _read_few(self, items: Sequence[T], work: Callable[[Reconciler, Sequence[T]], None]) -> None:
        """Have all items worked on while nothing changes, a few at a time."""
        for part in _parts(items):
            self._core.read(partial(_with, work, part), READ_TIMEOUT_SECONDS)

    def problems(self, moment: CoreState) -> tuple[ProblemView, ...]:
        """What the sources could not take, and switches of nobody."""
        depends = (moment.problems, moment.contained, moment.unknown_switches)
        if not _same(depends, self._problems_of):
            views: list[ProblemView] = []
            for part in _parts((*moment.problems, *moment.contained)):
                views += [ProblemView(one.where, one.key, one.field, one.reason) for one in part]
            self._problems, self._problems_of = (*views, *moment.unknown_switches), depends
        return self._problems


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether they hold the same objects; small values are compared."""
    if len(one) != len(other):
        return False
    return all(a is b or (_is_small(a) and a == b) for a, b in zip(one, other, strict=True))


def _is_small(value: object) -> bool:
    """Whether it costs little to compare; snapshots of the cluster do not."""
    return isinstance(value, int) or (isinstance(value, (tuple, frozenset)) and len(value) < 10 * ITEMS_PER_READ)


def _with(work: Callable[[Reconciler, Sequence[T]], None], part: Sequence[T], core: Reconciler, _: float) -> None:
    work(core, part)


def _forget(there: AbstractSet[BridgeName], *kept: dict[BridgeName, Any]) -> None:
    for pieces in kept:
        for name in pieces.keys() - there:
            del pieces[name]


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, a few at a time; other threads get their turn between."""
    for start in range(0, len(items), ITEMS_PER_READ):
        if start:
            _breathe()
        yield items[start : start + ITEMS_PER_READ]


def _in_order(found: Mapping[Key, PodView]) -> Iterator[PodView]:
    """By name; a namespace at a time, for one large sort would hold up every thread."""
    spaces: dict[str, list[Key]] = {}
    for count, key in enumerate(found, 1):
        spaces.setdefault(key.namespace, []).append(key)
        if not count % (20 * ITEMS_PER_READ):
            _breathe()
    for namespace in sorted(spaces):
        for key in sorted(spaces[namespace]):
            yield found[key]
        _breathe()


def _breathe() -> None:
    time.sleep(0)
