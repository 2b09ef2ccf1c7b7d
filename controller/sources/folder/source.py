"""A folder of manifests as a source: watched and scanned in native threads, its units passed to the store.

Files that end in .yaml, .yml or .json are read; names that start with a dot and subfolders are not, as with
`kubectl apply -f DIR`. See `files` for scanning the folder, `manifest` for parsing one file; neither is done here.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from controller.base.native_threads import Mailbox, unpatched
from controller.base.threads import Watched, watched
from controller.reconcile.problem import Problem
from controller.sources.folder.files import FolderReader
from controller.sources.folder.inotify import FolderChanges
from controller.sources.folder.manifest import OTHER_KINDS
from controller.sources.source import SourceError, SourceState
from controller.sources.store import Store
from controller.sources.unit import SourceUnit
from flows.cluster.model import Key
from flows.parse.objects import PARSERS, PARSERS_WITH_SERVICES, parsers_with_service

RESCAN_SECONDS = 10.0  # between scans without a notification: inotify does not see the targets of symlinks change
FOLDER_CHANGED = -1  # a request for a scan that no caller waits for
FOLDER_STOP_SECONDS = 1.0
BURST_SECONDS = 0.02  # after a change, for which further ones are gathered
IDENTITY_SECONDS = 0.25  # after which it is seen that another folder is at the path
MAX_IGNORED_NAMES = 50  # kinds that are counted by name; the others together
_FOLDER = ""  # the unit that has the problem of the folder itself
_INTERNAL_ERROR = "could not be read because of an error in Headgate, please report it: "


@dataclass(frozen=True, slots=True)
class _Result:
    """The result of a scan, and the numbers of the requests that it answers."""

    units: Mapping[str, SourceUnit | None]
    reason: str
    requests: tuple[int, ...]
    passed_over: Mapping[str, int]


class ManifestFolder:
    """A Source (see `source`). It adds itself to `store`, which starts and stops it.

    With `services`, Services and EndpointSlices are read, too; else only those of `dns_service`.
    """

    def __init__(
        self,
        path: Path | str,
        store: Store,
        rescan: float = RESCAN_SECONDS,
        *,
        services: bool = False,
        dns_service: Key | None = None,
    ) -> None:
        self.path = str(path)
        self._store = store
        self._rescan = rescan
        self._stopping = unpatched("threading").Event()
        # A request number, FOLDER_CHANGED, or None to end. Unpatched: put never blocks and works from any thread.
        self._requests = unpatched("queue").SimpleQueue()
        self._no_request = unpatched("queue").Empty
        self._results: Mailbox[_Result] = Mailbox()
        parsers = parsers_with_service(dns_service) if dns_service is not None else PARSERS
        self._folder = FolderReader(self.path, self._stopping.is_set, PARSERS_WITH_SERVICES if services else parsers)
        self._natives: list[Watched] = []
        self._receiver: Watched | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, threading.Event] = {}
        self._problems: dict[str, int] = {}
        self._ignored: Counter[str] = Counter()
        self._ignored_of: dict[str, Mapping[str, int]] = {}
        self._state = SourceState(self.path, "manifests", False, None, 0, "not read yet")
        store.add(self)

    def start(self) -> None:
        """Begin to scan and watch. Raises SourceError when the folder does not exist or cannot be read."""
        _check(self.path)
        self._receiver = watched("manifests", self._receive)
        self._receiver.start()
        self._natives = [
            watched("manifests-scan", self._scan, native=True), watched("manifests-watch", self._watch, native=True)
        ]  # fmt: skip
        for native in self._natives:
            native.start()

    def stop(self) -> None:
        """End the threads. A thread whose read hangs is left behind after a second."""
        if self._stopping.is_set():
            return
        for thread in (*self._natives, *filter(None, (self._receiver,))):
            thread.release()
        self._stopping.set()
        self._requests.put(None)
        deadline = time.monotonic() + FOLDER_STOP_SECONDS
        running = [native for native in self._natives if not native.join(max(0.0, deadline - time.monotonic()))]
        self._results.close()
        if self._receiver is not None:
            self._receiver.join(FOLDER_STOP_SECONDS)
            self._receiver = None
        if not running:
            self._results.release()
        for event in self._waiting.values():
            event.set()

    def state(self) -> SourceState:
        """The state now."""
        return self._state

    def reread(self, timeout: float) -> None:
        """Scan the folder now. Raises TimeoutError when that takes longer than `timeout` seconds."""
        number = next(self._numbers)
        done = self._waiting[number] = threading.Event()
        self._requests.put(number)
        try:
            if not done.wait(timeout) or self._stopping.is_set():
                raise TimeoutError(f"manifest folder {self.path} was not read in time")
        finally:
            del self._waiting[number]

    # -- in a thread of the hub --------------------------------------------------------------------------------------

    def _receive(self) -> None:
        while (result := self._results.get()) is not None:
            units = dict(result.units)
            problem = Problem(self.path, "", "", result.reason)
            units[_FOLDER] = SourceUnit((), (problem,)) if result.reason else None
            for name, unit in units.items():
                self._problems[name] = unit.problem_count if unit else 0
                if not self._problems[name]:
                    del self._problems[name]
                self._count_ignored(name, unit.ignored if unit else {})
            synced = self._state.synced or not result.reason
            current_at = self._state.current_at if result.reason else time.monotonic()
            problems = sum(self._problems.values())
            ignored = _largest(self._ignored + Counter(result.passed_over))
            self._state = SourceState(self.path, "manifests", synced, current_at, problems, result.reason, ignored)
            self._store.apply(self, units, now=True)
            if synced:
                self._store.synced(self)
            for number in result.requests:
                if event := self._waiting.get(number):
                    event.set()

    def _count_ignored(self, name: str, found: Mapping[str, int]) -> None:
        self._ignored.subtract(self._ignored_of.pop(name, {}))
        if found:
            self._ignored.update(found)
            self._ignored_of[name] = found
        self._ignored = +self._ignored

    # -- in native threads -------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        """Scan the folder at once, then after each request or change, and every RESCAN_SECONDS."""
        requests: list[int] = []
        while not self._stopping.is_set():
            try:
                scan = self._folder.scan()
                result = _Result(scan.units, scan.reason, tuple(requests), scan.passed_over)
            except Exception as error:  # noqa: BLE001 - without this thread nothing would be read ever again
                result = _Result({}, f"{_INTERNAL_ERROR}{type(error).__name__}: {error}", tuple(requests), {})
            if not self._stopping.is_set():
                self._results.put(result)
            requests = self._next_requests()

    def _next_requests(self) -> list[int]:
        """Wait for a request and take all others that are queued: one scan that starts now answers them all."""
        found: list[int] = []
        try:
            request = self._requests.get(timeout=self._rescan)
            while True:
                if request is not None and request != FOLDER_CHANGED:
                    found.append(request)
                request = self._requests.get_nowait()
        except self._no_request:
            return found

    def _watch(self) -> None:
        """Request a scan whenever something changes in the folder, which may be deleted, created again or replaced."""
        while not self._stopping.is_set():
            identity = self._folder.identity()
            with suppress(OSError):  # no folder, or no inotify watches left on this machine: the periodic scans go on
                self._watch_one(identity)
            self._stopping.wait(0.5)

    def _watch_one(self, identity: tuple[int, int] | None) -> None:
        """Watch until another folder is at the path. Raises OSError.

        A change is read at once; those that follow it are gathered for a moment, so that very many files that are
        written one after the other cost few scans.
        """
        changes = FolderChanges(self.path)
        try:
            changed = True  # what changed before the watch began was not seen
            while not self._stopping.is_set():
                if changed:
                    self._requests.put(FOLDER_CHANGED)
                    self._stopping.wait(BURST_SECONDS)
                if self._folder.identity() != identity:
                    self._requests.put(FOLDER_CHANGED)  # also where no folder is there any more
                    return
                changed = changes.wait(IDENTITY_SECONDS)
        finally:
            changes.close()


def _largest(ignored: Counter[str]) -> tuple[tuple[str, int], ...]:
    """The largest counts by name, and the sum of the others."""
    found = sorted(ignored.items(), key=lambda one: (-one[1], one[0]))
    rest = sum(number for _, number in found[MAX_IGNORED_NAMES:])
    return (*found[:MAX_IGNORED_NAMES], *([(OTHER_KINDS, rest)] if rest else []))


def _check(path: str) -> None:
    """Raises SourceError, with what to do, when there is no such folder or it cannot be listed."""
    if not os.path.lexists(path):
        raise SourceError(f"manifest folder {path} does not exist: create it (mkdir -p {path}) or name another one")
    if not os.path.isdir(path):
        raise SourceError(f"{path} is not a folder: --manifests takes the folder that holds the manifest files")
    try:
        os.listdir(path)
    except OSError as error:
        raise SourceError(f"manifest folder {path} cannot be read: {error.strerror}; check its permissions") from None
