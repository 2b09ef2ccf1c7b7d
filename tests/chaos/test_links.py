"""Links: what passes, what a cut holds back, and what arrives after it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.links import Links
from tests.helpers.waiting import free_port, until


class Echo:
    """A server that answers with what it gets."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)


@pytest.fixture
def heard() -> list[tuple[str, int, bytes]]:
    return []


@pytest.fixture
def links(heard: list[tuple[str, int, bytes]]) -> Iterator[Links]:
    with Links(lambda *one: heard.append(one)) as made:
        yield made


@pytest.fixture
def target() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        Echo(sock)
        yield sock.getsockname()[1]
        sock.shutdown(socket.SHUT_RDWR)


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.settimeout(30)
    return sock


def silent(sock: socket.socket) -> bool:
    sock.settimeout(0.2)
    try:
        sock.recv(1)
    except TimeoutError:
        sock.settimeout(30)
        return True
    return False


def test_a_cut_holds_back_and_what_was_sent_arrives_later(
    links: Links, target: int, heard: list[tuple[str, int, bytes]]
) -> None:
    with connect(links.to_port("openflow r0/n0", target)) as sock:
        sock.sendall(b"one")
        assert sock.recv(10) == b"one"
        links.cut("openflow r0/n0")
        assert links.cuts() == {"openflow r0/n0"}
        sock.sendall(b"two")
        assert silent(sock)
        until(lambda: (b"two") in [data for _, _, data in heard], "it is heard when it is said")
        links.heal("openflow r0/n0")
        assert sock.recv(10) == b"two"
        assert links.cuts() == set()


def test_a_new_connection_over_a_cut_link_waits(links: Links, target: int) -> None:
    port = links.to_port("api r0", target)
    links.cut("api r0")
    links.cut("api r0")
    with connect(port) as sock:
        sock.sendall(b"hello")
        assert silent(sock)
        links.heal("api r0")
        assert links.is_cut("api r0"), "cut twice"
        links.heal("api r0")
        assert sock.recv(10) == b"hello"


def test_links_are_cut_one_by_one(links: Links, target: int) -> None:
    ports = [links.to_port(name, target) for name in ("a", "b")]
    links.cut("a")
    with connect(ports[1]) as sock:
        sock.sendall(b"b")
        assert sock.recv(10) == b"b"


def test_the_near_end_waits_for_a_target_that_is_not_there_yet(links: Links) -> None:
    later = free_port()
    with connect(links.to_port("late", later)) as sock:
        sock.sendall(b"early")
        assert silent(sock)
        with socket.create_server(("127.0.0.1", later)) as server:
            Echo(server)
            assert sock.recv(10) == b"early"
            server.shutdown(socket.SHUT_RDWR)


def test_sockets_with_a_path(links: Links, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "there"))
        server.listen()
        Echo(server)
        assert links.to_socket("ovsdb", tmp_path / "here", tmp_path / "there") == f"unix:{tmp_path}/here"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(tmp_path / "here"))
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"
        server.shutdown(socket.SHUT_RDWR)


def test_an_end_of_the_connection_passes_too(links: Links) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        connect(links.to_port("x", server.getsockname()[1])) as sock,
    ):
        far, _ = server.accept()
        far.close()
        assert sock.recv(1) == b""
