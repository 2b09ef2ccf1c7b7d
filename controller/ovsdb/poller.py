"""The poller that an OVSDB thread blocks in: it waits for sockets, time and other threads. No OVSDB here."""

from __future__ import annotations

import selectors
import socket
from typing import Any

import ovs.poller
import ovs.timeval


class WakeablePoller:
    """Replaces `ovs.poller.Poller`, without its limit to file descriptors below 1024.

    `wake()` may be called from any thread; everything else belongs to the thread that waits.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)
        self._wanted: dict[Any, int] = {}
        self._until: float | None = None  # milliseconds of ovs.timeval

    def fd_wait(self, fd: Any, events: int) -> None:
        """Wake when `fd` (a socket or a number) is ready for `events`, POLLIN or POLLOUT of ovs.poller."""
        number = fd if isinstance(fd, int) else fd.fileno()
        if number < 0:
            self.immediate_wake()  # closed meanwhile; its owner must run
            return
        read = selectors.EVENT_READ if events & ovs.poller.POLLIN else 0
        write = selectors.EVENT_WRITE if events & ovs.poller.POLLOUT else 0
        self._wanted[number] = self._wanted.get(number, 0) | read | write

    def timer_wait(self, msec: float) -> None:
        """Wake after `msec` milliseconds at the latest."""
        self.timer_wait_until(ovs.timeval.msec() + max(0.0, msec))

    def timer_wait_until(self, msec: float) -> None:
        """Wake when ovs.timeval.msec() is `msec` at the latest."""
        self._until = msec if self._until is None else min(self._until, msec)

    def immediate_wake(self) -> None:
        """Do not wait."""
        self._until = 0.0

    def wake(self) -> None:
        """End the present wait, or else the next one."""
        try:
            self._outer.send(b"!")
        except OSError:
            return  # full: it wakes anyway; closed: no thread waits

    def block(self) -> None:
        """Wait for any of the conditions set since the last call."""
        self.fd_wait(self._inner, ovs.poller.POLLIN)
        timeout = None if self._until is None else max(0.0, (self._until - ovs.timeval.msec()) / 1000)
        for number, events in self._wanted.items():
            self._selector.register(number, events)
        try:
            self._selector.select(timeout)
        finally:
            for number in self._wanted:
                self._selector.unregister(number)
            self._wanted, self._until = {}, None
        try:
            while len(self._inner.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the descriptors; `wake()` has no effect then."""
        self._selector.close()
        self._inner.close()
        self._outer.close()
