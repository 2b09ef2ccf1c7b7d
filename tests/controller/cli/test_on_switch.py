"""The commands before a real controller and a real switch that real frames have passed."""

from __future__ import annotations

import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.cli import main
from flows.interpret.frame_encoder import encode
from tests.helpers.controller.one_switch import POD, TOKEN, TRIES, Run, run_beside_one_switch, syn
from tests.helpers.ovs.flow_dumps import without_cache_mark
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch

PLANTED = f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: faulty, namespace: shop}}
spec: {{podSelector: {{}}, ingress: [{{ports: [{{protocol: "token={TOKEN}"}}]}}]}}
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with run_beside_one_switch() as started:
        yield started


def told(run: Run, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["--server", run.url, *arguments]) == 0
    return capsys.readouterr().out


def test_a_pod_with_its_hits(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(told(run, capsys, "pod", "shop/db", "-o", "json"))
    assert found["pod"]["port"] == "p-db" and found["bridge"] == "br-int" and found["in_force"] and not found["note"]
    ingress = next(one for one in found["isolation"] if one["direction"] == "ingress")
    assert ingress["policies"] == ["shop/only-web", "shop/shut"]
    assert ingress["denied_packets"] == TRIES + 1
    (rule,) = found["rules"]
    assert rule["rules"] == ["shop/only-web ingress[0]"] and rule["ports"] == ["80/TCP"]
    assert rule["peers"] == [{"address": "10.0.0.1", "pods": ["shop/web"]}]
    assert rule["packets"] == TRIES
    text = told(run, capsys, "pod", "shop/db")
    assert re.search(r"^ingress +yes +4 +shop/only-web, shop/shut$", text, re.MULTILINE)
    assert re.search(r"^shop/only-web ingress\[0\] +3 +80/TCP +shop/web \(10.0.0.1\)$", text, re.MULTILINE)


def test_a_policy_with_its_hits(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(told(run, capsys, "policy", "shop/only-web", "-o", "json"))
    assert [one["pod"] for one in found["subjects"]] == ["shop/db"]
    assert found["rules"][0]["packets"] == TRIES and found["policy"]["realized"]
    assert found["switches"] == [{"node": "one", "bridge": "br-int", "in_force": True, "pods": 1, "reason": ""}]
    found = json.loads(told(run, capsys, "policy", "shop/shut", "-o", "json"))
    assert found["rules"] == [] and found["left_out"] == []


def test_what_is_told_is_what_the_switch_has(run: Run) -> None:
    """Every peer of the rule is a clause on the switch, by ovs-ofctl's own word."""
    peers = {peer["address"] for rule in run.get("/pods/shop/db")["rules"] for peer in rule["peers"]}
    lines = run.ovs.bridges["br-int"].dump()
    dump = "\n".join(line for line in lines if re.search(r"table=(60|ingress),", line))
    assert peers == set(re.findall(r"ct_nw_src=(10\.[\d.]+)", dump))


def test_denied_flows_carry_the_policies(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(run, capsys, "flows", "--denied", "--nonzero")
    assert "ingress isolated by shop/only-web, shop/shut; pod shop/db" in text
    found = json.loads(told(run, capsys, "flows", "--policy", "shop/shut", "-o", "json"))
    assert {one["kind"] for one in found["flows"]} == {"deny_ingress"}
    labels = 'namespace="shop",pod="db",policies="shop/only-web, shop/shut"'
    until(lambda: re.search(rf'denied_packets_total{{direction="ingress",{labels}}} 4\.0', run.metrics()), "the metric")


def test_raw_flows_are_the_lines_of_ovs_ofctl(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    bridge = run.ovs.bridges["br-int"]
    foreign = "table=60,priority=9,in_port=2,tcp,tp_dst=80"
    run.ovs.ofctl("-O", "OpenFlow14", "add-flow", bridge.target, f"{foreign},actions=output:1")
    try:
        raw = told(run, capsys, "flows", "--raw").splitlines()
        text = run.ovs.ofctl("-O", "OpenFlow14", "--names", "--no-stats", "dump-flows", bridge.target)
        marked = told(run, capsys, "flows", "--foreign")
    finally:
        run.ovs.ofctl("-O", "OpenFlow14", "--strict", "del-flows", bridge.target, foreign)
    printed = [line for line in text.splitlines() if line.startswith(" ")]
    assert sorted(raw) == without_cache_mark(printed) and any('in_port="p-db"' in line for line in raw)
    assert "table 60 ingress: foreign flows" in marked and 'in_port="p-db"' in marked


def test_an_object_that_is_not_there_is_code_1(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("pod", "policy"):
        assert main(["--server", run.url, command, "shop/nobody"]) == 1
        said = capsys.readouterr().err
        assert f"there is no {command} shop/nobody" in said and said.count("\n") == 1


def test_the_log_names_the_node(run: Run) -> None:
    lines = [line for line in run.log.read_text().splitlines() if "changing flows" in line]
    assert lines and all("node=one" in line and "dpid=" in line for line in lines)


def test_a_bundle_has_everything_but_secrets(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (run.folder / "faulty.yaml").write_text(PLANTED)
    (run.folder / "kubeconfig.yaml").write_text(
        f"apiVersion: v1\nkind: Config\nusers: [{{user: {{token: {TOKEN}}}}}]\n"
    )
    until(lambda: run.get("/status")["problems"], "a problem with a secret in it")
    path = tmp_path / "bundle.tar.gz"
    assert str(path) in told(run, capsys, "support-bundle", "-o", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as bundle:
        texts = {
            member.name.partition("/")[2]: found.read().decode()
            for member in bundle.getmembers()
            if (found := bundle.extractfile(member))
        }
    assert set(texts) >= {
        "README.txt", "status.json", "status.txt", "flows/one.json", "flows/one.txt", "ovsdb.json", "log.txt",
        "versions.json", "settings.json",
    }  # fmt: skip
    assert "changing flows" in texts["log.txt"] and "node=one" in texts["log.txt"]
    interfaces = {one["name"]: one["external_ids"] for one in json.loads(texts["ovsdb.json"])[0]["interfaces"]}
    assert interfaces["p-db"]["credential"] == "(left out)" and interfaces["p-db"]["iface-id"] == "shop/db"
    assert json.loads(texts["settings.json"])["manifests"] == str(run.folder)
    assert json.loads(texts["versions.json"])["controller"]["python"]
    assert json.loads(texts["status.json"])["pods"] and "Pods" in texts["status.txt"]
    assert "shop/only-web" in texts["flows/one.txt"]
    for name, text in texts.items():
        for part in TOKEN.split("."):
            assert part not in text, name


def explained(run: Run, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["--server", run.url, "explain", *arguments])
    return code, capsys.readouterr().out


def walked(run: Run, capsys: pytest.CaptureFixture[str], source: str) -> Any:
    _, text = explained(run, capsys, source, "shop/db", "-p", "80", "-o", "json")
    return json.loads(text)["connections"][0]["switches"]


def verified(run: Run, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    capsys.readouterr()
    code = main(["--server", run.url, "verify", "--everything", "-o", "json"])
    return code, json.loads(capsys.readouterr().out)


def test_all_connections_are_as_policy_says(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verified(run, capsys)
    assert code == 0 and found["complete"] and not found["differ"]
    assert found["allowed"] and found["denied"] and found["bridges"] == ["one (br-int)"]
    text = told(run, capsys, "verify", "--sample", "10", "--seed", "5")
    assert text.startswith("0 of 10 connections differ") and "repeated by --seed 5" in text


def test_an_allowed_packet_arrives_through_the_flows(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = explained(run, capsys, "shop/web", "shop/db", "-p", "80")
    assert code == 0 and text.startswith("ALLOWED")
    assert "on the switches the first packet arrives at pod shop/db" in text
    walk = walked(run, capsys, "shop/web")
    assert walk["agrees"] and walk["arrived"] == ["pod shop/db"]
    (hit,) = [one for one in walk["hits"] if one["table_name"] == "ingress"]
    assert hit["rules"] == ["shop/only-web ingress[0]"] and hit["packets"] == TRIES and hit["node"] == "one"


def test_a_denied_packet_ends_at_the_isolation(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = explained(run, capsys, "shop/other", "shop/db", "-p", "80")
    assert code == 1 and "on the switches the first packet is not delivered" in text
    walk = walked(run, capsys, "shop/other")
    assert walk["agrees"] and not walk["delivered"]
    (hit,) = [one for one in walk["hits"] if one["table_name"] == "ingress_default"]
    assert hit["kind"] == "deny_ingress" and {"shop/only-web", "shop/shut"} <= set(hit["policies"])
    assert walk["hits"][-1]["table_name"] == "deny"


def test_a_live_packet_ends_where_policy_says(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for source, table in (("shop/web", "output"), ("shop/other", "ingress_default")):
        code, text = explained(run, capsys, source, "shop/db", "-p", "80", "--live", "-o", "json")
        (live,) = [one["live"] for one in json.loads(text)["connections"]]
        (leg,) = live["legs"]
        assert leg["table"] == table and live["agrees"] and code == (0 if live["delivered"] else 1), live


def test_a_foreign_flow_in_the_way_is_a_disagreement(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    bridge = run.ovs.bridges["br-int"]
    run.ovs.ofctl("add-flow", bridge.target, "table=0,priority=65535,in_port=1,actions=drop")
    try:
        code, text = explained(run, capsys, "shop/web", "shop/db", "-p", "80")
        assert code == 4
        assert text.startswith("The switches DISAGREE with policy: policy allows 10.0.0.1 to 10.0.0.2")
        assert "foreign: in_port=1 -> drop" in text and "drops it on one: a foreign flow, in_port=1" in text
        code, text = explained(run, capsys, "shop/web", "shop/db", "-p", "80", "--policy-only")
        assert code == 0 and "DISAGREE" not in text
        code, found = verified(run, capsys)
        assert code == 4 and found["differ"] == found["asked"] - found["allowed"] - found["denied"] > 0
        assert {one["source"] for one in found["differences"]} == {"pod shop/web"}
    finally:
        run.ovs.ofctl("--strict", "del-flows", bridge.target, "table=0,priority=65535,in_port=1")


def test_a_pod_that_is_gone_is_explained_by_its_address(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    extra = run.folder / "gone.yaml"
    extra.write_text(POD.format(name="gone", number=9))
    question = ["10.0.0.9", "10.0.0.2", "-p", "80", "--policy-only"]
    until(lambda: "from pod shop/gone" in explained(run, capsys, *question)[1], "the pod")
    extra.unlink()
    until(lambda: explained(run, capsys, *question)[1].startswith("pod shop/gone"), "its end")
    code, text = explained(run, capsys, "10.0.0.9", "10.0.0.2", "-p", "80")
    assert code == 1 and "pod shop/gone (10.0.0.9) is gone since" in text
    assert "pod shop/gone has app=gone, not app=web" in text
    assert explained(run, capsys, "shop/gone", "shop/db", "-p", "80")[0] == 1


def test_what_counts_now(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames pass while it watches; rates name the rule that they match. Last here, for others count packets."""
    bridge, stop = run.ovs.bridges["br-int"], threading.Event()

    def send() -> None:
        number = 30_000
        while not stop.wait(0.05):
            number += 1
            bridge.inject("p-web", encode(syn(1, number)))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        line = told(
            run, capsys, "flows", "--watch", "--every", "1", "--rounds", "1", "--table", "ingress", "-o", "json"
        )
    finally:
        stop.set()
        sender.join()
    (rate,) = [one for one in json.loads(line)["rates"] if one["flow"]["kind"] == "rule"]
    assert rate["packets_per_second"] > 0 and rate["flow"]["rules"] == ["shop/only-web ingress[0]"]
    bridge.settle()
