"""Measures how connection peers that flood delay an honest switch: changed manifest → commit reply, without and with
sessions that send echo requests as fast as they can.

Both are measured in turns in one run, so that other load on the machine affects both.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import struct
import threading
import time

from bench.result import Result, quantile
from bench.run_cost import changing

FLOODING_PEERS = 8
FLOOD_ROUNDS = 4
CHANGES_PER_ROUND = 12  # without and with the flood each
_HEADER = struct.Struct("!BBHI")
_ECHOES = _HEADER.pack(5, 2, 8, 7) * 8000
_PORTS = struct.pack("!HHI", 13, 0, 0)
_FEATURES = struct.Struct("!QIBB2xII")


def measure_flood(scale: float) -> list[Result]:
    """Measure; the scale has no effect."""
    with changing() as (address, change):
        quiet: list[float] = []
        flooded: list[float] = []
        for _ in range(FLOOD_ROUNDS):
            quiet += [change() for _ in range(CHANGES_PER_ROUND)]
            flood = multiprocessing.get_context("spawn").Process(target=_flood, args=(address,), daemon=True)
            flood.start()
            try:
                time.sleep(0.5)  # until the sessions are up
                flooded += [change() for _ in range(CHANGES_PER_ROUND)]
            finally:
                flood.kill()
                flood.join()
            time.sleep(1.0)
    name = f"manifest change → commit reply, beside {FLOODING_PEERS} sessions that flood"
    return [
        Result(f"{name}, {what}", 1e3 * quantile(flooded, part), "ms", against="quiet, in the same run",
               reference=1e3 * quantile(quiet, part))
        for what, part in (("p50", 0.5), ("p90", 0.9))
    ]  # fmt: skip


def _flood(address: tuple[str, int]) -> None:
    """The flooding peers, in a process of low priority, so that the measured one gets the CPU."""
    os.nice(10)
    for number in range(FLOODING_PEERS):
        threading.Thread(target=_peer, args=(address, 0x9000 + number), daemon=True).start()
    threading.Event().wait()


def _peer(address: tuple[str, int], dpid: int) -> None:
    hello, features = _HEADER.pack(5, 0, 8, 1), _FEATURES.pack(dpid, 0, 254, 0, 0, 0)
    while True:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=10) as one:
            one.settimeout(None)
            one.sendall(hello + _HEADER.pack(5, 6, 32, 2) + features + _HEADER.pack(5, 19, 16, 3) + _PORTS)
            threading.Thread(target=_drain, args=(one,), daemon=True).start()
            while True:
                one.sendall(_ECHOES)
        time.sleep(0.05)


def _drain(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while one.recv(1 << 18):
            continue
