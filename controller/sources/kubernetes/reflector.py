"""One kind of object of a Kubernetes API, kept up to date: listed once, then watched, and taken up again after faults.

A watch that broke goes on where it was; only when the server no longer knows what came since (410 Gone) everything is
listed again, and the difference counts. Whatever goes wrong, what is known stays. Tries come after growing, random
pauses, or when the server said so.
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

OBJECTS_PER_PAGE = 500  # objects in a part of a list
WATCH_TIMEOUT_SECONDS = (300, 600)  # after which the server ends a watch, so that load moves between servers
FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE = 0.1, 10.0
LONGEST_UNAVAILABLE_PAUSE = 3.0  # where no server has anything to do with our asking
WATCH_OPEN_SECONDS = 10.0  # for the first word of a watch
LONGEST_RETRY_AFTER = 60.0
ABSENT_SECONDS = 30.0  # between looks for a kind that the server does not have
STEADY_SECONDS = 5.0  # a watch that lived so long was no failure
CHECKPOINT_SECONDS = 3.0  # for an answer; then it is asked for on another connection
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

log = structlog.get_logger("headgate")


class ReflectorOwner(Protocol):
    """Who gets what a Reflector reads. Called in the reflector's thread."""

    def put(self, units: Units) -> None:
        """Take these units."""

    def listed(self, reflector: Reflector) -> None:
        """It was read completely, for the first time or again."""

    def failed(self, reflector: Reflector, error: ApiError) -> None:
        """It cannot be read, and why."""

    def lost(self, reflector: Reflector, suspicious: bool) -> None:
        """It is behind. `suspicious`: the connection broke, and others may have too without saying so."""

    def ended(self, reflector: Reflector) -> None:
        """The server ended the watch in order; it is opened again."""

    def back(self, reflector: Reflector) -> None:
        """It is watching, or there is nothing to watch."""


class Reflector:
    """Reads one resource, in a thread of its own.

    A watch that says nothing for `silence` seconds counts as dead; the server sends a bookmark about once a minute.
    `current_at` is the time.monotonic() at which the server last said something, `reason` why it does not, "" else;
    `outside` means that it gave no answer at all, or does not know who we are.
    """

    def __init__(self, resource: Resource, api: Api, owner: ReflectorOwner, silence: float) -> None:
        self.resource = resource
        self.known = WatchProgress()
        self.current_at: float | None = None
        self.reason = f"{resource.plural}: not read yet"
        self.outside = False
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
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end."""
        self._thread.release()
        self._stopping.set()
        self.reopen()

    def join(self, deadline: float) -> None:
        """Wait for its end until time.monotonic() is `deadline`; a request that hangs is left behind."""
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def reopen(self) -> None:
        """Open the watch anew, or try again without waiting any longer."""
        self._reopen = True
        self._wake.set()
        if stream := self._stream:
            stream.abort()

    def hurry(self) -> None:
        """Others are let in: try now, if it was otherwise here."""
        if self.outside:
            self._wake.set()

    def mark(self, deadline: float) -> Checkpoint | None:
        """What the server has now: a consistent list, of metadata only. None when there is nothing to wait for: it has
        no such resource, or the watch is past that already, as one of many busy objects is before the list is read.

        Raises ApiError.
        """
        versions: dict[str, int] = {}
        query = {"limit": str(OBJECTS_PER_PAGE)}
        while True:
            left = min(CHECKPOINT_SECONDS, max(0.1, deadline - time.monotonic()))
            try:
                page = list_page(self._api.get(self.resource.path, query, METADATA, left))
            except ApiError as error:
                if error.status == NOT_FOUND and self.resource.optional:
                    return None
                raise
            if (self.known.seen or 0) >= page.number:
                return None
            versions.update({name: version.number for name, version in read_versions(page).items()})
            if not page.token:
                return Checkpoint(page.number, versions)
            query["continue"] = page.token

    def reach(self, mark: Checkpoint, deadline: float) -> bool:
        """Wait until everything of `mark` was handed on. False when that did not come before `deadline`."""
        return self.known.reach(mark, deadline, self._doubted)

    def __str__(self) -> str:
        return self.resource.plural

    def _doubted(self) -> None:
        """The watch should have said something by now: it is behind, and so may others be."""
        self._owner.lost(self, True)
        self.reopen()

    # -- in its own thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._wake.clear()
            self._reopen = False
            try:
                self._turn(began)
                failures, pause = 0, 0.0
            except ApiError as error:
                failures = 1 if time.monotonic() - began > STEADY_SECONDS else failures + 1
                pause = self._failed(error, failures)
                if error.retry_after:  # the server's word counts, whoever is in a hurry
                    self._stopping.wait(min(error.retry_after, LONGEST_RETRY_AFTER))
            self._wake.wait(pause)

    def _turn(self, began: float) -> None:
        """List where that is needed, and watch. Raises ApiError."""
        try:
            if self.known.seen is None:
                self._list()
            self._watch(began)
        except ApiError:
            raise
        except Exception as error:
            # Without this thread nothing would be read ever again; and what a list says anew needs no history.
            log.exception("the Kubernetes API could not be read because of an error in Headgate, please report it")
            self.known.take((), None)
            raise ApiError(0, f"an error in Headgate, please report it: {type(error).__name__}: {error}") from error

    def _failed(self, error: ApiError, failures: int) -> float:
        """Note a fault, and say for how many seconds to leave the server alone."""
        if self._stopping.is_set() or self._reopen:
            return 0.0  # it broke because we broke it
        if isinstance(error, SilentError):
            self._api.drop_idle()
            self._owner.lost(self, True)
            return 0.0
        if error.status == GONE and self.known.seen is not None:
            self.known.take((), None)
            self._owner.lost(self, False)
            return 0.0 if failures == 1 else _pause(failures)
        if error.status == NOT_FOUND and self.resource.optional:
            return self._absent()
        self.reason = f"{self.resource.plural}: {error.reason}"
        self.outside = error.status in (0, UNAUTHORIZED)
        self._owner.failed(self, error)
        self._owner.lost(self, error.status == 0)
        return _pause(failures, LONGEST_UNAVAILABLE_PAUSE if self.outside else LONGEST_RETRY_PAUSE)

    def _absent(self) -> float:
        """The server does not have this resource. That ends what is known of it, if it stays so for a while: a server
        that is starting may just not have it yet."""
        now = time.monotonic()
        if self._absent_since is None:
            self._absent_since = now
        if self.known.versions and now - self._absent_since < ABSENT_SECONDS:
            self._owner.back(self)
            return 2.0
        self._take([ObjectChange(name, version, None) for name, version in self.known.versions.items()], None)
        self._is_current()
        self._owner.listed(self)
        self._owner.back(self)
        return ABSENT_SECONDS * random.uniform(0.8, 1.2)

    def _list(self) -> None:
        """Read everything, and take the difference to what is known. Raises ApiError."""
        try:
            versions, changes, number = self._pages({"limit": str(OBJECTS_PER_PAGE)})
        except ApiError as error:
            if error.status != GONE:
                raise
            versions, changes, number = self._pages({})  # it took so long that the server forgot where we were
        known = self.known.versions
        changes += [ObjectChange(name, known[name], None) for name in known.keys() - versions.keys()]
        self._take(changes, number)
        self._absent_since = None
        self._is_current()
        self._owner.listed(self)

    def _pages(self, query: dict[str, str]) -> tuple[dict[str, Version], list[ObjectChange], int]:
        versions: dict[str, Version] = {}
        changes: list[ObjectChange] = []
        while True:
            page = list_page(self._api.get(self.resource.path, query))
            versions.update(read_versions(page))
            changes += offload(read_items, self.resource, self._api.server, page, self.known.versions)
            if not page.token:
                return versions, changes, page.number
            query["continue"] = page.token

    def _watch(self, began: float) -> None:
        """Follow what happens, until the server ends the watch. Raises ApiError."""
        query = {"resourceVersion": str(self.known.seen), "timeoutSeconds": str(random.randint(*WATCH_TIMEOUT_SECONDS))}
        stream = self._api.watch(self.resource.path, query, min(WATCH_OPEN_SECONDS, self._silence), self._silence)
        self._stream = stream
        try:
            if self._reopen:
                return
            self._is_current()
            self._owner.back(self)
            said_something = False
            for lines in stream:
                said_something = True
                self._follow(read_events(self.resource, self._api.server, lines))
                self._is_current()
            if not said_something and not self._reopen and time.monotonic() - began < STEADY_SECONDS:
                raise ApiError(0, "the watch ended at once")
            self._owner.ended(self)
        finally:
            self._stream = None
            stream.close()

    def _follow(self, events: list[ObjectChange | Bookmark]) -> None:
        seen = self.known.seen or 0
        changes: dict[str, ObjectChange] = {}
        for event in events:
            number = event.version.number if isinstance(event, ObjectChange) else event.number
            if number < seen:
                raise ApiError(GONE, "the server's history is not the one that it was")  # restored from a backup
            seen = number
            if isinstance(event, ObjectChange):
                changes[event.name] = event
        self._take(list(changes.values()), seen)

    def _take(self, changes: list[ObjectChange], seen: int | None) -> None:
        if changes and not self._stopping.is_set():
            prefix = self._api.server
            self._owner.put({prefix + self.resource.object_path(name): unit for name, _, unit in changes})
        self.known.take(changes, seen)

    def _is_current(self) -> None:
        self.current_at = time.monotonic()
        self.reason = ""
        self.outside = False


def _pause(failures: int, longest: float = LONGEST_RETRY_PAUSE) -> float:
    longest = min(longest, FIRST_RETRY_PAUSE * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)
