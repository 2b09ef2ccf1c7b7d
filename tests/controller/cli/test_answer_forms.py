"""What commands print of a running controller beside a real switch has the published form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.cli import main
from flows.interpret.frame_encoder import encode
from tests.helpers.controller.one_switch import Run, run_beside_one_switch, syn
from tests.helpers.json_forms import fits
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch
Captured = pytest.CaptureFixture[str]
AUDITED = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {headgate.io/audit: all}}
"""
ASKED = {
    "status": ["status"],
    "wait": ["status", "--wait"],
    "pod": ["pod", "shop/db"],
    "policy": ["policy", "shop/only-web"],
    "explain": ["explain", "shop/web", "shop/db", "-p", "80", "--live"],
    "verify": ["verify"],
    "drops": ["drops"],
    "flows": ["flows"],
    "flows-stages": ["flows", "--stages"],
    "matrix": ["matrix"],
    "matrix-exposure": ["matrix", "--exposure"],
}


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with run_beside_one_switch() as started:
        yield started


def told(run: Run, capsys: Captured, *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["--server", run.url, *arguments, "-o", "json"]) == code
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_has_its_form(name: str, run: Run, capsys: Captured) -> None:
    assert fits(name, told(run, capsys, *ASKED[name]))


def test_an_answer_about_what_is_denied_or_would_change_has_its_form(run: Run, capsys: Captured) -> None:
    assert not fits("explain", told(run, capsys, "explain", "shop/other", "shop/db", "-p", "80", code=1))["allowed"]
    removed = told(run, capsys, "plan", "--delete", str(run.folder / "all.yaml"), code=1)
    assert fits("plan", removed)["objects"]


def test_lines_have_their_form(run: Run, capsys: Captured) -> None:
    for line in told(run, capsys, "flows", "--watch", "--every", "0.2", "--rounds", "2").splitlines():
        fits("flows-watch", line)
    (run.folder / "audited.yaml").write_text(AUDITED)
    told(run, capsys, "status", "--wait")
    bridge = run.ovs.bridges["br-int"]
    bridge.inject("p-other", encode(syn(3, 20_000)))
    bridge.inject("p-web", encode(syn(1, 20_000)))
    bridge.settle()
    events = until(lambda: told(run, capsys, "audit").splitlines(), "events")
    assert {fits("audit", line)["verdict"] for line in events} <= {"denied", "allowed"}
    assert fits("drops", told(run, capsys, "drops"))["events"]
