"""Where the objects of all sources become one world: snapshots, posted once every source has synced and then on change.

Sources hand over units: a file's objects, or one object of an API, each replaced as a whole. When several units hold
the same object, the one whose place is later counts: a later source before an earlier one, and within a source the unit
whose name sorts last; a Problem names both, unless they say the same. Nothing of files or servers may live here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controller.base.printable import printable
from controller.base.threads import Watched, watched
from controller.reconcile.events import ClusterChanged, Problem
from controller.sources.source import Source, SourceState
from controller.sources.unit import SourceUnit
from flows.cluster.model import Cluster, Key, Policy
from flows.cluster.original_api import ORIGINAL_KINDS, OriginalPolicyTranslation
from flows.cluster.snapshot import Snapshot
from flows.parse.objects import ClusterObject, ParsedObject

ObjectId = tuple[str, Key | str]  # kind, and key or name
UnitId = tuple[int, str]  # the source's rank and the unit's name
SOURCE_KINDS = ("Namespace", "Pod", "Node", "NetworkPolicy", *ORIGINAL_KINDS.values())
GATHER_SECONDS = 0.02  # seconds in which a burst of changes is gathered
OBJECTS_PER_TURN = 1000  # objects taken in before other green threads get their turn
MAX_LISTED_PROBLEMS = 10_000  # of all sources that are told one by one


class Store:
    """The objects of all sources. Thread-safe; to be used on the hub's side (see `native`).

    `post` must not block. It is called in the order of generations.
    """

    def __init__(self, post: Callable[[ClusterChanged], None], delay: float = GATHER_SECONDS) -> None:
        self._post = post
        self._delay = delay
        self._sources: list[Source] = []
        self._waiting: set[int] = set()  # ranks of sources that have not synced
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: Watched | None = None
        self._units: dict[UnitId, dict[ObjectId, ParsedObject]] = {}
        self._problems: dict[UnitId, tuple[Problem, ...]] = {}
        self._holders: dict[ObjectId, tuple[UnitId, ...]] = {}  # sorted, the last one counts
        self._contested: set[ObjectId] = set()
        self._values: dict[str, dict[Any, ClusterObject]] = {kind: {} for kind in SOURCE_KINDS}
        self._frozen: dict[str, Snapshot[Any, Any]] = {kind: Snapshot() for kind in ("Namespace", "Pod", "Node")}
        self._before: dict[ObjectId, ClusterObject | None] = {}  # what the last post had of all that was touched since
        self._policies: Snapshot[Key, Policy] = Snapshot()
        self._original = OriginalPolicyTranslation()
        self._told: tuple[Problem, ...] | None = None  # the problems as they stand, None when they may differ
        self._posted_problems: tuple[Problem, ...] | None = None
        self._generation = 0

    # -- sources -----------------------------------------------------------------------------------------------------

    def add(self, source: Source) -> None:
        """Take part in this store; before `start`. Later sources win over earlier ones."""
        self._waiting.add(len(self._sources))
        self._sources.append(source)

    def start(self) -> None:
        """Start posting, and the sources in their order. Raises SourceError, with everything stopped again."""
        self._thread = watched("store", self._run)
        self._thread.start()
        try:
            for source in self._sources:
                source.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the sources and posting. What is there stays."""
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
        """How each source is doing."""
        return tuple(source.state() for source in self._sources)

    def reread(self, timeout: float) -> int:
        """Have every source read again what stands in it now, and return the generation that has it.

        That ClusterChanged, or a later one, was posted before this returns. Raises TimeoutError when a source does not
        answer, or has never synced, within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        for source in self._sources:
            source.reread(max(0.0, deadline - time.monotonic()))
        self.flush()
        with self._lock:
            if self._waiting:
                raise TimeoutError("not all sources have been read completely yet")
            return self._generation

    # -- feeding -----------------------------------------------------------------------------------------------------

    def apply(self, source: Source, units: Mapping[str, SourceUnit | None], *, now: bool = False) -> None:
        """Replace units of a source, all at once; None removes one.

        `now` posts without gathering more, for a source that has gathered a burst itself.
        """
        rank = self._sources.index(source)
        with self._lock:
            for name, unit in units.items():
                self._replace((rank, name), unit or SourceUnit())
        if now:
            self.flush()
        else:
            self._wake.set()

    def synced(self, source: Source) -> None:
        """All that stood in `source` when it started has been applied."""
        with self._lock:
            self._waiting.discard(self._sources.index(source))
        self._wake.set()

    def _replace(self, place: UnitId, unit: SourceUnit) -> None:
        old = self._units.pop(place, {})
        new = {(found.kind, found.name): found for found in unit.objects}
        if new:
            self._units[place] = new
        for identity in old:
            if identity not in new:
                self._hold(identity, tuple(one for one in self._holders[identity] if one != place))
        own = (place,)  # one tuple for all objects that nobody else holds
        for count, identity in enumerate(new, 1):
            holders = self._holders.get(identity, own)
            self._hold(identity, holders if place in holders else tuple(sorted((*holders, place))))
            if count % OBJECTS_PER_TURN == 0:
                time.sleep(0)  # green threads answer the switches meanwhile; whoever needs the store waits for the lock
        if unit.problems != self._problems.get(place, ()):
            self._told = None
        if unit.problems:
            self._problems[place] = unit.problems
        else:
            self._problems.pop(place, None)

    def _hold(self, identity: ObjectId, holders: tuple[UnitId, ...]) -> None:
        """Say who has an object now, and let the last of them count."""
        kind, name = identity
        values = self._values[kind]
        value = self._units[holders[-1]][identity].value if holders else None
        if holders:
            self._holders[identity] = holders
        else:
            del self._holders[identity]
        if len(holders) > 1:
            self._told = None
            self._contested.add(identity)
        elif identity in self._contested:
            self._told = None
            self._contested.discard(identity)
        if values.get(name) == value:
            return
        self._before.setdefault(identity, values.get(name))
        if value is None:
            del values[name]
        else:
            values[name] = value

    # -- posting -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Post what has changed since the last post, if anything has and all sources have synced."""
        with self._lock:
            if self._waiting:
                return
            changed = self._changed()
            if self._told is None:
                self._told = _bounded(self._all_problems())
            problems = self._told
            if not changed and problems == self._posted_problems:
                return
            touched = self._freeze(changed)
            first = self._posted_problems is None
            self._posted_problems = problems
            self._generation += 1
            namespaces, pods, nodes = (self._frozen[kind] for kind in ("Namespace", "Pod", "Node"))
            cluster = Cluster(namespaces, pods, nodes, self._policies)
            self._post(ClusterChanged(cluster, problems, self._generation, None if first else touched))

    def _changed(self) -> dict[str, dict[Any, ClusterObject | None]]:
        """What differs from the last post, by kind; None is gone."""
        found: dict[str, dict[Any, ClusterObject | None]] = {}
        for (kind, name), before in self._before.items():
            value = self._values[kind].get(name)
            if value != before:
                found.setdefault(kind, {})[name] = value
        self._before.clear()
        return found

    def _freeze(self, changed: Mapping[str, Mapping[Any, ClusterObject | None]]) -> tuple[tuple[str, Key | str], ...]:
        """Make new snapshots of what changed; returns what differs in them."""
        policies: dict[Key, Policy | None] = dict(changed.get("NetworkPolicy", {}))
        policies.update(self._original.update(changed))
        self._policies = self._policies.updated(policies) if policies else self._policies
        touched: list[tuple[str, Key | str]] = [("NetworkPolicy", key) for key in policies]
        for kind in ("Namespace", "Pod", "Node"):
            if kind in changed:
                self._frozen[kind] = self._frozen[kind].updated(changed[kind])
                touched += [(kind, name) for name in changed[kind]]
        return tuple(touched)

    def _all_problems(self) -> list[Problem]:
        problems = [problem for place in sorted(self._problems) for problem in self._problems[place]]
        for kind, name in sorted(self._contested, key=str):
            *others, winner = self._holders[kind, name]
            counts = self._units[winner][kind, name].value
            for loser in others:
                if self._units[loser][kind, name].value == counts:
                    continue  # the same object twice is no contest: many files may bring their namespace along
                reason = f"is also in {printable(winner[1])}, and that one counts"
                problems.append(Problem(printable(loser[1]), f"{kind} {name}", "", reason))
        return problems

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._stopping.wait(self._delay)
            if self._stopping.is_set():
                return
            self._wake.clear()
            self.flush()


def _bounded(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """The first ones one by one, and then how many more there are: whoever writes objects chooses how many."""
    if len(problems) <= MAX_LISTED_PROBLEMS:
        return tuple(problems)
    more = len(problems) - MAX_LISTED_PROBLEMS
    return (*problems[:MAX_LISTED_PROBLEMS], Problem("all sources", "", "", f"and {more} more problems"))
