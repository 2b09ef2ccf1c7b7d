"""Measures the running controller: changed manifest → commit replies of three switches; and, with world A, the memory
of `headgate run` and how long echo requests wait while the world is read.

The first runs in this process, where the time of a commit reply is known exactly; the second in a process of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
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
from typing import TYPE_CHECKING, Any

from bench.openvswitch import PrivateSwitch
from bench.ports import free_ports
from bench.result import Result, quantile
from bench.worlds import (
    ApiObject,
    label_selector,
    namespace_manifest,
    node_manifest,
    pod_manifest,
    policy_manifest,
    world,
)

if TYPE_CHECKING:
    from controller.runtime.controller import Controller

CHANGED_SWITCHES = 3
CHANGED_PODS = 1000
RUN_PATIENCE_SECONDS = 120.0
_HEADER = struct.Struct("!BBHI")
_HELLO, _ECHO_REQUEST, _ECHO_REPLY, _FEATURES_REQUEST, _FEATURES_REPLY, _MULTIPART, _MULTIPART_REPLY = (
    0,
    2,
    3,
    5,
    6,
    18,
    19,
)


def measure_run(scale: float) -> list[Result]:
    """Measure both. The first has 1,000 pods at any scale."""
    return [*_with_world(scale), *_changes()]


# -- a manifest changes ------------------------------------------------------------------------------------------------


def _changes() -> list[Result]:
    with changing() as (_, change):
        times = [change() for _ in range(60)]
    milliseconds = [1e3 * seconds for seconds in times[10:]]
    more: dict[str, float | str] = {
        "switches": CHANGED_SWITCHES,
        "pods": CHANGED_PODS,
    }
    name = "manifest change → commit reply on every switch"
    return [
        Result(f"{name}, p50", quantile(milliseconds, 0.5), "ms", 25, 12, more=more),
        Result(f"{name}, p99", quantile(milliseconds, 0.99), "ms", 60, 30, more=more),
    ]


@contextmanager
def changing(http: str = "127.0.0.1:1") -> Iterator[tuple[tuple[str, int], Callable[[], float]]]:
    """Run a controller in this process with its switches. Yields its OpenFlow address, and a function that changes a
    policy and returns the seconds until all switches have committed."""
    from controller.base.hub import install

    install(os.environ.get("OSKEN_HUB_TYPE", "eventlet"))
    from controller.config.schema import RunConfig
    from controller.runtime.controller import Controller

    pods = [
        pod_manifest("one", f"pod-{n}", n + 1, CHANGED_SWITCHES, {"app": f"app-{n % 10}"}) for n in range(CHANGED_PODS)
    ]
    with ExitStack() as stack:
        switches = [stack.enter_context(PrivateSwitch()) for _ in range(CHANGED_SWITCHES)]
        for number, switch in enumerate(switches):
            _add_ports(switch, number, [one for one in pods if one["spec"]["nodeName"] == f"node-{number}"])
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hg-bench-")))
        _write(folder / "world.json", [namespace_manifest("one"), *map(node_manifest, range(CHANGED_SWITCHES)), *pods])
        remotes = tuple(switch.remote for switch in switches)
        config = RunConfig.model_validate({"manifests": folder, "ovsdb": remotes, "openflow_listen": "tcp:127.0.0.1:0",
                                        "bridge": ("br0",), "http": http})  # fmt: skip
        core = Controller(config)
        core.start()
        try:
            address = core.openflow.addresses[0]
            for switch in switches:
                switch.vsctl("set-controller", "br0", f"tcp:{address.host}:{address.port}")
            _await_commits(core, 0.0)
            numbers = itertools.count()
            yield (address.host, address.port), lambda: _change(core, folder, next(numbers) % 1000)
        finally:
            core.stop(3.0)


def _add_ports(switch: PrivateSwitch, number: int, pods: list[ApiObject]) -> None:
    command = ["set", "Open_vSwitch", ".", f"external_ids:hostname=node-{number}",
               "--", "set", "Bridge", "br0", f"other_config:datapath-id={number + 1:016x}"]  # fmt: skip
    for ofport, one in enumerate(pods, 1):
        name, identity = f"p{ofport}", f"one/{one['metadata']['name']}"
        command += ["--", "add-port", "br0", name, "--", "set", "Interface", name, "type=dummy",
                    f"ofport_request={ofport}", f"external_ids:iface-id={identity}"]  # fmt: skip
    switch.vsctl(*command)


def _change(core: Controller, folder: Path, number: int) -> float:
    """Change the policy; returns the seconds until all switches have committed."""
    rule = {"from": [{"podSelector": label_selector(app="app-1")}], "ports": [{"port": 1000 + number}]}
    before = time.monotonic()
    _write(
        folder / "policy.json",
        [policy_manifest("one", "p", label_selector(app=f"app-{2 + number % 3}"), ingress=[rule])],
    )
    return _await_commits(core, before) - before


def _await_commits(core: Controller, since: float) -> float:
    """The time.monotonic() of the last switch's commit reply after `since`. Raises TimeoutError."""
    deadline = time.monotonic() + RUN_PATIENCE_SECONDS
    while time.monotonic() < deadline:
        switches = core.reconciler.read(
            lambda reconciler, _: [(s.realized, s.committed_at) for s in reconciler.switches.values()]
        )
        times = [at for realized, at in switches if realized and at is not None and at > since]
        if len(times) == CHANGED_SWITCHES:
            return max(times)
        core.reconciler.wait_for_batch(0.05)
    raise TimeoutError("the switches were not all programmed")


def _write(path: Path, objects: list[ApiObject]) -> None:
    _write_beside(path, objects).rename(path)


def _write_beside(path: Path, objects: list[ApiObject]) -> Path:
    """Write a file that is to be renamed to `path`; until then it is not read."""
    new = path.with_name(f".{path.name}")
    new.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    return new


# -- world A -----------------------------------------------------------------------------------------------------------


def _with_world(scale: float) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="hg-bench-") as name:
        folder = Path(name)
        http, openflow = free_ports(2)
        command = [sys.executable, "-W", "ignore", "-m", "controller", "run", "--manifests", name,
                   "--http", f"127.0.0.1:{http}", "--openflow-listen", f"tcp:127.0.0.1:{openflow}",
                   "--ovsdb-listen", "tcp:127.0.0.1:0"]  # fmt: skip
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        try:
            _await(lambda: _status(http) is not None)
            empty = _resident(process.pid)
            objects = world("A", scale)
            count = sum(one["kind"] == "Pod" for one in objects)
            written = _write_beside(folder / "world.json", objects)
            del objects
            # Only now: writing so much would keep this process, too, from seeing an answer when it comes.
            echo = EchoPeer(openflow)
            before = time.monotonic()
            written.rename(folder / "world.json")
            _await(lambda: _policies(http) >= round(0.75 * count))
            seconds = time.monotonic() - before
            time.sleep(1.0)
            longest = echo.stop()
            megabytes, most = _resident(process.pid), _resident(process.pid, "VmHWM")
        finally:
            process.terminate()
            process.wait(20)
    full = scale == 1
    more: dict[str, float | str] = {"at most, MB": most, "empty, MB": empty, "until it is in the status, s": seconds}
    return [
        Result(
            "headgate run in world A: memory", megabytes, "MB", 700 if full else None, 500 if full else None, more=more
        ),
        Result("headgate run in world A: longest echo", longest * 1e3, "ms", 250, 100, more={"echoes": echo.count}),
    ]


class EchoPeer:
    """A minimal OpenFlow peer that sends an echo request as soon as the last one is answered."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self._longest = 0.0
        self._sent = 0.0
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=RUN_PATIENCE_SECONDS)
        self._ending = False
        self._send(_HELLO)
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Close it; returns the longest time to an answer in seconds, including one that is still missing."""
        self._ending = True
        longest = max(self._longest, time.monotonic() - self._sent if self._sent else 0.0)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()
        return longest

    def _send(self, kind: int, xid: int = 1, body: bytes = b"") -> None:
        self._socket.sendall(_HEADER.pack(5, kind, _HEADER.size + len(body), xid) + body)

    def _request_echo(self) -> None:
        time.sleep(0.01)
        self._sent = time.monotonic()
        self._send(_ECHO_REQUEST, 7)

    def _talk(self) -> None:
        with contextlib.suppress(OSError, struct.error), self._socket.makefile("rb") as messages:
            while not self._ending:
                _, kind, length, xid = _HEADER.unpack(messages.read(_HEADER.size))
                body = messages.read(length - _HEADER.size)
                if kind == _FEATURES_REQUEST:
                    self._send(_FEATURES_REPLY, xid, struct.pack("!QIBB2xII", 77, 0, 254, 0, 0, 0))
                    self._request_echo()
                elif kind == _MULTIPART:
                    self._send(_MULTIPART_REPLY, xid, body[:2] + bytes(6))
                elif kind == _ECHO_REQUEST:
                    self._send(_ECHO_REPLY, xid, body)
                elif kind == _ECHO_REPLY:
                    self.count += 1
                    self._longest = max(self._longest, time.monotonic() - self._sent)
                    self._request_echo()


def _status(port: int) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=RUN_PATIENCE_SECONDS) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def _policies(port: int) -> float:
    found = _status(port) or {}
    return sum(float(value) for name, value in found.items() if name.startswith("headgate_policies"))


def _await(condition: Any) -> None:
    deadline = time.monotonic() + RUN_PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("headgate run did not reach the expected state")
        time.sleep(0.25)


def _resident(pid: int, what: str = "VmRSS") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(what))
