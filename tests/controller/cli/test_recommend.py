"""`headgate recommend` from a made-up controller: policies that can be applied, checked against what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from controller.cli import main
from controller.config.addresses import HostPort
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.metrics.registry import Metrics
from controller.status.audit_model import AuditEnd, AuditEvent
from tests.flows.reach.test_recommend import DB, SHOP, WEB
from tests.helpers.controller.fake_views import EVENT, FakeViews
from tests.helpers.json_forms import fits

NOW = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event(source: str, target: str, address: str, port: int, verdict: str = "allowed") -> AuditEvent:
    near = AuditEnd("pod", source, str(WEB[0].addresses[0]), 40000, "Deployment/web")
    far = AuditEnd("pod" if "/" in target else "outside", target if "/" in target else "", address, port)
    return replace(EVENT, time=NOW, verdict=verdict, source=near, destination=far, protocol="TCP")


@pytest.fixture
def views() -> FakeViews:
    made = FakeViews()
    made.snapshot = SHOP
    return made


@pytest.fixture
def server(views: FakeViews) -> Iterator[str]:
    http = HttpServer(HostPort("127.0.0.1", 0), Application(views, Metrics("1", "native").registry, True))
    http.start()
    yield f"http://{http.address}"
    http.stop()


def test_policies_are_written_commented_and_checked(
    views: FakeViews, server: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    views.audit.log.append(
        [event(str(WEB[0].key), str(DB.key), "10.0.0.9", 5432), event("x/y", "z", "10.1.1.1", 1, "denied")]
    )
    more = tmp_path / "audit.log"
    more.write_text(json.dumps(asdict(event(str(WEB[0].key), "", "198.51.100.7", 443))) + "\n")
    assert main(["--server", server, "recommend", "--namespace", "shop", "--events", str(more)]) == 0
    text = capsys.readouterr().out
    assert "# seen 1 times, last" in text and "# Checked: of 2 connections that were seen, 2 stay allowed." in text
    assert "# They replace: shop/old" in text and "# Against the present: Connections:" in text
    written = {one["metadata"]["name"]: one["spec"] for one in yaml.safe_load_all(text) if one}
    assert written["seen-web"]["podSelector"] == {"matchLabels": {"app": "web"}}
    peers = [peer for rule in written["seen-web"]["egress"] for peer in rule["to"]]
    assert {"ipBlock": {"cidr": "198.51.100.7/32"}} in peers
    assert written["seen-db"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 5432}]


def test_programs_get_policies_as_objects_with_the_evidence_of_each_rule(
    views: FakeViews, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    views.audit.log.append([event(str(WEB[0].key), str(DB.key), "10.0.0.9", 5432)])
    assert main(["--server", server, "recommend", "--namespace", "shop"]) == 0
    applied = [one for one in yaml.safe_load_all(capsys.readouterr().out) if one]
    assert main(["--server", server, "recommend", "--namespace", "shop", "-o", "json"]) == 0
    found = fits("recommend", capsys.readouterr().out)
    assert [one["policy"] for one in found["policies"]] == applied
    assert found["deletes"] == ["shop/old"] and (found["checked"], found["unchecked"], found["denied"]) == (1, 0, [])
    evidence = {one["policy"]["metadata"]["name"]: one["evidence"] for one in found["policies"]}
    seen = {"source": "shop/web-1", "destination": "shop/db", "protocol": "TCP", "port": 5432, "times": 1, "last": NOW}
    assert [(one["rule"], one["kind"], one["connections"]) for one in evidence["seen-db"]] == [
        ("ingress[0]", "seen", [seen])
    ]
    assert {one["rule"]: one["kind"] for one in evidence["seen-web"]} == {"egress[0]": "names", "egress[1]": "seen"}
    assert {one["kind"] for one in found["plan"]["objects"]} == {"NetworkPolicy"}


def test_without_anything_seen_nothing_is_written(
    server: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--server", server, "recommend", "--namespace", "shop"]) == 1
    assert "no connection of a pod of namespace shop was seen" in capsys.readouterr().out
    assert main(["--server", server, "recommend", "--namespace", "shop", "-o", "json"]) == 1
    found = fits("recommend", capsys.readouterr().out)
    assert found["policies"] == [] and found["deletes"] == [] and found["notes"]
    wrong = tmp_path / "wrong"
    wrong.write_text("{}\n")
    assert main(["--server", server, "recommend", "--namespace", "shop", "--events", str(wrong)]) == 2
    assert "line 1: it is no audit event" in capsys.readouterr().err
