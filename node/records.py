"""What is kept of each attachment while it is there: one file, which is its lock as well (flock(2)).

A record is written before an address is allocated and removed after all else is undone, so a command that was killed
between any two steps leaves a record of what it may have left. The folder is empty after a boot, as is the node.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager

from node.cni_request import is_port_name
from node.errors import TRY_AGAIN, CniError
from node.quick import TYPE_CHECKING, decode_json, encode_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_RECORD = 1 << 20
MAX_RECORDS = 1 << 16
_FOLDER = "attachments"


class BusyError(CniError):
    """Another command is at work on the attachment."""


class Record:
    """The record of one attachment while its lock is held. `contents` is {} for a new one."""

    def __init__(self, file: int) -> None:
        self.file = file  # the lock: a child process that inherits it holds the lock as well
        self.contents: dict[str, Any] = {}
        try:
            text = os.pread(file, MAX_RECORD, 0).decode()
            contents = decode_json(text)[0] if text else {}
            self.contents = contents if isinstance(contents, dict) else {}
        except ValueError:
            pass  # ours is written at once; another's has nothing to say

    def write(self, contents: dict[str, Any]) -> None:
        """Replace the contents. The longer text goes before the cut, so a reader finds the old or the new one."""
        data = encode_json(contents).encode()
        os.pwrite(self.file, data, 0)
        os.ftruncate(self.file, len(data))
        self.contents = contents

    def clear(self) -> None:
        """Nothing is left of the attachment. The file goes at the end of the block, with the lock."""
        os.ftruncate(self.file, 0)
        self.contents = {}


@contextmanager
def locked(run_dir: str, port: str, wait: float) -> Iterator[Record]:
    """The record of an attachment, by its port's name, locked for the block. Waits `wait` seconds for the lock.

    Raises BusyError if another command has it all that time.
    """
    folder = f"{run_dir}/{_FOLDER}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = f"{folder}/{port}"
    deadline = time.monotonic() + wait
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if _lock(file) and _is_at(file, path):
                record = Record(file)
                try:
                    yield record
                finally:
                    _drop_if_empty(record, path)
                return
        finally:
            os.close(file)
        if time.monotonic() >= deadline:
            raise BusyError(TRY_AGAIN, f"another command for {port} is still at work")
        time.sleep(0.02)


def names(run_dir: str) -> list[str]:
    """The ports of which there is a record, at most MAX_RECORDS."""
    try:
        with os.scandir(f"{run_dir}/{_FOLDER}") as entries:
            found = [entry.name for entry, _ in zip(entries, range(MAX_RECORDS))]
    except FileNotFoundError:
        return []
    return [name for name in found if is_port_name(name)]


def _drop_if_empty(record: Record, path: str) -> None:
    """A record that says nothing was only a lock."""
    if not record.contents and _is_at(record.file, path):
        os.unlink(path)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: int, path: str) -> bool:
    """Whether the file is still the one of this path: its last holder may have removed it."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    own = os.fstat(file)
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)
