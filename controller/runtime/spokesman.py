"""Reports to the API server what one replica says for all: several would contradict each other.

Problems of policies (Events) are handed over as they are reported, while this replica is the one that speaks. The
conditions of policies of the whole cluster are read here, in a thread of its own, and the other replicas are asked for
what they know of their switches. A replica that speaks no more takes back what it has reported, or it would write that
again and again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from controller.base.threads import watched
from controller.replicas.fleet import Fleet
from controller.runtime.locked_reconciler import LockedReconciler
from controller.status.policy_conditions import ConditionReader, PolicyConditions, agreed_conditions
from flows.cluster.model import Cluster, Key

log = logging.getLogger(__name__)
T = TypeVar("T")
Conditions = Mapping[Key, PolicyConditions]
LOOK_SECONDS = 1.0
READ_SECONDS = 10.0


class Spokesman:
    """Speaks for this replica, or where there are no others (`fleet` None) always.

    `write_conditions` takes the conditions of all policies of the whole cluster; None where nobody takes them.
    """

    def __init__(
        self,
        fleet: Fleet | None,
        reconciler: LockedReconciler,
        write_conditions: Callable[[Conditions], None] | None = None,
    ) -> None:
        self._fleet = fleet
        self._reconciler = reconciler
        self._write_conditions = write_conditions
        self._reader = ConditionReader()
        self._written: Conditions = {}
        self._lock = threading.Lock()
        self._speaks = fleet is None
        self._kept: dict[Callable[[], None], Callable[[], None]] = {}  # by what takes back: what reports
        self._stopping = threading.Event()
        self._thread = watched("spokesman", self._run)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._thread.release()
        self._stopping.set()

    def reporting(self, report: Callable[[T], None], nothing: T) -> Callable[[T], None]:
        """`report`, while this replica speaks. What was reported last is said when it becomes the one that speaks, and
        `nothing` when it is no more. Thread-safe."""
        take_back = partial(report, nothing)

        def take(found: T) -> None:
            with self._lock:
                self._kept[take_back] = partial(report, found)
                if self._speaks:
                    report(found)

        return take

    # -- in its thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._look()
            except TimeoutError:
                continue  # the reconciler is busy: the next look comes soon
            except Exception:
                log.exception("an error in Headgate while conditions were read, please report it")

    def _look(self) -> None:
        speaks = self._fleet is None or self._fleet.speaks
        self._turn(speaks)
        if self._write_conditions is None:
            return
        found = self._conditions() if speaks else {}
        if found != self._written:
            self._write_conditions(found)
            self._written = found

    def _turn(self, speaks: bool) -> None:
        with self._lock:
            before, self._speaks = self._speaks, speaks
            if speaks != before:
                for take_back, report in self._kept.items():
                    report() if speaks else take_back()

    def _conditions(self) -> Conditions:
        """Those that policies should have, by all replicas; of this one alone where there are no others."""
        if not self._reconciler.read(lambda found, _: _has_policies(found.world.cluster), READ_SECONDS):
            return {}
        others = self._fleet.conditions() if self._fleet is not None and self._fleet.name else None
        elsewhere = None if others is None else {dpid for one in others.values() for dpid in one.switches}
        own = self._reconciler.read(lambda found, _: self._reader.read(found, elsewhere), READ_SECONDS)
        return own if others is None else agreed_conditions(own, others)


def _has_policies(cluster: Cluster | None) -> bool:
    return cluster is not None and bool(cluster.cluster_policies)
