"""Frames that a packet socket dropped are counted, by node and time; those that were read are not."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.lost_frames import LostFrames, queue_drops
from topology.host import netns, process
from topology.host.links import quiet_namespace
from topology.host.machine import require_lab_support
from topology.lab.lab import Lab
from topology.lab.pod import POD_INTERFACE
from topology.spec.load import check_topology

pytestmark = pytest.mark.lab
FRAMES = 400


@pytest.fixture(name="node")
def _node(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "node"
    netns.create(path)
    try:
        with netns.inside(path):
            quiet_namespace()
        yield path
    finally:
        netns.remove(path)


def _flood(path: Path, buffer: int, frames: int = FRAMES) -> socket.socket:
    """A packet socket with a small or a large buffer that nobody reads, and frames for it."""

    def make() -> socket.socket:
        with netns.inside(path):
            reader = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            reader.bind(("lo", 0))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for _ in range(frames):
                    sender.sendto(b"?" * 500, ("127.0.0.1", 9))
            return reader

    return netns.in_thread(make)


def test_drops_are_told_by_node_and_time(node: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    netns.create(other)
    try:
        now = [10.0]
        lost = LostFrames({"n0": node, "n1": other}, lambda: now[0])
        with lost:
            now[0] = 20.0
            with _flood(node, 2048):
                lost.sample()
                now[0] = 30.0
                lost.sample()
            assert lost.between(["n0"], 12.0, 15.0)["n0"] > FRAMES / 2
            assert not lost.between(["n0"], 25.0, 30.0)
            assert not lost.between(["n1"], 0.0, 30.0)
        assert lost.total()["n0"] > FRAMES / 2
        assert "n1" not in lost.total()
    finally:
        netns.remove(other)


def test_what_was_dropped_before_and_what_has_room_does_not_count(node: Path) -> None:
    with _flood(node, 2048), LostFrames({"n0": node}) as lost:
        lost.sample()
    assert not lost.total()["n0"]
    with LostFrames({"n0": node}) as lost, _flood(node, 1 << 20, frames=20):
        lost.sample()
    assert not lost.total()["n0"]


def test_the_kernels_own_queue_is_added_over_all_processors() -> None:
    assert queue_drops("0000ffff 00000003 00000000\n00000001 00000010 00000000\n") == 19


def test_frames_for_a_switch_that_gets_no_cpu_are_counted(tmp_path: Path) -> None:
    require_lab_support("userspace")
    short = Path(tempfile.mkdtemp(prefix="hgl-", dir="/tmp"))  # sockets inside have a limit
    pod = {"namespace": "x", "name": "a", "node": "n0"}
    data = {"nodes": [{"name": "n0"}], "namespaces": [{"name": "x"}], "pods": [pod]}
    lab = Lab(check_topology(data, "test", "t"), short)
    try:
        lab.up("userspace", controller=False)
        (switch,) = process.find(lab.folder, "n0/ovs-vswitchd")
        with LostFrames({"n0": lab.nodes["n0"].netns}) as lost:
            assert not lost.unknown
            os.kill(switch.pid, signal.SIGSTOP)
            netns.in_thread(lambda: _send(lab.netns_folder / lab.endpoints["x/a"].netns))
            os.kill(switch.pid, signal.SIGCONT)
        assert lost.total()["n0"]
    finally:
        lab.down()
        shutil.rmtree(short, ignore_errors=True)


def _send(pod: Path) -> None:
    """More than a packet socket has room for."""
    with netns.inside(pod), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((POD_INTERFACE, 0))
        for _ in range(20_000):
            sender.send(b"\xff" * 12 + b"\x08\x00" + b"?" * 500)
