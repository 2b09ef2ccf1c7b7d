"""`/audit`, `/drops` and the commands that read them, from a made-up controller."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest

from controller.cli import main
from controller.cli.client import ControllerClient
from controller.config.addresses import HostPort
from controller.http import audit_pages
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.metrics.registry import Metrics
from tests.helpers.controller.fake_views import EVENT, FakeViews
from tests.helpers.paths import ROOT

ALLOWED = replace(EVENT, verdict="allowed", text="no policy isolates either end", policies=())


@pytest.fixture
def views() -> FakeViews:
    return FakeViews()


@pytest.fixture
def server(views: FakeViews, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(audit_pages, "FOLLOW_SECONDS", 2.0)
    monkeypatch.setattr(audit_pages, "KEEP_ALIVE_SECONDS", 0.2)
    http = HttpServer(HostPort("127.0.0.1", 0), Application(views, Metrics("1", "native").registry, True))
    http.start()
    yield f"http://{http.address}"
    http.stop()


def get(url: str, headers: dict[str, str] | None = None) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=60) as answer:
        return str(answer.read().decode())


def test_events_are_chosen_by_pod_verdict_and_time(views: FakeViews, server: str) -> None:
    views.audit.log.append([EVENT, ALLOWED, replace(EVENT, time="2999-01-01T00:00:00.000Z")])

    def asked(query: str) -> list[int]:
        return [one["number"] for one in json.loads(get(f"{server}/audit?{query}"))["events"]]

    assert asked("") == [1, 2, 3]
    assert asked("after=1&limit=1") == [3]
    assert asked("verdict=allowed,dropped") == [2]
    assert asked("pod=tenant-a/backend-1&verdict=denied") == [1, 3]
    assert asked("pod=tenant-a/other") == []
    assert asked("since=3600") == [3]
    for wrong in ("after=x", "limit=-1", "follow=yes", "nothing=1"):
        with pytest.raises(urllib.error.HTTPError) as error:
            get(f"{server}/audit?{wrong}")
        assert error.value.code == 400


def test_an_event_source_gets_events_and_goes_on_after_the_last(views: FakeViews, server: str) -> None:
    views.audit.log.append([EVENT, ALLOWED])
    text = get(f"{server}/audit?follow=sse")
    assert [part.splitlines()[0] for part in text.split("\n\n") if part.startswith("id:")] == ["id: 1", "id: 2"]
    assert json.loads(text.split("data: ")[1].splitlines()[0])["policies"] == ["tenant-a/pol1"]
    assert "retry:" in text
    assert "id: 1\n" not in get(f"{server}/audit?follow=sse&after=0", {"Last-Event-ID": "1"})


def test_followers_are_bounded_and_give_their_places_back(
    views: FakeViews, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(audit_pages.MAX_FOLLOWERS + 2):
        monkeypatch.setattr(audit_pages, "FOLLOW_SECONDS", 0.05)
        get(f"{server}/audit?follow=lines")


def test_following_goes_on_over_several_answers(views: FakeViews, server: str) -> None:
    def later() -> None:
        for _ in range(3):
            views.audit.log.append([EVENT])
            threading.Event().wait(1.0)

    thread = threading.Thread(target=later)
    thread.start()
    found = ControllerClient(server).follow_audit(0)
    assert [next(found).number for _ in range(3)] == [1, 2, 3]
    found.close()  # type: ignore[attr-defined]  # it is a generator
    thread.join()


def test_the_command_prints_lines_and_what_is_missing(
    views: FakeViews, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    views.audit.problems = ("node b: its switch has no meters, so nothing is reported of its pods",)
    views.audit.log.append([EVENT, replace(EVENT, verdict="dropped", cause="forged")], {"meter": 1234})
    assert main(["--server", server, "audit"]) == 0
    text = capsys.readouterr().out
    assert "DENIED: TCP port 80 tenant-a/frontend-1 (10.0.0.2) -> tenant-a/backend-1 (10.0.0.3) on node-1" in text
    assert "ingress is isolated by tenant-a/pol1" in text
    assert "DROPPED (forged)" in text and "1,234 meter" in text and "no meters" in text
    assert main(["--server", server, "audit", "-o", "json", "--verdict", "denied", "-n", "5"]) == 0
    event = json.loads(capsys.readouterr().out)
    schema = json.loads((ROOT / "docs/schemas/audit.json").read_text())
    assert event.keys() == schema["properties"].keys() and event["version"] == 1
    assert main(["--server", server, "audit", "--since", "soon"]) == 2


def test_drops_shows_totals_foreign_flows_and_events(
    views: FakeViews, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    views.audit.log.append([EVENT])
    assert main(["--server", server, "drops", "--since", "9999d"]) == 0
    text = capsys.readouterr().out
    assert "tenant-a/backend-1" in text and "ip -> drop" in text and "DENIED: TCP port 80" in text
    assert main(["--server", server, "drops", "--pod", "tenant-a/none", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    schema = json.loads((ROOT / "docs/schemas/drops.json").read_text())
    assert answer.keys() == schema["properties"].keys() and answer["totals"] == []
