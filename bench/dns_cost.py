"""Measures how long `headgate run` holds DNS answers: packet-in → packet-out, at 2,000 answers a second to pods of one
switch; for addresses that are new each time, for known ones, and for new ones beside as many forged answers.

The switch is a process that answers every bundle at once, so this is the controller's share of the delay. It runs with
an OVSDB of its own, whose rows say what a switch would.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.result import Result, quantile
from bench.run_cost import free_port

PODS = 20
RATE = 2000  # answers a second
SECONDS = 10.0
TICK = 0.005
LOST_AFTER = 3.0
SERVER, SERVER_MAC = "10.0.9.53", bytes.fromhex("020000000953")
_HEADER = struct.Struct("!BBHI")
_PACKET_IN = struct.Struct("!IHBBQHH")
_COOKIE = 0x4847 << 48 | 12 << 40


def measure_dns(scale: float) -> list[Result]:
    """Measure for ten seconds each at the full size, for one at a tenth of it."""
    found = []
    with controller() as port:
        results = multiprocessing.get_context("spawn").Queue()
        seconds = max(1.0, SECONDS * scale)
        switch = multiprocessing.get_context("spawn").Process(target=_switch, args=(port, seconds, results))
        switch.start()
        try:
            for what in ("new addresses", "known addresses", "new addresses, and as many forged answers"):
                delays, lost = results.get(timeout=120)
                name = f"DNS answer held, {RATE:,} a second, {what}"
                more: dict[str, float | str] = {
                    "p50 ms": 1e3 * quantile(delays, 0.5),
                    "lost": float(lost),
                    "answers": float(len(delays)),
                }
                found.append(Result(f"{name}, p99", 1e3 * quantile(delays, 0.99), "ms", bar=20.0, more=more))
        finally:
            switch.terminate()
            switch.join()
    return found


# -- the controller --------------------------------------------------------------------------------------------------


@contextmanager
def controller() -> Iterator[int]:
    """A `headgate run` with a policy of names and one bridge; gives its OpenFlow port."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hgb-")))
        remote = _database(stack, folder)
        manifests = folder / "manifests"
        manifests.mkdir()
        (manifests / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects()}))
        port, http = free_port(), free_port()
        options = ("--manifests", str(manifests), "--ovsdb", remote, "--openflow-listen", f"tcp:127.0.0.1:{port}",
                   "--http", f"127.0.0.1:{http}", "--dns-server", SERVER, "--log-level", "error")  # fmt: skip
        run = subprocess.Popen((sys.executable, "-m", "controller", "run", *options), stderr=subprocess.DEVNULL)
        stack.callback(run.wait)
        stack.callback(run.terminate)
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{http}/healthz", timeout=1):
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield port


def _database(stack: ExitStack, folder: Path) -> str:
    """An OVSDB server with a bridge of PODS ports; gives its address."""
    place, remote = folder / "db", f"unix:{folder}/db.sock"
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    subprocess.run(("ovsdb-tool", "create", str(place), schema), check=True)
    server = subprocess.Popen(
        ("ovsdb-server", str(place), f"--remote=p{remote}", f"--unixctl={folder}/ctl"), stderr=subprocess.DEVNULL
    )
    stack.callback(server.wait)
    stack.callback(server.terminate)
    while not Path(f"{folder}/db.sock").exists():
        time.sleep(0.02)
    bridge = ("datapath_type=netdev", 'datapath_id="0000000000000001"')
    steps = ["--", "add-br", "br-int", "--", "set", "bridge", "br-int", *bridge]
    steps += ["--", "set", "open_vswitch", ".", "external_ids:hostname=n1"]
    for number in range(1, PODS + 1):
        name = f"p{number}"
        ids = (f"external_ids:iface-id=x/{name}", f'external_ids:attached-mac="{_mac(number).hex(":")}"')
        steps += ["--", "add-port", "br-int", name, "--", "set", "interface", name, f"ofport={number}", *ids]
    subprocess.run(("ovs-vsctl", f"--db={remote}", "--no-wait", "init", *steps), check=True)
    return remote


def _objects() -> list[dict[str, Any]]:
    spec = {
        "tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
        "egress": [{"action": "Accept", "to": [{"domainNames": ["*.example.com"]}]}],
    }  # fmt: skip
    policy = {"apiVersion": "policy.networking.k8s.io/v1beta1", "kind": "ClusterNetworkPolicy",
              "metadata": {"name": "names"}, "spec": spec}  # fmt: skip
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "x", "name": f"p{number}"},
         "spec": {"nodeName": "n1"}, "status": {"podIPs": [{"ip": f"10.0.0.{number}"}]}}
        for number in range(1, PODS + 1)
    ]  # fmt: skip
    return [node, policy, *pods]


# -- the switch ------------------------------------------------------------------------------------------------------


def _switch(port: int, seconds: float, results: Any) -> None:
    """A switch that hands over queries and answers, and notes when they come back."""
    one = socket.create_connection(("127.0.0.1", port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sending, ready = threading.Lock(), threading.Event()
    sent: dict[tuple[int, int], float] = {}  # by pod and message id
    delays: list[float] = []

    def send(data: bytes) -> None:
        with sending:
            one.sendall(data)

    send(_HEADER.pack(5, 0, 8, 1) + _message(6, struct.pack("!QIBB2xII", 1, 0, 254, 0, 0, 0), 2))
    send(_message(19, struct.pack("!HH4x", 13, 0), 3))
    threading.Thread(target=_read, args=(one, send, sent, delays, ready), daemon=True).start()
    ready.wait(60)
    time.sleep(2)
    for names, forged in ((None, False), (1, False), (None, True)):
        delays.clear()
        count = _play(send, sent, seconds, names, forged)
        deadline = time.monotonic() + LOST_AFTER
        while sent and time.monotonic() < deadline:
            time.sleep(0.01)
        results.put((list(delays), count - len(delays)))
        sent.clear()
    time.sleep(60)


def _play(
    send: Callable[[bytes], None], sent: dict[tuple[int, int], float], seconds: float, names: int | None, forged: bool
) -> int:
    """Hand over a query and its answer for each of the pods in turn, at the rate. Returns how many answers."""
    began, count, base = time.monotonic(), 0, os.urandom(2)
    while (now := time.monotonic()) - began < seconds:
        due = int((now - began) * RATE)
        while count < due:
            pod, number = count % PODS + 1, count // PODS % 65536
            label = b"known" if names else b"n%d-%s" % (count, base.hex().encode())
            address = bytes((192, 0, 2, 7)) if names else struct.pack("!I", 0x2C000000 + count)
            send(_handed(pod, _dns(number, label), query=True))
            sent[pod, number] = time.monotonic()
            send(_handed(pod, _dns(number, label, address)))
            if forged:
                send(_handed(pod, _dns(number ^ 0x8000, b"forged", bytes((203, 0, 113, 9)))))
            count += 1
        time.sleep(TICK)
    return count


def _read(
    one: socket.socket,
    send: Callable[[bytes], None],
    sent: dict[tuple[int, int], float],
    delays: list[float],
    ready: threading.Event,
) -> None:
    """Answer the controller, and take packet-outs."""
    buffer = bytearray()
    while data := one.recv(1 << 18):
        buffer += data
        offset = 0
        while len(buffer) - offset >= 8:
            _, kind, length, xid = _HEADER.unpack_from(buffer, offset)
            if len(buffer) - offset < length:
                break
            whole = bytes(buffer[offset : offset + length])
            offset += length
            if kind == 13:
                frame = whole[24 + struct.unpack_from("!H", whole, 16)[0] :]
                when = sent.pop((frame[33], struct.unpack_from("!H", frame, 42)[0]), None)
                if when is not None:
                    delays.append(time.monotonic() - when)
            elif kind == 2:
                send(_message(3, whole[8:], xid))
            elif kind == 18:
                _multipart(send, whole, xid)
            elif kind == 20:
                send(_message(21, b"", xid))
            elif kind == 33:
                bundle, what, flags = struct.unpack("!IHH", whole[8:16])
                send(_message(33, struct.pack("!IHH", bundle, what + 1, flags), xid))
                ready.set()
        del buffer[:offset]


def _multipart(send: Callable[[bytes], None], whole: bytes, xid: int) -> None:
    (kind,) = struct.unpack_from("!H", whole, 8)
    body = struct.pack("!IIIBB2x", 1000, 0xF, 0xF, 1, 1) if kind == 11 else b""
    send(_message(19, struct.pack("!HH4x", kind, 0) + body, xid))


def _message(kind: int, body: bytes, xid: int = 1) -> bytes:
    return _HEADER.pack(5, kind, _HEADER.size + len(body), xid) + body


def _handed(pod: int, payload: bytes, query: bool = False) -> bytes:
    """The packet-in of a pod's flow in table `answers`."""
    server, own = socket.inet_aton(SERVER), bytes((10, 0, 0, pod))
    ends, ports = ((own, server), (40000, 53)) if query else ((server, own), (53, 40000))
    udp = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, *ends) + udp
    frame = _mac(pod) + SERVER_MAC + b"\x08\x00" + ip
    match = struct.pack("!II", 0x80000004, 99)
    head = _PACKET_IN.pack(0xFFFFFFFF, len(frame), 1, 81, _COOKIE | pod, 1, 4 + len(match))
    return _message(10, head + match + bytes(-(4 + len(match)) % 8) + b"\0\0" + frame)


def _dns(number: int, label: bytes, address: bytes = b"") -> bytes:
    """A query for LABEL.example.com, or its answer."""
    name = bytes((len(label),)) + label + b"\x07example\x03com\x00"
    head = struct.pack("!HHHHHH", number, 0x8180 if address else 0x0100, 1, bool(address), 0, 0)
    record = b"\xc0\x0c\x00\x01\x00\x01" + struct.pack("!IH", 60, 4) + address if address else b""
    return head + name + b"\x00\x01\x00\x01" + record


def _mac(number: int) -> bytes:
    return bytes.fromhex("0200000000") + bytes((number,))
