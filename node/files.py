"""Files that are replaced or removed as a whole, whenever the process or the machine ends."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file, and make its folder: a reader sees the old contents or the new ones, also after a loss of power.
    Only one process at a time may do so. Raises OSError."""
    new = _new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.chmod(mode)
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    _sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there, and what an interrupted `replace_file` has left of it. Raises OSError."""
    for one in (path, _new(path)):
        with suppress(FileNotFoundError):
            one.unlink()


def _new(path: Path) -> Path:
    """One name, so that what a loss of power leaves is replaced with the next one. node-undo.sh knows it."""
    return path.with_name(f".{path.name}.new")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
