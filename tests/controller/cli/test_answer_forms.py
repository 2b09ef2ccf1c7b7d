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
TIER = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: keep-out}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  ingress:
    - {name: none, action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: other}}}}]}
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


def test_a_cluster_network_policy_is_told_by_its_name(run: Run, capsys: Captured) -> None:
    file = run.folder / "tier.yaml"
    file.write_text(TIER)
    told(run, capsys, "status", "--wait")
    found = fits("policy", told(run, capsys, "policy", "keep-out"))
    assert found["policy"]["tier"] == "Admin" and found["policy"]["pods"] == 3
    assert fits("flows", told(run, capsys, "flows", "--policy", "keep-out"))["flows"]
    _, text = (main(["--server", run.url, "explain", "shop/other", "shop/db", "-p", "80"]), capsys.readouterr().out)
    assert "table deny drops it on one: denied by keep-out ingress[0]" in text
    file.unlink()
    told(run, capsys, "status", "--wait")
    _, text = (main(["--server", run.url, "explain", "shop/other", "shop/db", "-p", "80"]), capsys.readouterr().out)
    assert "table deny drops it on one: ingress is isolated by shop/only-web, shop/shut" in text


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


def test_names_that_are_not_there_are_told(run: Run, capsys: Captured) -> None:
    for arguments, code, said in (
        (["audit", "--pod", "shop/wbe"], 0, "there is no pod shop/wbe; did you mean shop/web?"),
        (["drops", "--pod", "shop/wbe"], 0, "there is no pod shop/wbe; did you mean shop/web?"),
        (["pod", "shop/wbe"], 1, "there is no pod shop/wbe; did you mean shop/web?"),
        (["policy", "shop/only-wbe"], 1, "did you mean shop/only-web?"),
        (["flows", "--policy", "shop/only-wbe"], 1, "did you mean shop/only-web?"),
        (["flows", "--pod", "shop/wbe"], 1, "did you mean shop/web?"),
        (["verify", "--node", "two"], 1, "there is no switch of node two; known: one"),
        (["recommend", "--namespace", "shpo"], 2, "there is no namespace shpo; did you mean shop?"),
        (["matrix", "-n", "shpo"], 2, "did you mean shop?"),
    ):
        capsys.readouterr()
        assert (main(["--server", run.url, *arguments]), arguments) == (code, arguments)
        assert said in capsys.readouterr().err, arguments


def test_addresses_of_a_log_are_a_question(run: Run, capsys: Captured) -> None:
    found = fits("explain", told(run, capsys, "explain", "10.0.0.1:49152", "10.0.0.2:80"))
    assert found["connections"][0]["source"] == "pod shop/web" and found["connections"][0]["port"] == 80


def test_a_sample_is_all_where_there_are_fewer(run: Run, capsys: Captured) -> None:
    sampled, every = (fits("verify", told(run, capsys, "verify", *more)) for more in ([], ["--everything"]))
    assert sampled["complete"] and sampled["asked"] == sampled["possible"] == every["asked"] < 500
