"""Network namespaces: entering one by its path, and coming back (network_namespaces(7))."""

from __future__ import annotations

import os
from contextlib import contextmanager

from node.errors import NodeError
from node.quick import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Run a block of this thread in the namespace that the descriptor is open on."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(namespace)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)


def _enter(namespace: int) -> None:
    try:
        setns = getattr(os, "setns", None)  # from Python 3.12 on
        if setns is not None:
            setns(namespace, _CLONE_NEWNET)
        elif not _quickly(namespace):
            import ctypes

            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
    except OSError as error:
        raise NodeError(f"cannot enter the network namespace: {error.strerror}") from None


def _quickly(namespace: int) -> bool:
    """Without `ctypes`, whose import takes longer than all else here; it is for the error where this fails."""
    try:
        import _ctypes

        library = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # the program itself, and all it has loaded
        setns = _ctypes.dlsym(library, "setns")
        return bool(_ctypes.call_function(setns, (namespace, _CLONE_NEWNET)) == 0)
    except (ImportError, AttributeError, OSError):
        return False
