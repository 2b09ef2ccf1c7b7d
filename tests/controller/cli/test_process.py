"""The process around the controller under both hubs: it serves HTTP, answers signals, and says why when it cannot
start.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.base.hub import HUBS
from controller.http.server import PROBE_PATHS
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.process


class Process:
    """One `headgate run` with a made-up core; `port` is where it serves HTTP."""

    def __init__(self, behaviour: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.controller.run_with_fake_core", behaviour, *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.port = 0

    def wait_until_up(self) -> Process:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r"""http(?:=|": ")[^\s"]*:(\d+)""", line)
            if found:
                self.port = int(found.group(1))
                return self
        raise RuntimeError("it ended before it served")

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        return self.result()

    def result(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def started(tmp_path: Path) -> Iterator[type[Process]]:
    """Starts processes with a folder and an OVSDB to please the schema, and ends them after the test."""
    processes: list[Process] = []

    class Started(Process):
        def __init__(self, behaviour: str, *arguments: str) -> None:
            given = ("--manifests", str(tmp_path), "--ovsdb", "unix:/nowhere", "--http", "127.0.0.1:0")
            super().__init__(behaviour, *given, *arguments)
            processes.append(self)

    yield Started
    for one in processes:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_in_order(started: type[Process], hub: str, number: int) -> None:
    process = started("fine", "--hub", hub).wait_until_up()
    assert process.get("/healthz") == (200, b'{"status": "ok"}\n')
    assert json.loads(process.get("/status")[1])["version"] == "1.2.3"
    assert process.get("/wait?timeout=0.1")[0] == 200
    assert f'hub="{hub}"'.encode() in process.get("/metrics")[1]
    assert process.end(number)[:2] == (0, "stopped\n")


@pytest.mark.parametrize("hub", HUBS)
def test_silent_and_rude_clients_keep_nobody_else_waiting(started: type[Process], hub: str) -> None:
    process = started("fine", "--hub", hub).wait_until_up()
    silent = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(40)]
    for text in (
        b"\xff\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.0\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", process.port)) as rude:
            rude.sendall(text)
            rude.settimeout(30)
            try:
                while rude.recv(4096):
                    continue
            except ConnectionError:
                pass
    assert process.get("/healthz")[0] == 200
    assert process.end()[0] == 0
    for one in silent:
        one.close()


@pytest.mark.parametrize("hub", HUBS)
def test_silent_connections_give_way_to_those_that_ask(started: type[Process], hub: str) -> None:
    process = started("fine", "--hub", hub).wait_until_up()
    held: list[socket.socket] = []
    for _ in range(5):
        for _ in range(60):
            one = socket.create_connection(("127.0.0.1", process.port))
            one.sendall(b"G")
            held.append(one)
        for page in ("/healthz", "/readyz", "/status"):
            assert process.get(page)[0] == 200
    time.sleep(0.5)
    descriptors = len(os.listdir(f"/proc/{process.process.pid}/fd"))
    assert descriptors < 120, "connections that say nothing are kept in bounded number"
    for one in held:
        one.close()
    assert process.end()[0] == 0


@pytest.mark.parametrize("hub", HUBS)
def test_a_request_that_does_not_end_is_cut_off_at_a_bound(started: type[Process], hub: str) -> None:
    process = started("fine", "--hub", hub).wait_until_up()
    with socket.create_connection(("127.0.0.1", process.port), timeout=30) as one:
        one.sendall(b"GET /healthz HTTP/1.0\r\n")
        sent = 0
        try:
            while sent < 10 << 20:
                sent += one.send(b"X-Much: " + b"x" * 8000 + b"\r\n")
            answer = one.recv(4096)
        except ConnectionError:
            answer = b""
    assert b" 200 " not in answer
    assert process.get("/healthz")[0] == 200


@pytest.mark.parametrize("hub", HUBS)
def test_answers_that_nobody_takes_leave_the_vital_pages_theirs(started: type[Process], hub: str) -> None:
    process = started("fine", "--hub", hub).wait_until_up()
    held = []
    for _ in range(120):
        one = socket.create_connection(("127.0.0.1", process.port))
        one.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        held.append(one)
    for page in PROBE_PATHS * 5:
        assert process.get(page)[0] == 200
    for one in held:
        one.close()


def test_a_signal_during_the_start_is_not_lost(started: type[Process]) -> None:
    code, out, _ = started("early").result()
    assert (code, out) == (0, "stopped\n")


def test_a_stop_that_hangs_does_not_hold_up_the_end(started: type[Process]) -> None:
    process = started("hangs").wait_until_up()
    code, _, err = process.end()
    assert code == 1
    assert "Timeout" in err


@pytest.mark.parametrize("style", ["human", "json"])
@pytest.mark.parametrize("hub", HUBS)
def test_a_log_that_nobody_reads_stops_nothing(started: type[Process], hub: str, style: str) -> None:
    process = started("talks", "--hub", hub, "--log-format", style).wait_until_up()
    for _ in range(20):
        assert process.get("/healthz")[0] == 200
        time.sleep(0.1)
    began = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(30) == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("hub", HUBS)
def test_a_log_that_is_read_again_says_how_much_was_dropped(started: type[Process], hub: str) -> None:
    process = started("talks", "--hub", hub, "--log-format", "json").wait_until_up()
    assert process.get("/healthz")[0] == 200
    time.sleep(4)  # ten thousand lines stand in the queue by then
    assert process.process.stderr is not None
    dropped = 0
    for line in process.process.stderr:
        if line.startswith("{") and (dropped := json.loads(line).get("dropped", 0)):
            break
    assert dropped > 0
    process.process.kill()


@pytest.mark.parametrize("hub", HUBS)
def test_a_hub_that_is_busy_for_ever_ends_in_time(started: type[Process], hub: str) -> None:
    process = started("spins", "--hub", hub).wait_until_up()
    time.sleep(2)
    began = time.monotonic()
    code, _, _ = process.end()
    assert time.monotonic() - began < 5.5
    assert code in (1, 0) if hub == "native" else code == 1


def test_it_ends_in_time_also_when_nobody_reads_what_its_threads_do(started: type[Process]) -> None:
    process = started("spins").wait_until_up()
    assert process.process.stderr is not None
    descriptor = os.open(f"/proc/{process.process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while os.write(descriptor, b"x" * 4096):
            continue
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
    time.sleep(2)
    began = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(30) == -signal.SIGALRM
    assert time.monotonic() - began < 5.5


def test_a_start_that_fails_is_one_line(started: type[Process]) -> None:
    code, out, err = started("refuses").result()
    assert (code, out) == (1, "")
    assert err == "headgate: cannot listen for OpenFlow on 0.0.0.0:6653: it is in use; choose another\n"


@pytest.mark.parametrize("hub", HUBS)
def test_an_http_port_in_use_is_one_line(started: type[Process], hub: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, out, err = started("fine", "--hub", hub, "--http", address).result()
    assert (code, out) == (1, "")
    assert err.startswith(f"headgate: cannot serve HTTP on {address}: Address already in use; choose another")
    assert err.count("\n") == 1


def test_a_folder_that_is_not_there_is_wrong_usage(started: type[Process], tmp_path: Path) -> None:
    code, _, err = started("fine", "--manifests", str(tmp_path / "absent")).result()
    assert code == 2
    assert err.startswith(f"headgate: the manifest folder {tmp_path / 'absent'} does not exist; create it, or")
    assert err.count("\n") == 1


def test_json_logs_are_json(started: type[Process]) -> None:
    process = started("fine", "--log-format", "json")
    assert process.process.stderr is not None
    first = json.loads(process.process.stderr.readline())
    assert (first["message"], first["level"]) == ("headgate runs", "info")
    assert process.end()[0] == 0


def test_plain_tcp_is_warned_of_where_others_could_reach_it(started: type[Process]) -> None:
    given = ("--ovsdb", "tcp:127.0.0.1", "--ovsdb", "tcp:192.0.2.1", "--openflow-listen", "tcp:0.0.0.0:6653")
    process = started("fine", *given)
    assert process.process.stderr is not None
    warned = []
    for line in process.process.stderr:
        if "plain TCP is reachable" in line:
            warned.append(line.rpartition("address=")[2].split()[0])
        if "192.0.2.1" in line:
            break
    assert warned == ["tcp:0.0.0.0:6653", "tcp:192.0.2.1:6640"]
