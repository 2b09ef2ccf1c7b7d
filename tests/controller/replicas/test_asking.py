"""What answers at another replica's address keeps nothing of this one, whatever it sends: a pod may have it by now."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import pytest

from controller.reconcile.ownership import Member, View
from controller.replicas import fleet
from controller.replicas.fleet import Fleet
from controller.replicas.leases import MemberLease
from controller.replicas.member import MemberState, ReplicaMember
from tests.helpers.controller.fake_views import STATUS
from tests.helpers.waiting import until

ME, OTHER = Member("r0", "a"), Member("r1", "b")


class FakeMember:
    """This replica, and another one at an address."""

    def __init__(self, address: str) -> None:
        self.me, self.alone, self.replaced, self.reason = ME, False, False, ""
        self.view = View(1, (ME, OTHER))
        self._lease = MemberLease(OTHER, 5.0, ready=True, http=address)

    def members(self) -> list[MemberState]:
        return [MemberState(MemberLease(ME, 5.0), 0.0, True), MemberState(self._lease, 0.0, True)]


@contextmanager
def dripping(start: bytes, more: bytes) -> Iterator[str]:
    """Answers with `start`, and then `more` every tenth of a second without an end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ending = threading.Event()

        def serve(one: socket.socket) -> None:
            with one, suppress(OSError):
                one.sendall(start)
                while not ending.wait(0.1):
                    one.sendall(more)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True, name="peer").start()

        threading.Thread(target=accept, daemon=True, name="peer").start()
        host, port = server.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            ending.set()


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"", b""),
        (b"HTTP/1.0 200 OK\r\n", b"A: b\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"{"),
        (b"H", b"T"),
    ],
)
def test_an_answer_without_an_end_keeps_no_thread(start: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "ANSWER_SECONDS", 0.5)

    def asking() -> int:
        return sum("_ask_one" in one.name for one in threading.enumerate())

    with dripping(start, more) as address:
        asked = Fleet(cast(ReplicaMember, cast(Any, FakeMember(address))))
        for _ in range(3):
            assert asked.status(STATUS).replicas == STATUS.replicas
        until(lambda: not asking(), "the threads that asked", 10)
