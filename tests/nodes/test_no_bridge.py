"""A real process reports a missing bridge everywhere: log, status, readiness and exit code."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from controller.cli import main
from tests.helpers.controller.claiming_nodes import bridge, call, name, plain
from tests.helpers.controller.headgate_process import Headgate
from tests.helpers.ovs.node import Node
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch
SAYS = "there is no bridge nope; make it there, or say with --bridge which one is Headgate's"


def ready(run: Headgate) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{run.url}/readyz", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("called", [True, False], ids=["--ovsdb", "--ovsdb-listen"])
def test_a_bridge_that_is_not_there(called: bool, capsys: pytest.CaptureFixture[str]) -> None:
    node = Node()
    try:
        name(node, "n1", "n1")
        bridge(node, 0x1001)
        remote = node.remote if called else "manager:n1"
        arguments = ("--bridge", "nope", *(("--ovsdb", node.remote) if called else ()))
        with plain(arguments=arguments, listen=not called) as run:
            if not called:
                call(node, run, controller=False)
            until(lambda: SAYS in run.log, "the log line")
            (line,) = (line for line in run.log.splitlines() if SAYS in line)
            assert "warning" in line.lower() and remote in line
            (problem,) = run.status()["problems"]
            assert problem["where"] == remote and SAYS in problem["reason"]
            if called:
                until(lambda: f"{remote}: {SAYS}" in ready(run)[1], "its reason at /readyz")
                assert ready(run)[0] == 503
            capsys.readouterr()
            assert main(["--server", run.url, "status", "--wait", "--timeout", "2"]) == 1
            out = capsys.readouterr()
            assert SAYS in out.out + out.err and "0 of 0" not in out.out
            assert main(["--server", run.url, "status", "--wait", "--timeout", "2", "-o", "json"]) == 1
            assert SAYS in json.dumps(json.loads(capsys.readouterr().out))
            # Made afterwards it is served, and nothing is left of it all.
            node.vsctl("add-br", "nope", "--", "set", "Bridge", "nope", "datapath_type=dummy")
            assert main(["--server", run.url, "status", "--wait", "--timeout", "60"]) == 0
            assert ready(run)[0] == 200 and not run.status()["problems"]
    finally:
        node.stop()
