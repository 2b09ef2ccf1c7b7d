"""Network namespaces by path: creates, enters and removes them. A thread enters one, never the whole process.

Namespaces are bound to files in the lab's folder, not in /run/netns, so that they cannot be confused with others.
`nsenter --net=FILE` opens a shell in one.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def enter(fd: int) -> None:
    """Move the calling thread, and processes it starts from then on, into the namespace that `fd` is open on."""
    _check(_libc.setns(fd, CLONE_NEWNET), "setns")


def unshare() -> None:
    """Move the calling thread into a new namespace, which ends with the thread unless it is bound to a file."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare")


def create(path: Path) -> None:
    """Create a namespace and bind it to the new file `path`. Raises OSError, FileExistsError if `path` exists."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def make() -> None:
        unshare()
        _check(_libc.mount(_OWN.encode(), str(path).encode(), b"none", MS_BIND, None), f"bind {path}")

    try:
        in_thread(make)
    except OSError:
        path.unlink()
        raise


def keep_own(path: Path) -> None:
    """Bind the calling thread's own namespace to the new file `path`; `remove` releases it. Raises OSError."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        _check(_libc.mount(_OWN.encode(), str(path).encode(), b"none", MS_BIND, None), f"bind {path}")
    except OSError:
        path.unlink()
        raise


def remove(path: Path) -> None:
    """Unbind a namespace from the file `path`; it ends with its last process and socket. A missing file is no error."""
    while os.path.lexists(path) and _libc.umount2(str(path).encode(), MNT_DETACH) == 0:
        pass
    path.unlink(missing_ok=True)


@contextmanager
def inside(path: Path) -> Iterator[None]:
    """Run the block with the calling thread in the namespace at `path`. Sockets stay where they were created."""
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a new thread, so that a namespace that it enters ends with the thread. Raises its exception."""
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001  # raised in the calling thread below
            failure.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
