"""What answers health checks: each request once, nobody for long, not too many at once; and how it starts and ends.

With real packets through the switch: tests/packets/test_services.py, tests/deploy/test_node_cni.py.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from node import health
from node.host_names import FAMILIES, HEALTH


class Served:
    """The server on a socket of this test, as systemd would give it; `endpoints` is what the switch says."""

    def __init__(self, patch: pytest.MonkeyPatch, idle: float) -> None:
        self.endpoints = 2
        listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = listening.getsockname()
        patch.setenv("LISTEN_PID", str(os.getpid()))
        patch.setenv("LISTEN_FDS", "1")
        patch.setattr(health, "_FIRST_GIVEN", listening.detach())
        patch.setattr(health, "IDLE", idle)
        patch.setattr(health, "_endpoints", lambda _: self.endpoints)
        self.thread = threading.Thread(target=health.serve, daemon=True)
        self.thread.start()

    def connect(self) -> socket.socket:
        made = socket.create_connection(self.address)
        made.settimeout(20)
        return made

    def ask(self, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> bytes:
        """All that comes back until the end."""
        with closing(self.connect()) as made:
            made.sendall(request)
            return read_all(made)


def read_all(made: socket.socket) -> bytes:
    found = b""
    try:
        while more := made.recv(4096):
            found += more
    except ConnectionResetError:
        pass
    return found


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(health, "SECONDS", 0.5)
    made = Served(monkeypatch, 1.0)
    yield made
    made.thread.join(30)
    assert not made.thread.is_alive()  # nobody asks any more


def test_it_says_what_the_switch_says(served: Served) -> None:
    head, _, body = served.ask().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n" in head
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
    assert json.loads(body) == {"localEndpoints": 2, "serviceProxyHealthy": True}
    served.endpoints = 0
    head, _, body = served.ask(b"HEAD /any/path HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert json.loads(body)["localEndpoints"] == 0


def test_nobody_is_waited_for_and_nothing_long_is_read(served: Served) -> None:
    with closing(served.connect()) as silent:
        assert served.ask(b"x" * health.MAX_REQUEST + b"\r\n\r\n") == b""
        assert served.ask().startswith(b"HTTP/1.1 200")
        assert read_all(silent) == b""  # its time is over


def test_many_clients_wait_for_a_place(served: Served) -> None:
    silent = [served.connect() for _ in range(health.MAX_CLIENTS)]
    assert served.ask().startswith(b"HTTP/1.1 200")  # once the others' time is over
    for one in silent:
        one.close()


def test_a_second_one_leaves_the_first_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as first:
        monkeypatch.setattr(health, "HEALTH_PORT", first.getsockname()[1])
        monkeypatch.setitem(HEALTH, FAMILIES[0], "127.0.0.1")
        health.serve(tmp_path / "pid")
    assert not (tmp_path / "pid").exists()


def test_a_connection_that_the_node_did_not_translate_is_ended() -> None:
    """Without conntrack nothing says which port was meant."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        taken, _ = server.accept()
        with taken, suppress(OSError):
            assert health._endpoints(taken) == server.getsockname()[1]
