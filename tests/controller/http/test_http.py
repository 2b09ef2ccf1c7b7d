"""The HTTP pages over a fake controller: answers, and requests that are refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
from pydantic import TypeAdapter
from werkzeug.test import Client, TestResponse

from controller.base import threads
from controller.http.long_answers import VALUES_PER_CHUNK, StatusEncoder
from controller.http.pages import MAX_WAIT, Application
from controller.metrics.registry import Metrics
from controller.status.detail_model import Live
from controller.status.model import FlowStream, FlowView, PodView, SwitchUnavailable
from tests.helpers.controller.fake_views import CLAUSE, DENY, POD, POLICY, STATUS, SUPPORT, FakeViews

PAGES = (
    "/healthz", "/readyz", "/status", "/metrics", "/wait", "/flows", "/support", "/pods/tenant-a/backend-1",
    "/policies/tenant-a/pol1",
)  # fmt: skip


class BufferedClient(Client):
    """Reads answers whole, and closes them as the server does."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, buffered=True, **kwargs)


def client(views: FakeViews | None = None, loopback: bool = True) -> Client:
    return BufferedClient(Application(views or FakeViews(), Metrics("1", "native").registry, loopback))


def reason(response: TestResponse) -> str:
    assert response.content_type == "application/json"
    return str(json.loads(response.data)["error"])


def test_status_is_the_values_field_for_field() -> None:
    response = client().get("/status")
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert json.loads(response.data) == json.loads(json.dumps(asdict(STATUS)))


def test_health_and_readiness() -> None:
    views = FakeViews(replace(STATUS, waiting_for=("source manifests: not read yet",)))
    assert client(views).get("/healthz").status_code == 200
    response = client(views).get("/readyz")
    assert response.status_code == 503
    assert json.loads(response.data) == {"ready": False, "waiting_for": ["source manifests: not read yet"]}
    assert client().get("/readyz").status_code == 200


def test_health_fails_while_a_thread_is_gone_that_must_live() -> None:
    thread = threads.watched("the listener", lambda: None)
    thread.start()
    thread.join(5)
    response = client().get("/healthz")
    assert response.status_code == 503
    assert json.loads(response.data) == {"status": "failed", "gone": ["the listener: it ended by itself"]}
    thread.release()
    assert client().get("/healthz").status_code == 200


def test_wait_says_what_is_missing() -> None:
    views = FakeViews()
    views.missing = ("policy tenant-a/pol1: node-1 has 3 flows to get",)
    response = client(views).post("/wait?timeout=0.05")
    assert json.loads(response.data) == {"realized": False, "missing": list(views.missing), "version": 1}
    assert json.loads(client().get("/wait").data)["realized"] is True


def test_a_wait_is_bounded() -> None:
    views = FakeViews()
    client(views).post("/wait?timeout=99999999")
    assert views.waits == [MAX_WAIT]


@pytest.mark.parametrize("timeout", ["-1", "x", "nan", "inf", "1e999", "1s"])
def test_a_timeout_is_a_number_of_seconds(timeout: str) -> None:
    response = client().post(f"/wait?timeout={timeout}")
    assert response.status_code == 400
    assert "number of seconds" in reason(response)


def test_flows_are_chosen_by_pod_and_policy() -> None:
    everything = json.loads(client().get("/flows").data)
    assert everything == json.loads(json.dumps([asdict(CLAUSE), asdict(DENY)]))
    assert len(json.loads(client().get("/flows?pod=tenant-a/backend-1").data)) == 2
    assert len(json.loads(client().get("/flows?policy=tenant-a/pol1&node=node-1").data)) == 2
    assert json.loads(client().get("/flows?policy=tenant-a/odd").data) == []


def test_switches_that_give_no_flows_are_named_beside_those_that_do() -> None:
    views = FakeViews()
    views.away = ("br-int at db\u00e9 went away", *["x" * 100] * 100)
    response = client(views).get("/flows")
    assert response.status_code == 200
    assert len(json.loads(response.data)) == 2
    named = json.loads(response.headers["Headgate-Missing"])
    assert named[0] == views.away[0]
    assert named[-1] == f"and {len(views.away) - len(named) + 1} more"
    assert len(response.headers["Headgate-Missing"]) < 5000


@pytest.mark.parametrize(
    ("query", "code", "hint"),
    [
        ("node=node-9", 404, "node-1"),
        ("node=node-2", 503, "OpenFlow"),
        ("pod=tenant-a/nobody", 404, "tenant-a/nobody"),
        ("policy=tenant-a/none", 404, "tenant-a/none"),
        ("pod=backend-1", 400, "NAMESPACE/NAME"),
        ("pod=a/b/c", 400, "NAMESPACE/NAME"),
        ("pods=a/b", 400, "node, pod, policy"),
        ("node=a&node=b", 400, "twice"),
        ("node=" + "a" * 1000, 400, "too long"),
    ],
)
def test_a_wrong_question_about_flows_says_why(query: str, code: int, hint: str) -> None:
    response = client().get(f"/flows?{query}")
    assert response.status_code == code
    assert hint in reason(response)


def test_one_pod_and_one_policy_have_pages() -> None:
    for page, value in (("/pods/tenant-a/backend-1", POD), ("/policies/tenant-a/pol1", POLICY), ("/support", SUPPORT)):
        assert json.loads(client().get(page).data) == json.loads(json.dumps(asdict(value)))


@pytest.mark.parametrize(
    ("path", "code", "hint"),
    [
        ("/pods/tenant-a/nobody", 404, "status --pods"),
        ("/policies/tenant-a/none", 404, "status --policies"),
        ("/pods/backend-1", 404, "NAMESPACE/NAME"),
        ("/pods/", 404, "NAMESPACE/NAME"),
        ("/pods/a/b/c", 404, "NAMESPACE/NAME"),
        ("/policies//b", 404, "[NAMESPACE/]NAME"),
        ("/policies/", 404, "[NAMESPACE/]NAME"),
        ("/policies/a/b/c", 404, "[NAMESPACE/]NAME"),
        ("/policies/cluster-wide", 404, "status --policies"),
        ("/pods/a/" + "b" * 1000, 400, "too long"),
        ("/pods/a/b?node=x", 400, "takes none"),
        ("/podsx/a/b", 404, "/pods/NAMESPACE/NAME"),
    ],
)
def test_a_wrong_object_says_why(path: str, code: int, hint: str) -> None:
    response = client().get(path)
    assert response.status_code == code
    assert hint in reason(response)


def test_metrics_are_in_the_text_format() -> None:
    response = client().get("/metrics")
    assert response.content_type.startswith("text/plain; version=0.0.4")
    assert b"headgate_build_info{" in response.data


@pytest.mark.parametrize("path", ["/", "/nothing", "/status/", "//status", "/../etc/passwd", "/status%00"])
def test_there_is_no_other_page(path: str) -> None:
    response = client().get(path)
    assert response.status_code == 404
    assert "/status" in reason(response)


def test_nothing_is_written() -> None:
    for page in PAGES:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "FOO", *(() if page == "/wait" else ("POST",))):
            response = client().open(page, method=method)
            assert response.status_code == 405
            assert "GET" in response.headers["Allow"]


def test_bodies_are_refused() -> None:
    response = client().post("/wait", data=b"x" * 10)
    assert response.status_code == 413
    response = client().post("/wait", headers={"Transfer-Encoding": "chunked"})
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("[::1]:8080", 200),
        ("evil.example:8080", 421),
        ("192.0.2.1", 421),
        ("a b", 400),
    ],
)
def test_on_loopback_only_this_machines_names_are_hosts(host: str, code: int) -> None:
    assert client().get("/healthz", headers={"Host": host}).status_code == code
    assert client(loopback=False).get("/healthz", headers={"Host": host}).status_code == 200


def test_what_goes_wrong_inside_is_not_told() -> None:
    views = FakeViews()
    views.broken = RuntimeError("the secret")
    response = client(views).get("/status")
    assert response.status_code == 500
    assert b"secret" not in response.data


def test_costly_pages_are_bounded_at_once() -> None:
    views = FakeViews()
    views.missing = ("much",)
    asked = client(views)
    threads = [threading.Thread(target=asked.post, args=("/wait?timeout=30",), daemon=True) for _ in range(64)]
    for thread in threads:
        thread.start()
    while len(views.waits) < 64:
        threading.Event().wait(0.01)
    response = asked.post("/wait")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert asked.get("/healthz").status_code == 200
    views.missing = ()
    for thread in threads:
        thread.join()
    assert asked.post("/wait").status_code == 200


def test_what_acts_is_for_programs_of_this_machine() -> None:
    """A live probe: not for a page of another site, not over a network, not by a link."""
    views = FakeViews()
    path = "/probe?source=10.0.0.1&destination=10.0.0.2&port=80"
    assert client(views).post(path).status_code == 403
    assert client(views).get(path, headers={"Headgate-Act": "1"}).status_code == 405
    assert client(views, loopback=False).post(path, headers={"Headgate-Act": "1"}).status_code == 403
    assert views.live == []
    assert client(views).post(path, headers={"Headgate-Act": "1"}).status_code == 200
    assert client(views).post(f"{path}&deliver=1", headers={"Headgate-Act": "1"}).status_code == 200
    assert client(views).post(f"{path}&deliver=2", headers={"Headgate-Act": "1"}).status_code == 400
    assert views.live == [Live.PROBE, Live.DELIVER]


def test_flows_are_made_as_they_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million flows never stand in memory together, and a reader that goes ends the work."""
    made = 0

    def endless() -> Iterator[FlowView]:
        nonlocal made
        while True:
            made += 1
            yield CLAUSE

    views = FakeViews()
    monkeypatch.setattr(views, "flows", lambda node: FlowStream(endless()))
    response = Client(Application(views, Metrics("1", "native").registry, loopback=True)).get("/flows")
    assert next(iter(response.iter_encoded())).startswith(b"[{")
    assert made <= 2 * VALUES_PER_CHUNK
    response.close()


def test_an_answer_that_fails_on_its_way_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Iterator[FlowView]:
        yield CLAUSE
        raise SwitchUnavailable("br-int disconnected")

    views = FakeViews()
    monkeypatch.setattr(views, "flows", lambda node: FlowStream(failing()))
    with pytest.raises(SwitchUnavailable):
        client(views).get("/flows")


@pytest.mark.parametrize(
    ("page", "places"), [("/status", 8), ("/flows", 4), ("/cluster", 2), ("/pods/tenant-a/backend-1", 4)]
)
def test_a_place_is_held_until_the_answer_is_sent(page: str, places: int) -> None:
    """So no more answers than that are in memory, however slowly they are read."""
    asked = Client(Application(FakeViews(), Metrics("1", "native").registry, loopback=True))
    unread = [asked.get(page) for _ in range(places)]
    assert [one.status_code for one in unread] == [200] * places
    assert asked.get(page).status_code == 503
    assert asked.get("/healthz", buffered=True).status_code == 200
    for one in unread:
        one.close()
        one.close()
    last = [asked.get(page) for _ in range(places + 1)]
    assert [one.status_code for one in last] == [200] * places + [503]


def test_all_readers_of_one_status_share_its_bytes() -> None:
    encoder = StatusEncoder()
    one, two = (encoder.encode(replace(STATUS, uptime=float(n))) for n in range(2))
    shared = {id(part) for part in one} & {id(part) for part in two}
    longest = TypeAdapter(tuple[PodView, ...]).dump_json(STATUS.pods)
    assert longest in [part for part in one if id(part) in shared]
