"""The receive loop: a switch is silent only if somebody listened."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from controller.openflow.messages import echo_request_message
from controller.openflow.outbox import Outbox
from controller.openflow.receiver import MessageHandler, Receiver
from controller.peers.fifo_lock import FifoLock
from controller.peers.limits import OpenFlowLimits

LIMITS = OpenFlowLimits()
STALL = LIMITS.dead_after + 5.0


class Stalled:
    """A socket and its clock. Each of `waits` is how long a wait for bytes takes, and what comes of it: None is the
    socket's timeout. A long one is what the eventlet hub does after a time without CPU: it ends waits before it looks
    at sockets."""

    def __init__(self, *waits: tuple[float, bytes | None]) -> None:
        self.waits = list(waits)
        self.now = 100.0
        self.silent: list[float] = []  # for how long, at each check of timeouts
        self.handled: list[bytes] = []
        handler = MessageHandler(lambda *_: None, self._handle, self._check, lambda: None)
        outbox, connection = Outbox(LIMITS.unsent_bytes), cast(socket.socket, self)
        self.receiver = Receiver(connection, outbox, LIMITS, lambda: self.now, FifoLock(), handler)
        self.receiver.run()

    def recv(self, _: int) -> bytes:
        seconds, found = self.waits.pop(0) if self.waits else (0.0, b"")
        self.now += seconds
        if found is None:
            raise TimeoutError
        return found

    def _handle(self, *message: Any) -> None:
        self.handled.append(message[-1])

    def _check(self, now: float) -> None:
        self.silent.append(now - self.receiver.heard_at)


def test_after_a_time_without_cpu_what_waits_in_the_socket_is_read_first() -> None:
    message = echo_request_message(0)
    found = Stalled((LIMITS.tick, None), (STALL, None), (0.0, message), (LIMITS.tick, None))
    assert found.handled == [message]
    assert max(found.silent) < LIMITS.dead_after


@pytest.mark.parametrize("wait", [LIMITS.tick, STALL])
def test_a_switch_that_says_nothing_is_silent(wait: float) -> None:
    found = Stalled(*[(wait, None)] * 20)
    assert max(found.silent) > LIMITS.dead_after
