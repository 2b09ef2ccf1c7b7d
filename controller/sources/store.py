"""Merges the objects of all sources into one cluster and posts its snapshots.

A source hands over units (`SourceUnit`): the objects of one file, or one API object, each replaced as a whole. The
store posts a ClusterChanged once every source has synced, then after each burst of changes. It has new immutable
snapshots (`flows.cluster.snapshot`) of the kinds that changed; those of other kinds are the same as before.

When several units hold the same object, the last one wins: that of the later source, and within a source the unit whose
name sorts last. Example, with one folder:

1. `a.yaml` and `b.yaml` both hold the policy `shop/web`, with different rules. Both units hold it; `b.yaml` wins.
2. The cluster has the policy of `b.yaml`, and a Problem of `a.yaml` says that it is also in `b.yaml`.
3. `b.yaml` is deleted: `apply` with None for its unit. `a.yaml` is the only holder left and wins; the next post has its
   policy and no Problem.

Two units that hold equal objects, for instance the same Namespace, are no problem. No files and no requests here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from controller.base.hub import offload
from controller.base.printable import printable
from controller.base.threads import Watched, watched
from controller.reconcile.events import ClusterChanged
from controller.reconcile.problem import Problem
from controller.sources.source import Source, SourceState
from controller.sources.unit import SourceUnit
from flows.cluster.model import CLUSTER_NETWORK_POLICY, Cluster, Key, Policy
from flows.cluster.original_api import ORIGINAL_KINDS, OriginalPolicyTranslation
from flows.cluster.snapshot import Snapshot
from flows.parse.objects import ClusterObject, ParsedObject

T = TypeVar("T")
ObjectId = tuple[str, Key | str]  # kind, and key or name
UnitId = tuple[int, str]  # index of the source, and the unit's name
# Those that pass on as they are, in the order of the fields of Cluster.
PLAIN_KINDS = ("Namespace", "Pod", "Node", "Service", "EndpointSlice", "ServiceCIDR", CLUSTER_NETWORK_POLICY)
SOURCE_KINDS = (*PLAIN_KINDS, "NetworkPolicy", *ORIGINAL_KINDS.values())
GATHER_SECONDS = 0.02  # between two posts at least, so that a burst makes few snapshots
MANY_OBJECTS = 1000  # that are handled beside the hub
MAX_LISTED_PROBLEMS = 10_000  # of all sources; the rest is only counted


class Store:
    """The objects of all sources. Thread-safe for threads of the hub (see `controller.base.native_threads`).

    `post` must not block. It is called in the order of generations. `stage_all` stages every NetworkPolicy.
    """

    def __init__(
        self, post: Callable[[ClusterChanged], None], delay: float = GATHER_SECONDS, stage_all: bool = False
    ) -> None:
        self._post = post
        self._stage_all = stage_all
        self._delay = delay
        self._sources: list[Source] = []
        self._unsynced: set[int] = set()  # indexes of sources
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: Watched | None = None
        self._units: dict[UnitId, dict[ObjectId, ParsedObject]] = {}
        self._problems: dict[UnitId, tuple[Problem, ...]] = {}
        self._holders: dict[ObjectId, tuple[UnitId, ...]] = {}  # sorted; the last one wins
        self._duplicated: set[ObjectId] = set()  # with more than one holder
        self._values: dict[str, dict[Any, ClusterObject]] = {kind: {} for kind in SOURCE_KINDS}
        self._snapshots: dict[str, Snapshot[Any, Any]] = {kind: Snapshot() for kind in PLAIN_KINDS}
        self._posted_values: dict[ObjectId, ClusterObject | None] = {}  # of changed objects: as last posted
        self._policies: Snapshot[Key, Policy] = Snapshot()
        self._original = OriginalPolicyTranslation()
        self._listed_problems: tuple[Problem, ...] | None = None  # None: to be listed again
        self._posted_problems: tuple[Problem, ...] | None = None
        self._generation = 0

    # -- sources -----------------------------------------------------------------------------------------------------

    def add(self, source: Source) -> None:
        """Register a source, before `start`. Objects of later sources win over those of earlier ones."""
        self._unsynced.add(len(self._sources))
        self._sources.append(source)

    def start(self) -> None:
        """Start posting, and the sources in their order. Raises SourceError after everything was stopped again."""
        self._thread = watched("store", self._run)
        self._thread.start()
        try:
            for source in self._sources:
                source.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the sources and posting. The objects stay."""
        for source in self._sources:
            source.stop()
        if self._thread is not None:
            self._thread.release()
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None

    def states(self) -> tuple[SourceState, ...]:
        """The state of each source."""
        return tuple(source.state() for source in self._sources)

    def reread(self, timeout: float) -> int:
        """Have every source read again, and return the generation that has all their objects as of the call.

        The ClusterChanged of that generation was posted before this returns. Raises TimeoutError when a source does not
        answer within `timeout` seconds, or has never synced.
        """
        deadline = time.monotonic() + timeout
        for source in self._sources:
            source.reread(max(0.0, deadline - time.monotonic()))
        self.flush()
        with self._lock:
            if self._unsynced:
                raise TimeoutError("not all sources have been read completely yet")
            return self._generation

    # -- feeding -----------------------------------------------------------------------------------------------------

    def apply(self, source: Source, units: Mapping[str, SourceUnit | None], *, now: bool = False) -> None:
        """Replace units of a source, all in one step; None removes one.

        `now` posts without waiting for more changes, for a source that has gathered a burst itself.
        """
        rank = self._sources.index(source)
        with self._lock:
            for name, unit in units.items():
                known = self._units.get((rank, name), ())
                count = max(len(known), len(unit.objects) if unit is not None else 0)
                _beside(count, self._replace, (rank, name), unit or SourceUnit())
        if now:
            self.flush()
        else:
            self._wake.set()

    def synced(self, source: Source) -> None:
        """Everything that was in `source` at its start has been applied."""
        with self._lock:
            self._unsynced.discard(self._sources.index(source))
        self._wake.set()

    def _replace(self, unit_id: UnitId, unit: SourceUnit) -> None:
        old = self._units.pop(unit_id, {})
        new = {(found.kind, found.name): found for found in unit.objects}
        if new:
            self._units[unit_id] = new
        for identity in old:
            if identity not in new:
                self._set_holders(identity, tuple(one for one in self._holders[identity] if one != unit_id))
        own = (unit_id,)  # one tuple, shared by all objects that no other unit holds
        for identity in new:
            holders = self._holders.get(identity, own)
            self._set_holders(identity, holders if unit_id in holders else tuple(sorted((*holders, unit_id))))
        if unit.problems != self._problems.get(unit_id, ()):
            self._listed_problems = None
        if unit.problems:
            self._problems[unit_id] = unit.problems
        else:
            self._problems.pop(unit_id, None)

    def _set_holders(self, identity: ObjectId, holders: tuple[UnitId, ...]) -> None:
        """Note which units hold an object now; the value of the last one becomes the object's."""
        kind, name = identity
        values = self._values[kind]
        value = self._units[holders[-1]][identity].value if holders else None
        if holders:
            self._holders[identity] = holders
        else:
            del self._holders[identity]
        if len(holders) > 1:
            self._listed_problems = None
            self._duplicated.add(identity)
        elif identity in self._duplicated:
            self._listed_problems = None
            self._duplicated.discard(identity)
        if values.get(name) == value:
            return
        self._posted_values.setdefault(identity, values.get(name))
        if value is None:
            del values[name]
        else:
            values[name] = value

    # -- posting -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Post what has changed since the last post, if anything has and all sources have synced."""
        with self._lock:
            if self._unsynced:
                return
            changed = _beside(len(self._posted_values), self._changed)
            if self._listed_problems is None:
                self._listed_problems = _limited(self._all_problems())
            problems = self._listed_problems
            if not changed and problems == self._posted_problems:
                return
            references = _beside(sum(map(len, changed.values())), self._make_snapshots, changed)
            first = self._posted_problems is None
            self._posted_problems = problems
            self._generation += 1
            namespaces, pods, nodes, *others = (self._snapshots[kind] for kind in PLAIN_KINDS)
            cluster = Cluster(namespaces, pods, nodes, self._policies, *others)
            self._post(ClusterChanged(cluster, problems, self._generation, None if first else references))

    def _changed(self) -> dict[str, dict[Any, ClusterObject | None]]:
        """The objects that differ from the last post, by kind and name; None for a deleted one."""
        found: dict[str, dict[Any, ClusterObject | None]] = {}
        for (kind, name), before in self._posted_values.items():
            value = self._values[kind].get(name)
            if value != before:
                found.setdefault(kind, {})[name] = value
        self._posted_values.clear()
        return found

    def _make_snapshots(
        self, changed: Mapping[str, Mapping[Any, ClusterObject | None]]
    ) -> tuple[tuple[str, Key | str], ...]:
        """Make new snapshots of the kinds that changed; returns kind and name of each changed object."""
        policies: dict[Key, Policy | None] = dict(changed.get("NetworkPolicy", {}))
        policies.update(self._original.update(changed))
        if self._stage_all:
            policies = {key: None if policy is None else policy.stage() for key, policy in policies.items()}
        self._policies = self._policies.updated(policies) if policies else self._policies
        references: list[tuple[str, Key | str]] = [("NetworkPolicy", key) for key in policies]
        for kind in PLAIN_KINDS:
            if kind in changed:
                self._snapshots[kind] = self._snapshots[kind].updated(changed[kind])
                references += [(kind, name) for name in changed[kind]]
        return tuple(references)

    def _all_problems(self) -> list[Problem]:
        problems = [problem for unit_id in sorted(self._problems) for problem in self._problems[unit_id]]
        for kind, name in sorted(self._duplicated, key=str):
            *others, winner = self._holders[kind, name]
            counts = self._units[winner][kind, name].value
            for loser in others:
                if self._units[loser][kind, name].value == counts:
                    continue  # equal objects are no problem: many files hold their namespace as well
                reason = f"is also in {printable(winner[1])}, which takes precedence"
                problems.append(Problem(printable(loser[1]), f"{kind} {name}", "", reason))
        return problems

    def _run(self) -> None:
        """Post a single change at once; those that follow closer than the delay wait for the rest of it."""
        posted_at = -self._delay
        while True:
            self._wake.wait()
            time.sleep(0)  # what the source's thread has at hand comes along
            self._stopping.wait(max(0.0, posted_at + self._delay - time.monotonic()))
            if self._stopping.is_set():
                return
            self._wake.clear()
            posted_at = time.monotonic()
            self.flush()


def _beside(count: int, work: Callable[..., T], *arguments: object) -> T:
    """Do work on `count` objects: beside the hub if they are many, for switches are served meanwhile. The caller holds
    the store's lock, for which others wait."""
    return offload(work, *arguments) if count > MANY_OBJECTS else work(*arguments)


def _limited(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """The first problems, and the number of the others: who writes the objects decides how many there are."""
    if len(problems) <= MAX_LISTED_PROBLEMS:
        return tuple(problems)
    more = len(problems) - MAX_LISTED_PROBLEMS
    return (*problems[:MAX_LISTED_PROBLEMS], Problem("all sources", "", "", f"and {more} more problems"))
