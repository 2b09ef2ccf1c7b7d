"""Barriers of one OVSDB connection: questions whether every change committed so far has been published.

ovsdb-server sends the updates of a committed change before the reply to an echo request that it reads afterwards. So a
barrier is an echo request: its reply says that the updates before it have arrived. What is published must not live
here.
"""

from __future__ import annotations

import threading

from controller.ovsdb.session import FramedSession


class BarrierRequest:
    """One barrier. `reason` says why it failed; it is empty while it is open and after success."""

    def __init__(self) -> None:
        self.reason = ""
        self._done = threading.Event()

    def answer(self, reason: str = "") -> None:
        """The result; an empty reason means that every change has been published."""
        self.reason = reason
        self._done.set()

    def wait(self, seconds: float) -> bool:
        """Whether the result came within `seconds`."""
        return self._done.wait(seconds)


class Barriers:
    """The barriers of one connection. `add` may be called from any thread, the rest belongs to the connection's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: list[BarrierRequest] | None = []  # not sent yet; None once the connection has ended for good
        self._sent: dict[str, BarrierRequest] = {}  # by the id of the echo request

    def add(self, barrier: BarrierRequest) -> bool:
        """Queue a barrier. False, and the barrier fails, if the connection has ended for good."""
        with self._lock:
            if self._new is not None:
                self._new.append(barrier)
                return True
        barrier.answer("connection ended")
        return False

    def send_new(self, session: FramedSession, standby: bool, rival: str) -> None:
        """Send the queued barriers. A connection on standby has nothing to publish; a `rival` fails them."""
        for barrier in self._take_new():
            if rival:
                barrier.answer(rival)
            elif standby:
                barrier.answer()
            else:
                self.send(session, barrier)

    def send(self, session: FramedSession, barrier: BarrierRequest) -> None:
        """Send one barrier."""
        self._sent[session.send_echo()] = barrier

    def answer_replies(self, session: FramedSession) -> None:
        """Answer the barriers whose echo reply has come."""
        while session.echo_replies:
            if (barrier := self._sent.pop(session.echo_replies.pop(0), None)) is not None:
                barrier.answer()

    def fail(self, reason: str) -> None:
        """Fail all barriers."""
        for barrier in [*self._take_new(), *self._sent.values()]:
            barrier.answer(reason)
        self._sent.clear()

    def close(self) -> None:
        """Fail all barriers, those of the future included."""
        self.fail("closed")
        with self._lock:
            self._new = None

    def _take_new(self) -> list[BarrierRequest]:
        with self._lock:
            if not self._new:  # None stays: a barrier after the end must fail
                return []
            new, self._new = self._new, []
        return new
