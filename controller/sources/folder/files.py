"""Reads the files of a manifest folder that changed, and keeps the last version of each that had no errors.

Runs in a native thread, so it uses unpatched os and time only (see `controller.base.native_threads`). Nothing here
blocks for long: files are opened without blocking, and the wait for a file to be written completely is bounded. When to
scan is decided in `source`.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple

from controller.base.garbage_collector import without_collection
from controller.base.native_threads import unpatched
from controller.base.printable import printable
from controller.reconcile.problem import Problem
from controller.sources.folder.manifest import ParsedManifest, read_manifest, unreadable
from controller.sources.unit import SourceUnit
from flows.parse.objects import PARSERS, Parsers

SUFFIXES = (".yaml", ".yml", ".json")
SUBFOLDERS = "subfolders"
OTHER_FILES = "files with other endings than .yaml, .yml and .json in small letters"
MAX_MANIFEST_BYTES = 64 << 20  # about 100,000 pods in JSON
LARGE_BYTES = 1 << 20  # from this size on, garbage collection would cost more than parsing
WRITE_SETTLE_SECONDS = 0.02  # without a write, after which a file written in place counts as complete
VANISHED_SECONDS = 0.03  # after which a missing file counts as deleted, not as being replaced
MAX_SETTLE_ROUNDS = 15  # of waiting for files to be complete; then they are read as they are
RACY_NS = 2_000_000_000  # a file read so soon after a write may change again with the same times


class Fingerprint(NamedTuple):
    """Values of stat(2) that change when the file does."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


@dataclass(slots=True)
class _File:
    """The state of one file.

    `unit` is what the store has of it. `objects` is the parsed version that the unit's objects come from; `good` says
    that it had no errors. `racy`: the file may have changed since without a change of its fingerprint.
    """

    fingerprint: Fingerprint | None = None
    racy: bool = False
    digest: bytes = b""
    unit: SourceUnit = field(default_factory=SourceUnit)
    objects: SourceUnit = field(default_factory=SourceUnit)
    good: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of one scan: the units that changed, None for a deleted file.

    `reason` says why the folder cannot be read, "" when it can. `passed_over` has the number of entries that are not
    read, by SUBFOLDERS or OTHER_FILES.
    """

    units: Mapping[str, SourceUnit | None]
    reason: str
    passed_over: Mapping[str, int] = field(default_factory=dict)


class FolderReader:
    """Scans one folder for objects of the kinds in `parsers`. For one thread; a scan ends early once `stopping` returns
    True."""

    def __init__(self, path: str, stopping: Callable[[], bool], parsers: Parsers = PARSERS) -> None:
        self._path = path
        self._parsers = parsers
        self._stopping = stopping
        self._os = unpatched("os")
        self._time = unpatched("time")
        self._files: dict[str, _File] = {}
        self._passed_over: dict[str, int] = {}

    def scan(self) -> Scan:
        """Read the files that changed since the last scan. Problems of the folder are in the result; none is raised."""
        try:
            present = self._complete_files()
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
        """Device and inode of the folder that is at the path now; None when there is none."""
        try:
            found = self._os.stat(self._path)
        except OSError:
            return None
        return (found.st_dev, found.st_ino)

    def _where(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _complete_files(self) -> dict[str, Fingerprint | None]:
        """Names and fingerprints of all files, once no file is being written in place and none has just vanished.

        An editor that saves by renaming, and a shell that redirects into a file, both leave a moment in which the file
        is missing or incomplete. Taking that for real would remove a policy, and its pods would not be isolated. Raises
        OSError when the folder cannot be read.
        """
        waited_for_vanished = False
        present = self._list()
        for _ in range(MAX_SETTLE_ROUNDS):
            wait = max((self._incomplete_for(name, found) for name, found in present.items()), default=0.0)
            if self._files.keys() - present.keys() and not waited_for_vanished:
                wait, waited_for_vanished = max(wait, VANISHED_SECONDS), True
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
        """None for a file that cannot be examined or is not a regular file."""
        try:
            found = self._os.stat(self._where(name))
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return Fingerprint(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _incomplete_for(self, name: str, found: Fingerprint | None) -> float:
        """Seconds to wait for a file that changed; 0 for one that was renamed over another, which is complete."""
        known = self._files.get(name)
        last = known.fingerprint if known else None
        if found is None or found == last or (last is not None and found.inode != last.inode):
            return 0.0
        age = (self._time.time_ns() - found.modified) / 1e9
        return WRITE_SETTLE_SECONDS - age if 0 <= age < WRITE_SETTLE_SECONDS else 0.0

    def _refresh(self, file: _File, name: str) -> None:
        """Read a file again if it may have changed, and set its unit."""
        fingerprint = self._fingerprint(name)
        if fingerprint is not None and fingerprint == file.fingerprint and not file.racy:
            return
        where = printable(self._where(name))
        try:
            data, fingerprint = self._read(name)
        except (OSError, ValueError) as error:
            file.fingerprint, file.digest = None, b""  # tried again at every scan
            if isinstance(error, FileNotFoundError) and not self._os.path.lexists(self._where(name)):
                return  # deleted since it was listed; the next scan sees that, or a replacement
            self._set_unit(file, unreadable(where, _reason(error)), where)
            return
        digest = blake2b(data, digest_size=16).digest()
        file.fingerprint = fingerprint
        file.racy = self._time.time_ns() - max(fingerprint.modified, fingerprint.changed) < RACY_NS
        if digest == file.digest:
            return
        file.digest = digest
        if not data.strip() and file.objects.objects:
            # A shell's redirection leaves an empty file at first. Taking it for real would remove policies.
            self._set_unit(file, unreadable(where, "is empty; delete the file to remove its objects"), where)
            return
        with without_collection() if len(data) >= LARGE_BYTES else nullcontext():
            parsed = read_manifest(data, where, name.endswith(".json"), self._parsers)
        self._set_unit(file, parsed, where)

    def _set_unit(self, file: _File, parsed: ParsedManifest, where: str) -> None:
        """Set the unit of a file that was read.

        A version without errors replaces the last one. After a version with errors, all objects of the last version
        without errors stay; if there never was one, the objects that can be parsed are added to those parsed before.
        """
        if not parsed.has_errors:
            file.unit = file.objects = parsed.unit
            file.good = True
        elif file.good:
            note = Problem(
                where, "", "", f"its last version without errors stays in force ({len(file.objects.objects)} objects)"
            )
            problems = (*parsed.unit.problems, note)
            file.unit = replace(file.objects, problems=problems, total_problems=parsed.unit.problem_count + 1)
        else:
            merged = {(one.kind, one.name): one for one in (*file.objects.objects, *parsed.unit.objects)}
            file.unit = file.objects = replace(parsed.unit, objects=tuple(merged.values()))

    def _read(self, name: str) -> tuple[bytes, Fingerprint]:
        """A file's bytes and fingerprint. Raises OSError, or ValueError with a reason for the operator."""
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


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is a symbolic link to a file that does not exist"  # the name itself exists
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return str(error)
