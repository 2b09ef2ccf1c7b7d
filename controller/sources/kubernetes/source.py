"""A Kubernetes API server as a source: one reflector for each kind of object, their changes released in order.

See `reflector` for how one kind is read, `ordering` for when changes are held back. Neither is decided here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

from controller.sources.kubernetes.client import Api
from controller.sources.kubernetes.condition_writer import ConditionWriter, FoundObject
from controller.sources.kubernetes.event_writer import EventWriter, ObjectReference
from controller.sources.kubernetes.ordering import ChangeBuffer, Units
from controller.sources.kubernetes.problem_log import ReadProblemLog
from controller.sources.kubernetes.reflector import Reflector
from controller.sources.kubernetes.resources import (
    CLUSTER_POLICY_RESOURCES,
    ORIGINAL_POLICY_RESOURCE,
    POLICY_RESOURCE,
    RESOURCES,
    SERVICE_RESOURCES,
    resources_of_service,
)
from controller.sources.kubernetes.stream import ApiError
from controller.sources.source import SourceState
from controller.sources.store import Store
from flows.cluster.model import CLUSTER_NETWORK_POLICY, Key, OriginalApi

SILENCE_SECONDS = 75.0  # bookmarks come about once a minute
SUSPECT_SECONDS = 1.0  # between two times that all watches are opened again
CHECKPOINT_RETRY_SECONDS = 0.2
REFLECTOR_STOP_SECONDS = 1.0


class KubernetesApi:
    """A Source (see `source`). It adds itself to `store`, which starts and stops it.

    `credentials` is a kubeconfig file or IN_CLUSTER. A watch that is silent for `silence` seconds is opened again.
    With `services`, Services and EndpointSlices are read, too; else only those of `dns_service`.
    """

    def __init__(
        self,
        credentials: str,
        store: Store,
        silence: float = SILENCE_SECONDS,
        *,
        services: bool = False,
        dns_service: Key | None = None,
    ) -> None:
        self.name = credentials
        self._store = store
        self._api = Api(credentials)
        self._problem_log = ReadProblemLog()
        self._buffer = ChangeBuffer(self._apply, self._catch_up, self._released)
        of_dns = resources_of_service(dns_service) if dns_service is not None else ()
        resources = (*RESOURCES, *(SERVICE_RESOURCES if services else of_dns))
        self._reflectors = [Reflector(resource, self._api, self, silence) for resource in resources]
        self._unlisted = set(self._reflectors)  # not listed yet
        self._synced = False
        self._lock = threading.Lock()
        self._suspected_at = 0.0
        self._stopping = False
        self.lists = 0  # complete lists so far, of all kinds
        self.events = EventWriter(self._api, self.find)
        self.conditions = ConditionWriter(self._api, self._find_cluster_policy)
        store.add(self)

    def start(self) -> None:
        """Begin to read and watch. Raises SourceError when the credentials cannot be read.

        A server that does not answer is retried until it does.
        """
        self._api.load()
        for reflector in self._reflectors:
            self._buffer.watch_lost(reflector)
        self._buffer.start()
        self.events.start()
        self.conditions.start()
        for reflector in self._reflectors:
            reflector.start()

    def stop(self) -> None:
        """End the threads. A request that hangs is left behind after a second."""
        self._stopping = True
        deadline = time.monotonic() + REFLECTOR_STOP_SECONDS
        for reflector in self._reflectors:
            reflector.stop()
        self._buffer.stop()
        self.events.stop()
        self.conditions.stop()
        for reflector in self._reflectors:
            reflector.join(deadline)

    def reread(self, timeout: float) -> None:
        """Return once the store has every change that was made before the call. Raises TimeoutError.

        Lists what the server has now and waits until the watches have delivered it.
        """
        self._buffer.catch_up(time.monotonic() + timeout)

    def state(self) -> SourceState:
        """The source's state now. Its age is that of the oldest reflector, or of the oldest change that is held."""
        ages = [reflector.current_at for reflector in self._reflectors]
        read = [age for age in ages if age is not None]
        current_at = min(read) if len(read) == len(ages) else None
        waiting_since = self._buffer.waiting_since if self._synced else None
        if current_at is not None and waiting_since is not None:
            current_at = min(current_at, waiting_since)
        problems = sum(reflector.progress.problems for reflector in self._reflectors)
        return SourceState(self.name, "kubernetes", self._synced, current_at, problems, self._reason())

    def _reason(self) -> str:
        """Why the source is not current, "" when it is."""
        reasons = [reflector.reason for reflector in self._reflectors if reflector.reason]
        if not reasons:
            waits = not self._synced or self._buffer.waiting_since is not None
            return "changes are held until all earlier changes are known" if waits else ""
        if not self._synced:
            return reasons[0]
        if away := self._buffer.given_up:
            names = ", ".join(sorted(map(str, away)))
            return f"{reasons[0]}; the last known {names} stay in force, and changes of other objects take effect"
        return f"{reasons[0]}; the last known objects stay in force"

    def find(self, key: Key) -> ObjectReference | None:
        """The API object of a policy in the snapshot, None when this API server has none of that name."""
        if not key.namespace:
            found = self._find_cluster_policy(key)
            return found.reference if found is not None else None
        alpha = key.name.startswith(f"{OriginalApi.ALPHA}:")
        resource = ORIGINAL_POLICY_RESOURCE if alpha else POLICY_RESOURCE
        name = key.name.removeprefix(f"{OriginalApi.ALPHA}:")
        for reflector in self._reflectors:
            if reflector.resource == resource and (
                version := reflector.progress.versions.get(f"{key.namespace}/{name}")
            ):
                return ObjectReference(resource.version, resource.kind, key.namespace, name, version.uid)
        return None

    def _find_cluster_policy(self, key: Key) -> FoundObject | None:
        """The same of a policy outside namespaces; the names of older kinds have a prefix (`admin_network_policy`)."""
        prefix, colon, own = key.name.rpartition(":")
        kind = prefix if colon else CLUSTER_NETWORK_POLICY.lower()
        for reflector in self._reflectors:
            if reflector.resource in CLUSTER_POLICY_RESOURCES and reflector.resource.kind.lower() == kind:
                served, version = reflector.served, reflector.progress.versions.get(own)
                if version is None:
                    return None
                return FoundObject(ObjectReference(served.version, served.kind, "", own, version.uid), version.number)
        return None

    # -- reports of the reflectors -----------------------------------------------------------------------------------

    def put(self, units: Units) -> None:
        """Take units that changed; None stands for a deleted object."""
        self._buffer.put(units)

    def listed(self, reflector: Reflector) -> None:
        """The reflector has a complete list. Once all have one and a catch-up check succeeds, it is synced."""
        with self._lock:
            self.lists += 1
            if reflector not in self._unlisted:
                return
            self._unlisted.discard(reflector)
            if self._unlisted:
                return
        self._buffer.all_listed()

    def failed(self, reflector: Reflector, error: ApiError) -> None:
        """A request of the reflector failed."""
        if not self._stopping:
            self._problem_log.failed(self._api.server, reflector.resource.plural, error)

    def watch_lost(self, reflector: Reflector, suspicious: bool) -> None:
        """The watch broke. If its connection broke, all watches are opened again: those may be dead, too."""
        if reflector in self._unlisted:
            return
        self._buffer.watch_lost(reflector)
        with self._lock:
            now = time.monotonic()
            if not suspicious or now - self._suspected_at < SUSPECT_SECONDS:
                return
            self._suspected_at = now
        for other in self._reflectors:
            if other is not reflector:
                self._buffer.watch_lost(other)
                other.reopen()

    def watch_ended(self, reflector: Reflector) -> None:
        """The server ended the watch in order; it is opened again."""
        self._buffer.watch_ended(reflector)

    def watch_resumed(self, reflector: Reflector) -> None:
        """The watch is open again. Reflectors that wait because the server was unavailable retry at once."""
        self._problem_log.recovered(self._api.server, reflector.resource.plural)
        self._buffer.watch_resumed(reflector)
        for other in self._reflectors:
            other.retry_now()

    # -- for the buffer ----------------------------------------------------------------------------------------------

    def _apply(self, units: Units) -> None:
        if not self._stopping:
            self._store.apply(self, units)

    def _released(self) -> None:
        if not self._synced and not self._stopping:
            self._synced = True
            self._store.synced(self)

    def _catch_up(self, deadline: float, without: Collection[object]) -> None:
        """List what the server has now and wait until all watches but `without` delivered it. Raises TimeoutError."""
        reflectors = [reflector for reflector in self._reflectors if reflector not in without]
        while True:
            try:
                checkpoints = [(reflector, reflector.checkpoint(deadline)) for reflector in reflectors]
                break
            except ApiError as error:
                if time.monotonic() + CHECKPOINT_RETRY_SECONDS >= deadline or self._stopping:
                    raise TimeoutError(f"the Kubernetes API did not answer: {error.reason}") from None
                time.sleep(CHECKPOINT_RETRY_SECONDS)
        for reflector, checkpoint in checkpoints:
            if checkpoint is not None and not reflector.wait_for(checkpoint, deadline):
                why = reflector.reason or f"{reflector}: the watch has not caught up"
                raise TimeoutError(f"the Kubernetes API was not read in time: {why}")
