"""The relay carries connections out of a namespace, both ways, and hands on their end."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from tests.topology.conftest import MakeLab
from topology.host import process
from topology.host.netns import inside
from topology.lab.product import free_port

pytestmark = pytest.mark.lab


def dial(netns: Path) -> socket.socket:
    with inside(netns):
        return socket.create_connection(("127.0.0.1", 7777), timeout=10)


def test_a_connection_from_inside_reaches_outside(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.up(controller=False)
    port = free_port()
    job = [
        {"netns": str(node.netns), "listen": ["127.0.0.1", 7777], "to": ["127.0.0.1", port]}
        for node in lab.nodes.values()
    ]
    path = lab.folder / "test.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    process.start_python(lab.folder, "test", "topology.lab.relay", [str(path)], lab.folder / "test.log")
    inner = lab.nodes["one"].netns
    with dial(inner) as impatient:
        impatient.sendall(b"lost")
    patient = dial(inner)
    patient.sendall(b"hello")
    time.sleep(0.3)
    with socket.create_server(("127.0.0.1", port)) as server, patient:
        server.settimeout(10)
        far, _ = server.accept()
        with far:
            assert far.recv(5) == b"hello"  # it waited for somebody to listen; the one that gave up is not heard of
    with socket.create_server(("127.0.0.1", port)) as server, dial(inner) as near:
        server.settimeout(10)
        far, _ = server.accept()
        far.settimeout(10)
        with far:
            near.sendall(b"hello" * 100_000)
            got = b""
            while len(got) < 500_000:
                got += far.recv(65536)
            far.sendall(b"back")
            assert near.recv(4) == b"back"
        assert near.recv(1) == b""
