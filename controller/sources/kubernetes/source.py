"""A Kubernetes API server as a source: a reflector for each kind of object, handed to the store together.

How one kind is read stands in `kubernetes_watch`, what is held back while some are behind in `kubernetes_gate`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

from controller.sources.kubernetes.client import Api
from controller.sources.kubernetes.event_writer import EventWriter, ObjectReference
from controller.sources.kubernetes.ordering import ChangeBuffer, Units
from controller.sources.kubernetes.reflector import Reflector
from controller.sources.kubernetes.resources import ORIGINAL_POLICY_RESOURCE, POLICY_RESOURCE, RESOURCES
from controller.sources.kubernetes.stream import ApiError
from controller.sources.kubernetes.trouble import ReadProblemLog
from controller.sources.source import SourceState
from controller.sources.store import Store
from flows.cluster.model import Key, OriginalApi

SILENCE_SECONDS = 75.0  # bookmarks come about once a minute
SUSPECT_SECONDS = 1.0  # all watches are opened anew no more often than this
CHECKPOINT_RETRY_SECONDS = 0.2
REFLECTOR_STOP_SECONDS = 1.0


class KubernetesApi:
    """A Source (see `source`). It adds itself to `store`, which starts and stops it.

    `credentials` is a kubeconfig file or IN_CLUSTER. A watch that is silent for `silence` seconds is opened anew.
    """

    def __init__(self, credentials: str, store: Store, silence: float = SILENCE_SECONDS) -> None:
        self.name = credentials
        self._store = store
        self._api = Api(credentials)
        self._trouble = ReadProblemLog()
        self._gate = ChangeBuffer(self._apply, self._prove, self._opened)
        self._reflectors = [Reflector(resource, self._api, self, silence) for resource in RESOURCES]
        self._waiting = set(self._reflectors)  # they were never read completely
        self._synced = False
        self._lock = threading.Lock()
        self._suspected_at = 0.0
        self._stopping = False
        self.lists = 0  # complete readings, of any kind of object
        self.events = EventWriter(self._api, self.find)
        store.add(self)

    def start(self) -> None:
        """Begin to read and watch. Raises SourceError when the credentials cannot be read.

        A server that does not answer is tried again and again.
        """
        self._api.load()
        for reflector in self._reflectors:
            self._gate.lost(reflector)
        self._gate.start()
        self.events.start()
        for reflector in self._reflectors:
            reflector.start()

    def stop(self) -> None:
        """End the threads. A request that hangs is left behind after a second."""
        self._stopping = True
        deadline = time.monotonic() + REFLECTOR_STOP_SECONDS
        for reflector in self._reflectors:
            reflector.stop()
        self._gate.stop()
        self.events.stop()
        for reflector in self._reflectors:
            reflector.join(deadline)

    def reread(self, timeout: float) -> None:
        """Return once the store has all that was written before the call. Raises TimeoutError.

        The server is asked what it has now, and that is waited for.
        """
        self._gate.prove(time.monotonic() + timeout)

    def state(self) -> SourceState:
        """How it is doing now; as old as the oldest of its parts, or as the changes that wait."""
        ages = [reflector.current_at for reflector in self._reflectors]
        known = [age for age in ages if age is not None]
        current_at = min(known) if len(known) == len(ages) else None
        waiting_since = self._gate.waiting_since if self._synced else None
        if current_at is not None and waiting_since is not None:
            current_at = min(current_at, waiting_since)
        problems = sum(reflector.known.problems for reflector in self._reflectors)
        return SourceState(self.name, "kubernetes", self._synced, current_at, problems, self._reason())

    def _reason(self) -> str:
        """Why it is not current, "" when it is."""
        reasons = [reflector.reason for reflector in self._reflectors if reflector.reason]
        if not reasons:
            waits = not self._synced or self._gate.waiting_since is not None
            return "changes wait until all that came before them is known" if waits else ""
        if not self._synced:
            return reasons[0]
        if away := self._gate.given_up:
            names = ", ".join(sorted(map(str, away)))
            return f"{reasons[0]}; of {names} the last known objects stay in force, and all else goes on without more"
        return f"{reasons[0]}; the last known objects stay in force"

    def find(self, key: Key) -> ObjectReference | None:
        """The object behind a policy of the snapshot, None when this API has none of that name."""
        alpha = key.name.startswith(f"{OriginalApi.ALPHA}:")
        resource = ORIGINAL_POLICY_RESOURCE if alpha else POLICY_RESOURCE
        name = key.name.removeprefix(f"{OriginalApi.ALPHA}:")
        for reflector in self._reflectors:
            if reflector.resource == resource and (version := reflector.known.versions.get(f"{key.namespace}/{name}")):
                return ObjectReference(resource.version, resource.kind, key.namespace, name, version.uid)
        return None

    # -- what the reflectors say -------------------------------------------------------------------------------------

    def put(self, units: Units) -> None:
        """Take these units."""
        self._gate.put(units)

    def listed(self, reflector: Reflector) -> None:
        """It was read completely. Once all were, and it is proven that they fit together, the store may post."""
        with self._lock:
            self.lists += 1
            if reflector not in self._waiting:
                return
            self._waiting.discard(reflector)
            if self._waiting:
                return
        self._gate.begin()

    def failed(self, reflector: Reflector, error: ApiError) -> None:
        """It cannot be read."""
        if not self._stopping:
            self._trouble.failed(self._api.server, reflector.resource.plural, error)

    def lost(self, reflector: Reflector, suspicious: bool) -> None:
        """It is behind. When its connection broke, those of the others are opened anew: they may be dead and silent."""
        if reflector in self._waiting:
            return
        self._gate.lost(reflector)
        with self._lock:
            now = time.monotonic()
            if not suspicious or now - self._suspected_at < SUSPECT_SECONDS:
                return
            self._suspected_at = now
        for other in self._reflectors:
            if other is not reflector:
                self._gate.lost(other)
                other.reopen()

    def ended(self, reflector: Reflector) -> None:
        """The server ended its watch in order; it is opened again."""
        self._gate.ended(reflector)

    def back(self, reflector: Reflector) -> None:
        """It is watching, or there is nothing to watch. So can the others."""
        self._trouble.ended(self._api.server, reflector.resource.plural)
        self._gate.back(reflector)
        for other in self._reflectors:
            other.hurry()

    # -- what the gate asks ------------------------------------------------------------------------------------------

    def _apply(self, units: Units) -> None:
        if not self._stopping:
            self._store.apply(self, units)

    def _opened(self) -> None:
        if not self._synced and not self._stopping:
            self._synced = True
            self._store.synced(self)

    def _prove(self, deadline: float, without: Collection[object]) -> None:
        """Ask the server what it has now, and wait until all of that has come. Raises TimeoutError."""
        asked = [reflector for reflector in self._reflectors if reflector not in without]
        while True:
            try:
                marks = [(reflector, reflector.mark(deadline)) for reflector in asked]
                break
            except ApiError as error:
                if time.monotonic() + CHECKPOINT_RETRY_SECONDS >= deadline or self._stopping:
                    raise TimeoutError(f"the Kubernetes API did not answer: {error.reason}") from None
                time.sleep(CHECKPOINT_RETRY_SECONDS)
        for reflector, mark in marks:
            if mark is not None and not reflector.reach(mark, deadline):
                why = reflector.reason or f"{reflector}: the watch has not caught up"
                raise TimeoutError(f"the Kubernetes API was not read in time: {why}")
