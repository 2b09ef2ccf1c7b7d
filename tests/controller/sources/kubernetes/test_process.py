"""`headgate run --kubeconfig` as a process: it gets ready, says how old its world is, and ends when it is told to."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.ports import free_ports
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.tcp_proxy import Proxy
from tests.helpers.waiting import until

pytestmark = pytest.mark.process


Start = Callable[..., tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the controller with a switch that is not there."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str) -> tuple[subprocess.Popen[bytes], str]:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "controller", "run", "--ovsdb", f"unix:{tmp_path}/none"]
        command += ["--openflow-listen", "tcp:127.0.0.1:0", "--http", f"127.0.0.1:{port}", *arguments]
        with (tmp_path / "log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return started[-1], f"http://127.0.0.1:{port}"

    yield run
    for process in started:
        process.kill()
        process.wait()


def source(url: str) -> dict[str, Any]:
    """What /status says of the source; {} while nobody answers."""
    try:
        with urllib.request.urlopen(f"{url}/status", timeout=10) as answer:
            (one,) = json.load(answer)["sources"]
            return dict(one)
    except urllib.error.URLError:
        return {}


def ages(url: str) -> list[bytes]:
    """The ages of sources in /metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        return re.findall(rb"^headgate_source_age_seconds\{.*\} (.*)$", answer.read(), re.MULTILINE)


@pytest.mark.parametrize("hub", ["eventlet", "native"])
def test_run(api: ApiServer, start: Start, tmp_path: Path, hub: str) -> None:
    log = tmp_path / "log"
    proxy = Proxy(api.port)
    try:
        process, url = start("--kubeconfig", str(api.credentials(tmp_path, proxy.port)), "--hub", hub)
        until(lambda: source(url).get("synced") is True, log.read_text)
        assert source(url)["kind"] == "kubernetes"
        assert source(url)["reason"] == ""
        with proxy.away():
            until(lambda: source(url)["age"] > 1 and "stay in force" in source(url)["reason"], log.read_text)
            until(lambda: ages(url), log.read_text)  # gauges are set once a second
        until(lambda: source(url)["reason"] == "", log.read_text)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        proxy.close()
