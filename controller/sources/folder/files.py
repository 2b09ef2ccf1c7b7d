"""The files of a manifest folder, read again where they changed, with the last good reading of each kept in force.

Runs in a real thread and so uses the original os and time only (see `native`). Nothing here waits for ever: files are
opened without blocking, and waiting for one to be written to its end is bounded.
"""

from __future__ import annotations

import gc
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple

from controller.base.native_threads import unpatched
from controller.base.printable import printable
from controller.reconcile.events import Problem
from controller.sources.folder.manifest import ParsedManifest, read_manifest, unreadable
from controller.sources.unit import SourceUnit

SUFFIXES = (".yaml", ".yml", ".json")
SUBFOLDERS = "subfolders"
OTHER_FILES = "files with other endings than .yaml, .yml and .json in small letters"
MAX_MANIFEST_BYTES = 64 << 20  # about 100,000 pods in JSON
LARGE_BYTES = 1 << 20  # from here on the garbage collector would cost more than the reading itself
WRITE_SETTLE_SECONDS = 0.02  # seconds without a write after which a file written in place counts as complete
VANISHED_SECONDS = 0.03  # seconds after which a name that vanished is gone, and not just being replaced
MAX_SETTLE_ROUNDS = 15  # rounds of waiting for files to settle; then they are read as they are
RACY_NS = 2_000_000_000  # a file written so shortly before it was read may change again without its times changing


class Fingerprint(NamedTuple):
    """What changes when a file does."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


@dataclass(slots=True)
class _File:
    """What is known of one file.

    `unit` is in force and as posted; `objects` is the last reading that counted, and `good` says that it had no errors.
    """

    fingerprint: Fingerprint | None = None
    racy: bool = False
    digest: bytes = b""
    unit: SourceUnit = field(default_factory=SourceUnit)
    objects: SourceUnit = field(default_factory=SourceUnit)
    good: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """What a look at the folder has found: the units that changed (None: gone).

    `reason` says why the folder cannot be read, "" when it can. `passed_over` counts what in it is not read, by what it
    is.
    """

    units: Mapping[str, SourceUnit | None]
    reason: str
    passed_over: Mapping[str, int] = field(default_factory=dict)


class FolderReader:
    """The state of one folder. For one thread; `stopping` ends a long scan early."""

    def __init__(self, path: str, stopping: Callable[[], bool]) -> None:
        self._path = path
        self._stopping = stopping
        self._os = unpatched("os")
        self._time = unpatched("time")
        self._files: dict[str, _File] = {}
        self._passed_over: dict[str, int] = {}

    def scan(self) -> Scan:
        """Look at all files and read those that changed. Never raises for what the folder holds or suffers."""
        try:
            present = self._settled()
        except OSError as error:
            return Scan({}, f"cannot be read: {error.strerror}; the last known objects stay in force")
        units: dict[str, SourceUnit | None] = {}
        for name in sorted(self._files.keys() - present.keys()):
            del self._files[name]
            units[self._where(name)] = None
        for name in sorted(present):
            if self._stopping():
                break
            file = self._files.setdefault(name, _File())
            before = file.unit
            self._refresh(file, name)
            if file.unit != before:
                units[self._where(name)] = file.unit
        return Scan(units, "", self._passed_over)

    def identity(self) -> tuple[int, int] | None:
        """Which folder stands at the path now; None when there is none."""
        try:
            found = self._os.stat(self._path)
        except OSError:
            return None
        return (found.st_dev, found.st_ino)

    def _where(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _settled(self) -> dict[str, Fingerprint | None]:
        """The names and fingerprints, once no file is being written in place and no name has just vanished.

        An editor that saves by renaming, and a shell that redirects into a file, both leave a moment in which a policy
        would be missing and its pods open. Raises OSError when the folder cannot be read.
        """
        waited_for_gone = False
        present = self._list()
        for _ in range(MAX_SETTLE_ROUNDS):
            wait = max((self._unsettled(name, found) for name, found in present.items()), default=0.0)
            if self._files.keys() - present.keys() and not waited_for_gone:
                wait, waited_for_gone = max(wait, VANISHED_SECONDS), True
            if not wait or self._stopping():
                break
            self._time.sleep(wait)
            present = self._list()
        return present

    def _list(self) -> dict[str, Fingerprint | None]:
        names = []
        passed_over: dict[str, int] = {}
        with self._os.scandir(self._path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.endswith(SUFFIXES):
                    names.append(entry.name)
                    continue
                what = SUBFOLDERS if entry.is_dir() else OTHER_FILES
                passed_over[what] = passed_over.get(what, 0) + 1
        self._passed_over = passed_over
        return {name: self._fingerprint(name) for name in names}

    def _fingerprint(self, name: str) -> Fingerprint | None:
        """None for what cannot be looked at or is no regular file."""
        try:
            found = self._os.stat(self._where(name))
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return Fingerprint(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _unsettled(self, name: str, found: Fingerprint | None) -> float:
        """Seconds to wait for a file that changed; none for one renamed into the place of another, which is whole."""
        known = self._files.get(name)
        last = known.fingerprint if known else None
        if found is None or found == last or (last is not None and found.inode != last.inode):
            return 0.0
        age = (self._time.time_ns() - found.modified) / 1e9
        return WRITE_SETTLE_SECONDS - age if 0 <= age < WRITE_SETTLE_SECONDS else 0.0

    def _refresh(self, file: _File, name: str) -> None:
        """Read a file again if it may have changed, and decide what of it is in force."""
        fingerprint = self._fingerprint(name)
        if fingerprint is not None and fingerprint == file.fingerprint and not file.racy:
            return
        where = printable(self._where(name))
        try:
            data, fingerprint = self._read(name)
        except (OSError, ValueError) as error:
            file.fingerprint, file.digest = None, b""  # tried again at every scan
            if isinstance(error, FileNotFoundError) and not self._os.path.lexists(self._where(name)):
                return  # it went after it was listed; the next scan finds it gone, or replaced
            self._keep(file, unreadable(where, _why(error)), where)
            return
        digest = blake2b(data, digest_size=16).digest()
        file.fingerprint = fingerprint
        file.racy = self._time.time_ns() - max(fingerprint.modified, fingerprint.changed) < RACY_NS
        if digest == file.digest:
            return
        file.digest = digest
        if not data.strip() and file.objects.objects:
            # What a redirection leaves before the first byte is written. Taking it for real would open the pods.
            self._keep(file, unreadable(where, "is empty; delete the file if its objects shall go"), where)
            return
        with _uncollected(len(data) >= LARGE_BYTES):
            reading = read_manifest(data, where, name.endswith(".json"))
        self._keep(file, reading, where)

    def _keep(self, file: _File, reading: ParsedManifest, where: str) -> None:
        """A good reading counts. A broken one leaves the last good one in force, whole.

        Where there never was a good one, what can be read counts, beside what could be read before.
        """
        if not reading.has_errors:
            file.unit = file.objects = reading.unit
            file.good = True
        elif file.good:
            note = Problem(where, "", "", f"its last good contents stay in force ({len(file.objects.objects)} objects)")
            problems = (*reading.unit.problems, note)
            file.unit = replace(file.objects, problems=problems, total_problems=reading.unit.problem_count + 1)
        else:
            merged = {(one.kind, one.name): one for one in (*file.objects.objects, *reading.unit.objects)}
            file.unit = file.objects = replace(reading.unit, objects=tuple(merged.values()))

    def _read(self, name: str) -> tuple[bytes, Fingerprint]:
        """A file's bytes. Raises OSError or ValueError, with words for the operator."""
        path = self._where(name)
        # Without blocking: opening a FIFO would wait for a writer.
        descriptor = self._os.open(path, self._os.O_RDONLY | self._os.O_NONBLOCK | self._os.O_CLOEXEC)
        try:
            found = self._os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("is not a regular file")
            parts: list[bytes] = []
            size = 0
            while part := self._os.read(descriptor, 1 << 20):
                parts.append(part)
                size += len(part)
                if size > MAX_MANIFEST_BYTES:
                    raise ValueError(f"has more than {MAX_MANIFEST_BYTES >> 20} MiB; split it")
        finally:
            self._os.close(descriptor)
        fingerprint = Fingerprint(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return b"".join(parts), fingerprint


@contextmanager
def _uncollected(wanted: bool) -> Iterator[None]:
    """Without cyclic garbage collection, where `wanted`.

    It would look at all of a large world again and again while that grows, holding up every thread, and documents have
    no cycles. When two folders overlap, the one that found it enabled enables it again.
    """
    enabled = wanted and gc.isenabled()
    if enabled:
        gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is a symbolic link to a file that does not exist"  # the name itself is there
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return str(error)
