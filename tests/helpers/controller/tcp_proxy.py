"""A TCP proxy that can cut connections, refuse them, or go silent: the network between Headgate and the API server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Proxy:
    """Carries bytes between `port` and a port of this machine, in threads."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._closed = False
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut(self) -> None:
        """End all connections at once; new ones may come."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _end(pair)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Cut, and end every new connection at once."""
        self._refusing = True
        self.cut()
        try:
            yield
        finally:
            self._refusing = False

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Existing connections stay open for ever and carry nothing; new ones work."""
        with self._lock:
            stuck, self._pairs = self._pairs, []
            old, self._flowing = self._flowing, threading.Event()
            self._flowing.set()
        old.clear()
        try:
            yield
        finally:
            with self._lock:
                self._pairs += stuck
            self.cut()
            old.set()

    def close(self) -> None:
        """End everything."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                break
            self.accepted += 1
            if self._refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._pairs.append((near, far))
                flowing = self._flowing
            done = threading.Barrier(2)
            for one, other in ((near, far), (far, near)):
                arguments = (one, other, flowing, done)
                threading.Thread(target=_carry, args=arguments, name="proxy-flow", daemon=True).start()
        self._listener.close()


def _end(pair: tuple[socket.socket, socket.socket]) -> None:
    """Shut both down, so that their readers return and close them. A closed descriptor's number is reused at once."""
    for one in pair:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _carry(one: socket.socket, other: socket.socket, flowing: threading.Event, done: threading.Barrier) -> None:
    try:
        while data := one.recv(1 << 16):
            flowing.wait()
            other.sendall(data)
    except OSError:
        pass
    _end((one, other))
    done.wait()
    one.close()
