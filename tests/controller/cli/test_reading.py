"""The commands' options: which list, which node, which flows; and watching."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest

from controller.cli import main
from controller.cli.flow_lines import flow_rates
from controller.cli.flows import show_flows
from controller.config.addresses import HostPort
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.metrics.registry import Metrics
from controller.status.model import FlowsAnswer, FlowView, ProblemView
from tests.helpers.controller.fake_views import CLAUSE, DENY, POD, POLICY, STATUS, FakeViews
from tests.helpers.controller.large_status import large_status
from tests.helpers.paths import ROOT

Captured = pytest.CaptureFixture[str]
# A shell's background jobs ignore SIGINT, and so would this process where pytest is one.
HEEDING = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('controller', run_name='__main__')"
)


@pytest.fixture
def views() -> FakeViews:
    return FakeViews()


@pytest.fixture
def url(views: FakeViews) -> Iterator[str]:
    server = HttpServer(HostPort("127.0.0.1", 0), Application(views, Metrics("1", "native").registry, loopback=True))
    server.start()
    yield f"http://{server.address}"
    server.stop()


def told(url: str, capsys: Captured, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["--server", url, *arguments]) == 0
    return capsys.readouterr().out


def titles(text: str) -> list[str]:
    known = ("Sources", "Problems", "Switches", "Policies", "Pods")
    return [line for line in text.splitlines() if line in known]


# -- status ----------------------------------------------------------------------------------------------------------


def test_each_list_has_its_option(url: str, capsys: Captured) -> None:
    for option in ("problems", "switches", "policies", "pods"):
        assert titles(told(url, capsys, "status", f"--{option}")) == [option.capitalize()]
    assert titles(told(url, capsys, "status", "--pods", "--policies")) == ["Policies", "Pods"]
    everything = ["Sources", "Problems", "Switches", "Policies", "Pods"]
    assert titles(told(url, capsys, "status", "--all")) == everything


def test_a_list_of_nothing_says_so(views: FakeViews, url: str, capsys: Captured) -> None:
    views.state = replace(
        STATUS, problems=(), policies=(), pods=(), ovsdb=(), switches=(replace(STATUS.switches[0], unbound_ports=()),)
    )
    assert told(url, capsys, "status", "--problems", "--pods") == "Nothing is wrong.\nThere are no pods.\n"


def test_one_node(url: str, capsys: Captured) -> None:
    text = told(url, capsys, "status", "--node", "node-2", "--all")
    assert "node-2" in text and "node-1" not in text and "tenant-a/lost" in text and "tenant-a/backend-1" not in text
    found = json.loads(told(url, capsys, "status", "--node", "node-1", "-o", "json"))
    assert [one["node"] for one in found["switches"]] == ["node-1"] and len(found["pods"]) == 1
    assert main(["--server", url, "status", "--node", "node-9"]) == 1
    assert "there is no node node-9; there are node-1, node-2" in capsys.readouterr().err


def test_what_is_passed_over_and_what_limits_do(views: FakeViews, url: str, capsys: Captured) -> None:
    unlimited = replace(STATUS.switches[0], limits="no meters: pods are not limited here")
    busy = replace(STATUS.pods[0], limited=1234)
    source = replace(STATUS.sources[0], ignored={"Service (v1)": 3, "subfolders": 1})
    views.state = replace(STATUS, sources=(source,), switches=(unlimited,), pods=(busy,), ovsdb=())
    short = told(url, capsys, "status")
    assert "4 passed over" in short and "1 over a limit" in short
    assert "switch node-1 br-int: no meters: pods are not limited here" in short
    lines = [re.split(r"\s{2,}", line) for line in told(url, capsys, "status", "--all", "-o", "wide").splitlines()]
    assert ["manifests", "Service (v1)", "3"] in lines and ["manifests", "subfolders", "1"] in lines
    assert any(line[-2:] == ["1234", "its limits dropped 1,234 packets"] for line in lines)
    # What a pod sends too much of is no fault of Headgate's, and no problem of the operator's.
    assert "backend-1" not in told(url, capsys, "status", "--problems")


def test_what_is_foreign_on_a_node_is_a_problem_of_that_node(views: FakeViews, url: str, capsys: Captured) -> None:
    foreign = [ProblemView(f"{node} (br-int)", "", "", f"a flow that {node} has") for node in ("node-1", "node-2")]
    failed = ProblemView("bridge br-int at tcp:192.0.2.2:6640", "", "", STATUS.switches[1].error)
    views.state = replace(STATUS, problems=(*foreign, failed))
    text = told(url, capsys, "status", "--problems", "--node", "node-1")
    assert "a flow that node-1 has" in text and "a flow that node-2 has" not in text
    # What a switch and a problem say of one thing is told once.
    assert told(url, capsys, "status", "--problems").count(STATUS.switches[1].error) == 1


def test_the_json_of_status_is_that_of_the_page(url: str, capsys: Captured) -> None:
    for arguments in ((), ("--pods",), ("--all",)):
        found = json.loads(told(url, capsys, "status", "-o", "json", *arguments))
        assert found == json.loads(json.dumps(asdict(STATUS)))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["status", "--wait", "--watch"], "exclude each other"),
        (["status", "--node", "x", "--policies"], "does not belong to one node"),
        (["flows", "--table", "nope"], "there are classify"),
        (["flows", "--policy", "a/b/c"], "NAMESPACE/NAME"),
        (["pod", "backend-1"], "NAMESPACE/NAME"),
        (["policy", "a/b/c"], "NAMESPACE/NAME"),
        (["pod"], "NAMESPACE/NAME"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str], hint: str, capsys: Captured) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and hint in said.err


# -- watching --------------------------------------------------------------------------------------------------------


def watching(url: str, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HEEDING, "--server", url, "status", "--watch", *arguments]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, env=environment)


def read_until(handle: int, wanted: bytes, patience: float = 60.0) -> bytes:
    """What comes until `wanted` has come."""
    found = b""
    deadline = time.monotonic() + patience
    while wanted not in found:
        ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, found.decode()
        found += os.read(handle, 65536)
    return found


@pytest.mark.process
def test_watching_in_a_pipe_prints_a_block_when_something_changed(views: FakeViews, url: str) -> None:
    process = watching(url)
    assert process.stdout is not None
    try:
        handle = process.stdout.fileno()
        first = read_until(handle, b"Switches\n")
        assert first.count(b"Headgate 1.2.3") == 1
        # Ages alone are no change.
        views.state = replace(STATUS, uptime=500.0, sources=(replace(STATUS.sources[0], age=9.0),))
        threading.Event().wait(2.5)
        views.state = replace(views.state, policies=STATUS.policies[:1])
        second = read_until(handle, b"Headgate 1.2.3")
        assert b"up 8m 20s: 5 problems" in second and b"\x1b" not in first + second
        process.send_signal(2)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors.strip()) == (130, b"headgate: interrupted")


@pytest.mark.process
def test_watching_on_a_terminal_draws_over_what_was_there(views: FakeViews, url: str) -> None:
    ours, theirs = pty.openpty()
    process = watching(url, stdout=theirs)
    os.close(theirs)
    try:
        assert b"\x1b[2J" in read_until(ours, b"6 problems")
        views.state = replace(STATUS, policies=STATUS.policies[:1])
        assert b"\x1b[2J" in read_until(ours, b"5 problems")
        process.send_signal(2)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
        os.close(ours)
    assert (process.returncode, errors.strip()) == (130, b"headgate: interrupted")


@pytest.mark.process
def test_watching_goes_on_while_the_controller_is_away(views: FakeViews) -> None:
    registry = Metrics("1", "native").registry
    server = HttpServer(HostPort("127.0.0.1", 0), Application(views, registry, loopback=True))
    server.start()
    address = server.address
    process = watching(f"http://{address}", "--pods")
    assert process.stdout is not None
    try:
        handle = process.stdout.fileno()
        read_until(handle, b"tenant-a/lost")
        server.stop()
        assert read_until(handle, b"cannot reach").count(b"cannot reach") == 1
        again = HttpServer(address, Application(views, registry, loopback=True))
        again.start()
        read_until(handle, b"tenant-a/lost")
        again.stop()
    finally:
        process.kill()
        process.communicate()


# -- flows -----------------------------------------------------------------------------------------------------------


def flow(table: int, name: str, kind: str = "pipeline", match: str = "", packets: int = 0) -> FlowView:
    return replace(
        CLAUSE, table=table, table_name=name, kind=kind, match=match, packets=packets, policies=(), rules=(), pods=()
    )


def test_what_decides_comes_first_and_discovery_last(capsys: Captured) -> None:
    show_flows(
        [
            flow(0, "classify", match="arp,in_port=1"), flow(0, "classify", match="ip,in_port=1"), flow(5, "nd_guard"),
            flow(10, "neighbor"), flow(15, "flood"), flow(20, "conntrack"), flow(40, "state"), flow(50, "egress"),
            flow(65, "ingress_default"), flow(80, "output"), flow(20, "conntrack", "foreign", "ip"),
            flow(200, "200", "foreign"),
        ]
    )  # fmt: skip
    found = re.findall(r", table (.*)", capsys.readouterr().out)
    assert found == [
        "20 conntrack: foreign flows", "200 200: foreign flows", "50 egress", "65 ingress_default", "40 state",
        "0 classify", "20 conntrack", "80 output", "0 classify (discovery)", "5 nd_guard (discovery)",
        "10 neighbor (discovery)", "15 flood (discovery)",
    ]  # fmt: skip


def test_stages_come_in_the_order_of_the_pipeline(
    views: FakeViews, url: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [flow(60, "ingress", packets=4), flow(60, "ingress", "foreign", "tcp", 3), flow(0, "classify", packets=9)]
    monkeypatch.setattr(views, "flows", lambda node: FlowsAnswer(there))
    _, _, *rows = told(url, capsys, "flows", "--stages").splitlines()
    assert [re.split(r"  +", row)[:4] for row in rows] == [["0 classify", "1", "-", "9"], ["60 ingress", "2", "1", "7"]]


def test_rates_are_of_flows_that_counted() -> None:
    before = [flow(60, "ingress", match="a", packets=4), flow(60, "ingress", match="b", packets=4)]
    after = [flow(60, "ingress", match="a", packets=4), flow(60, "ingress", match="b", packets=2),
             flow(60, "ingress", match="c", packets=8)]  # fmt: skip
    assert [(one.packets_per_second, one.flow.match) for one in flow_rates(before, after, 2.0)] == [(4, "c"), (1, "b")]


def test_forms_of_flows_exclude_each_other(url: str, capsys: Captured) -> None:
    for wrong in (("--raw", "--watch"), ("--stages", "--raw"), ("--raw", "-o", "json")):
        assert main(["--server", url, "flows", *wrong]) == 2
        assert "exclude each other" in capsys.readouterr().err


def test_flows_are_chosen(views: FakeViews, url: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = flow(60, "ingress", "foreign", "tcp", 3)
    there = [CLAUSE, DENY, foreign]
    monkeypatch.setattr(views, "flows", lambda node: FlowsAnswer(there))

    def kinds(*arguments: str) -> list[str]:
        return [one["kind"] for one in json.loads(told(url, capsys, "flows", "-o", "json", *arguments))["flows"]]

    assert kinds() == ["clause", "deny_ingress", "foreign"]
    assert kinds("--table", "ingress") == kinds("--table", "60") == ["clause", "foreign"]
    assert kinds("--denied") == ["deny_ingress"]
    assert kinds("--nonzero") == ["deny_ingress", "foreign"]
    assert kinds("--foreign") == ["foreign"]
    assert kinds("--table", "200") == []
    assert kinds("--foreign", "--table", "ingress", "--nonzero") == ["foreign"]
    assert "ingress: foreign flows" in told(url, capsys, "flows", "--foreign")


# -- pod and policy --------------------------------------------------------------------------------------------------


def test_a_pod_and_a_policy_as_json(url: str, capsys: Captured) -> None:
    found = json.loads(told(url, capsys, "pod", "tenant-a/backend-1", "-o", "json"))
    assert found == json.loads(json.dumps(asdict(POD)))
    found = json.loads(told(url, capsys, "policy", "tenant-a/pol1", "-o", "json"))
    assert found == json.loads(json.dumps(asdict(POLICY)))


def test_a_pod_and_a_policy_for_people(url: str, capsys: Captured) -> None:
    text = told(url, capsys, "pod", "tenant-a/backend-1")
    assert text.startswith("Pod tenant-a/backend-1: realized\n")
    for line in ("  port        veth-backend-1 on br-int, OpenFlow port 3", "  addresses   10.0.0.3, fd00::3"):
        assert line in text.splitlines()
    assert re.search(r"^ingress +yes +7 +tenant-a/pol1$", text, re.MULTILINE)
    text = told(url, capsys, "policy", "tenant-a/pol1", "-o", "wide")
    assert re.search(
        r"^tenant-a/pol1 ingress\[0\] +7 +518 +80/TCP +tenant-a/frontend-1 \(10.0.0.2\), 192.0.2.0/24$",
        text,
        re.MULTILINE,
    )
    assert "  ingress[1]: it could not be understood" in text.splitlines()


def test_headers_are_alike(views: FakeViews, url: str, capsys: Captured) -> None:
    views.state = large_status(pods=20, policies=5, bridges=3, problems=2)
    commands = (
        ("status", "--all", "-o", "wide"), ("flows", "--node", views.state.switches[0].node, "-o", "wide"),
        ("pod", "tenant-a/backend-1"), ("policy", "tenant-a/pol1"),
    )  # fmt: skip
    known = {"NODE", "BRIDGE", "POD", "POLICY", "PACKETS", "REASON"}
    seen: set[str] = set()
    for command in commands:
        for line in told(url, capsys, *command).splitlines():
            if re.fullmatch(r"[A-Z][A-Z ]+", line):
                seen |= set(re.split(r"\s{2,}", line.strip()))
    assert known <= seen
