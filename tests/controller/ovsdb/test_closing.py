"""Closing leaves no thread and no descriptor behind, whatever the connections are doing."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from controller.ovsdb.service import Ovsdb
from tests.helpers.ovs.node import EventCollector, Node, ovsdb_service
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ovsdb")]


def test_nothing_is_left_behind(node: Node) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        core = EventCollector()
        silent = socket.create_server(("127.0.0.1", 0))
        nowhere = [
            f"tcp:127.0.0.1:{silent.getsockname()[1]}",
            "tcp:192.0.2.1:6640",
            "unix:/nowhere",
            "tcp:no.invalid:1",
        ]
        with silent, ovsdb_service(core, [node.remote, *nowhere], listen="tcp:127.0.0.1:0") as ovsdb:
            address = ovsdb.listen_address
            assert address is not None
            with socket.create_connection(address):
                until(lambda: len(ovsdb.status()) == 6 and ovsdb.status()[0].synced)
                assert len(ovsdb.barrier(10)) == 4
        assert threads() == []
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_closed_before_it_started(core: EventCollector) -> None:
    ovsdb = Ovsdb(["unix:/nowhere"], post=core.post, listen="tcp:127.0.0.1:0")
    ovsdb.close()
    ovsdb.start()
    ovsdb.close()
    assert threads() == []
