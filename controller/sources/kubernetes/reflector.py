"""Keeps one kind of object of a Kubernetes API up to date: lists it, watches it, and recovers from errors.

The loop of a Reflector's thread, with pods as the example:

1. List: GET /api/v1/pods?limit=500, page by page. Every pod whose version differs from the known one is parsed and
   passed on (`_list`); a known pod that is not in the list is passed on as deleted. The list's resourceVersion, say
   1000, is where the watch begins.
2. Watch: GET /api/v1/pods?watch=1&resourceVersion=1000. Each event (ADDED, MODIFIED, DELETED) is passed on and moves
   the resourceVersion forward, as do bookmarks (`_apply_events`). After 5 to 10 minutes the server ends the watch in
   order, and the next one begins at the last resourceVersion: nothing is listed again.
3. Broken watch, no answer, HTTP 5xx: the same, after a growing random pause, or the one that Retry-After asks for.
4. 410 Gone: the server no longer has the history since that resourceVersion. `_failed` forgets the resourceVersion, so
   that the loop lists again; only the differences are passed on. The same when a list's `continue` token has expired
   (`_list`), and when resourceVersions go backwards because etcd was restored from a backup (`_apply_events`).
5. Silence: a connection may be dead without an error. A watch without a line for `silence` seconds is opened again.

Objects that are known stay known whatever goes wrong. In what order changes of several kinds are released is decided in
`ordering`, how answers are parsed in `resources`. See "Efficient detection of changes" in the Kubernetes API concepts.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Protocol

import structlog

from controller.base.hub import offload
from controller.base.threads import watched
from controller.sources.kubernetes.client import Api
from controller.sources.kubernetes.ordering import Units
from controller.sources.kubernetes.progress import Checkpoint, WatchProgress
from controller.sources.kubernetes.resources import (
    Bookmark,
    ObjectChange,
    Resource,
    Version,
    list_page,
    read_events,
    read_items,
    read_versions,
)
from controller.sources.kubernetes.stream import GONE, NOT_FOUND, UNAUTHORIZED, ApiError, SilentError, WatchStream

OBJECTS_PER_PAGE = 500  # in one answer to a list request
WATCH_TIMEOUT_SECONDS = (300, 600)  # after which the server ends a watch, so that load spreads over servers
FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE = 0.1, 10.0
LONGEST_UNAVAILABLE_PAUSE = 3.0  # no server answers, so none is loaded by retries
WATCH_OPEN_SECONDS = 10.0  # for the answer to a watch request
LONGEST_RETRY_AFTER = 60.0
ABSENT_SECONDS = 30.0  # between checks whether the server has an optional kind by now
STEADY_SECONDS = 5.0  # a watch that lived so long resets the count of failures
CHECKPOINT_SECONDS = 3.0  # for an answer; then the request is repeated on another connection
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

log = structlog.get_logger("headgate")


class ReflectorOwner(Protocol):
    """Receives what a Reflector reads. Called in the reflector's thread."""

    def put(self, units: Units) -> None:
        """Take units that changed; None stands for a deleted object."""

    def listed(self, reflector: Reflector) -> None:
        """The reflector has a complete list, its first one or a new one."""

    def failed(self, reflector: Reflector, error: ApiError) -> None:
        """A request of the reflector failed."""

    def watch_lost(self, reflector: Reflector, suspicious: bool) -> None:
        """The watch broke and may have missed changes. `suspicious`: other connections may be dead, too."""

    def watch_ended(self, reflector: Reflector) -> None:
        """The server ended the watch in order; it is opened again."""

    def watch_resumed(self, reflector: Reflector) -> None:
        """The watch is open, or the server does not have this kind of object."""


class Reflector:
    """Lists and watches one resource, in a thread of its own.

    A watch without a line for `silence` seconds counts as dead; the server sends a bookmark about once a minute.
    `served` is the version of the resource that the server has, as far as is known. `current_at` is the
    time.monotonic() of the server's last answer or line, None before the first; `reason` says why the resource cannot
    be read, "" when it can; `unavailable` means that the server does not answer or rejects the credentials.
    """

    def __init__(self, resource: Resource, api: Api, owner: ReflectorOwner, silence: float) -> None:
        self.resource = resource
        self.served = resource  # the version of it that is asked for
        self._missing = 0  # answers in a row that the server does not have it
        self.progress = WatchProgress()
        self.current_at: float | None = None
        self.reason = f"{resource.plural}: not read yet"
        self.unavailable = False
        self._api = api
        self._owner = owner
        self._silence = silence
        self._absent_since: float | None = None
        self._stream: WatchStream | None = None
        self._reopen = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = watched(f"kubernetes-{resource.plural}", self._run)

    # -- from other threads ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end; see `join`."""
        self._thread.release()
        self._stopping.set()
        self.reopen()

    def join(self, deadline: float) -> None:
        """Wait for the thread until time.monotonic() is `deadline`; one in a request that hangs is left behind."""
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def reopen(self) -> None:
        """Close the watch and open it again; end a pause between retries."""
        self._reopen = True
        self._wake.set()
        if stream := self._stream:
            stream.abort()

    def retry_now(self) -> None:
        """Another reflector has reached the server: end the pause, if this one waits because it could not."""
        if self.unavailable:
            self._wake.set()

    def checkpoint(self, deadline: float) -> Checkpoint | None:
        """What the server has now: a consistent list of metadata. None when there is nothing to wait for: the server
        does not have this resource, or the watch has passed the list's resourceVersion already.

        Raises ApiError.
        """
        versions: dict[str, int] = {}
        query = {"limit": str(OBJECTS_PER_PAGE), **self.served.query}
        while True:
            left = min(CHECKPOINT_SECONDS, max(0.1, deadline - time.monotonic()))
            try:
                page = list_page(self._api.get(self.served.path, query, METADATA, left))
            except ApiError as error:
                if error.status == NOT_FOUND and self.resource.optional:
                    return None
                raise
            if (self.progress.resource_version or 0) >= page.number:
                return None
            versions.update({name: version.number for name, version in read_versions(page).items()})
            if not page.token:
                return Checkpoint(page.number, versions)
            query["continue"] = page.token

    def wait_for(self, checkpoint: Checkpoint, deadline: float) -> bool:
        """Wait until everything of `checkpoint` was passed on; False when that takes longer than until `deadline`."""
        return self.progress.wait_for(checkpoint, deadline, self._suspect)

    def __str__(self) -> str:
        return self.resource.plural

    def _suspect(self) -> None:
        """The watch should have delivered something by now: its connection may be dead, and others, too."""
        self._owner.watch_lost(self, True)
        self.reopen()

    # -- in its own thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._wake.clear()
            self._reopen = False
            try:
                self._list_and_watch(began)
                failures, pause = 0, 0.0
            except ApiError as error:
                failures = 1 if time.monotonic() - began > STEADY_SECONDS else failures + 1
                pause = self._failed(error, failures)
                if error.retry_after:  # the server's Retry-After also counts when a retry was requested
                    self._stopping.wait(min(error.retry_after, LONGEST_RETRY_AFTER))
            self._wake.wait(pause)

    def _list_and_watch(self, began: float) -> None:
        """List if no resourceVersion is known, then watch. Raises ApiError."""
        try:
            if self.progress.resource_version is None:
                self._list()
            self._watch(began)
        except ApiError:
            raise
        except Exception as error:
            # Without this thread nothing would be read ever again. Listing again needs no state that may be wrong.
            log.exception("the Kubernetes API could not be read because of an error in Headgate, please report it")
            self.progress.record((), None)
            raise ApiError(0, f"an error in Headgate, please report it: {type(error).__name__}: {error}") from error

    def _failed(self, error: ApiError, failures: int) -> float:
        """Handle a failed request; returns for how many seconds to wait before the next."""
        if self._stopping.is_set() or self._reopen:
            return 0.0  # `reopen` or `stop` closed the connection
        if isinstance(error, SilentError):
            self._api.drop_idle()
            self._owner.watch_lost(self, True)
            return 0.0
        if error.status == GONE and self.progress.resource_version is not None:
            self.progress.record((), None)  # the loop lists again
            self._owner.watch_lost(self, False)
            return 0.0 if failures == 1 else _pause(failures)
        if error.status == NOT_FOUND and self.resource.optional:
            return 0.0 if self._try_other_version() else self._absent()
        self.reason = f"{self.resource.plural}: {error.reason}"
        self.unavailable = error.status in (0, UNAUTHORIZED)
        self._owner.failed(self, error)
        self._owner.watch_lost(self, error.status == 0)
        return _pause(failures, LONGEST_UNAVAILABLE_PAUSE if self.unavailable else LONGEST_RETRY_PAUSE)

    def _try_other_version(self) -> bool:
        """The server does not have the resource in this version: ask for the other one next. False after both."""
        older = self.resource.older
        if older is None:
            return False
        self._missing += 1
        self.served = older if self.served is self.resource else self.resource
        self.progress.record((), None)  # versions of objects are the same in both: only what differs is passed on
        self._owner.watch_lost(self, False)
        return self._missing % 2 == 1

    def _absent(self) -> float:
        """The server does not have this optional resource: its objects are deleted after ABSENT_SECONDS. Until then
        the server may be starting, and not serve it yet. Returns the seconds until the next check."""
        now = time.monotonic()
        if self._absent_since is None:
            self._absent_since = now
        if self.progress.versions and now - self._absent_since < ABSENT_SECONDS:
            self._owner.watch_resumed(self)
            return 2.0
        self._apply([ObjectChange(name, version, None) for name, version in self.progress.versions.items()], None)
        self._set_current()
        self._owner.listed(self)
        self._owner.watch_resumed(self)
        return ABSENT_SECONDS * random.uniform(0.8, 1.2)

    def _list(self) -> None:
        """List everything and pass on what differs from the known objects. Raises ApiError."""
        try:
            versions, changes, number = self._pages({"limit": str(OBJECTS_PER_PAGE)})
        except ApiError as error:
            if error.status != GONE:
                raise
            versions, changes, number = self._pages({})  # the `continue` token has expired: all in one answer
        before = self.progress.versions
        changes += [ObjectChange(name, before[name], None) for name in before.keys() - versions.keys()]
        self._apply(changes, number)
        self._absent_since = None
        self._missing = 0
        self._set_current()
        self._owner.listed(self)

    def _pages(self, query: dict[str, str]) -> tuple[dict[str, Version], list[ObjectChange], int]:
        versions: dict[str, Version] = {}
        changes: list[ObjectChange] = []
        while True:
            page = list_page(self._api.get(self.served.path, {**query, **self.served.query}))
            versions.update(read_versions(page))
            changes += offload(read_items, self.served, self._api.server, page, self.progress.versions)
            if not page.token:
                return versions, changes, page.number
            query["continue"] = page.token

    def _watch(self, began: float) -> None:
        """Pass on events until the server ends the watch. Raises ApiError."""
        query = {
            "resourceVersion": str(self.progress.resource_version),
            "timeoutSeconds": str(random.randint(*WATCH_TIMEOUT_SECONDS)),
            **self.served.query,
        }
        stream = self._api.watch(self.served.path, query, min(WATCH_OPEN_SECONDS, self._silence), self._silence)
        self._stream = stream
        try:
            if self._reopen:
                return
            self._set_current()
            self._owner.watch_resumed(self)
            got_lines = False
            for lines in stream:
                got_lines = True
                self._apply_events(read_events(self.served, self._api.server, lines))
                self._set_current()
            if not got_lines and not self._reopen and time.monotonic() - began < STEADY_SECONDS:
                raise ApiError(0, "the watch ended at once")
            self._owner.watch_ended(self)
        finally:
            self._stream = None
            stream.close()

    def _apply_events(self, events: list[ObjectChange | Bookmark]) -> None:
        last = self.progress.resource_version or 0
        changes: dict[str, ObjectChange] = {}
        for event in events:
            number = event.version.number if isinstance(event, ObjectChange) else event.number
            if number < last:
                raise ApiError(GONE, "resourceVersions of the server went backwards")  # etcd was restored from a backup
            last = number
            if isinstance(event, ObjectChange):
                changes[event.name] = event
        self._apply(list(changes.values()), last)

    def _apply(self, changes: list[ObjectChange], resource_version: int | None) -> None:
        if changes and not self._stopping.is_set():
            prefix = self._api.server
            self._owner.put({prefix + self.resource.object_path(name): unit for name, _, unit in changes})
        self.progress.record(changes, resource_version)

    def _set_current(self) -> None:
        self.current_at = time.monotonic()
        self.reason = ""
        self.unavailable = False


def _pause(failures: int, longest: float = LONGEST_RETRY_PAUSE) -> float:
    longest = min(longest, FIRST_RETRY_PAUSE * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)
