"""Measures how floods delay an honest switch: changed manifest → commit reply, without and with sessions that send echo
requests as fast as they can, or clients that ask over HTTP without a pause.

Both are measured in turns in one run, so that other load on the machine affects both.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import multiprocessing
import os
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial

from bench.ports import free_ports
from bench.result import Result, quantile
from bench.run_cost import changing

FLOODING_PEERS = ASKING_CLIENTS = 8
# Each with another number for every request, so that no answer is kept from before.
QUESTIONS = (
    "/explain?source=one/pod-1&destination=one/pod-2&port={}",
    "/verify?count=20000&seed={}",
    "/ui/api/matrix?by=pod&text=pod-1&port={}",
    "/flows",
    "/status",
    "/metrics",
    "/pods/one/pod-1",
    "/cluster",
)
FLOOD_ROUNDS = 4
CHANGES_PER_ROUND = 12  # without and with the flood each
_HEADER = struct.Struct("!BBHI")
_ECHOES = _HEADER.pack(5, 2, 8, 7) * 8000
_PORTS = struct.pack("!HHI", 13, 0, 0)
_FEATURES = struct.Struct("!QIBB2xII")


def measure_flood(scale: float) -> list[Result]:
    """Measure echoes; the scale has no effect."""
    return _beside(_flood, f"{FLOODING_PEERS} sessions that flood")


def measure_http_flood(scale: float) -> list[Result]:
    """Measure each kind of question, and all kinds together; the scale has no effect."""
    (port,) = free_ports(1)
    found = []
    for name, paths in (*((path.partition("?")[0], (path,)) for path in QUESTIONS), ("all kinds", QUESTIONS)):
        found += _beside(partial(_ask, port, paths), f"{ASKING_CLIENTS} clients that ask {name}", f"127.0.0.1:{port}")
    return found


def _beside(flood: Callable[..., None], what: str, http: str = "127.0.0.1:1") -> list[Result]:
    with changing(http) as (address, change):
        quiet: list[float] = []
        flooded: list[float] = []
        for _ in range(FLOOD_ROUNDS):
            quiet += [change() for _ in range(CHANGES_PER_ROUND)]
            process = multiprocessing.get_context("spawn").Process(target=flood, args=(address,), daemon=True)
            process.start()
            try:
                time.sleep(1.0)  # until it is under way
                flooded += [change() for _ in range(CHANGES_PER_ROUND)]
            finally:
                process.kill()
                process.join()
            time.sleep(1.0)
    name = f"manifest change → commit reply, beside {what}"
    return [
        Result(f"{name}, {part:.0%}", 1e3 * quantile(flooded, part), "ms", against="quiet, in the same run",
               reference=1e3 * quantile(quiet, part))
        for part in (0.5, 0.9)
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


def _ask(port: int, paths: tuple[str, ...], _: tuple[str, int]) -> None:
    """The asking clients, each with another question first, in a process of low priority."""
    os.nice(10)
    for number in range(ASKING_CLIENTS):
        asked = itertools.islice(itertools.cycle(paths), number, None)
        threading.Thread(target=_client, args=(port, asked), daemon=True).start()
    threading.Event().wait()


def _client(port: int, paths: Iterator[str]) -> None:
    for number, path in enumerate(paths, 1):
        url = f"http://127.0.0.1:{port}{path.format(number)}"
        with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(url, timeout=60) as one:
            while one.read(1 << 18):
                continue


def _drain(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while one.recv(1 << 18):
            continue
