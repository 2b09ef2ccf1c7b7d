"""What the page may be asked, by whom, and what is refused. Over a whole controller without a network."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator

import pytest
from werkzeug.test import Client, TestResponse

from controller.http.pages import Application
from controller.http.server import MAX_REQUEST_BYTES, HttpServer
from controller.http.ui.files import FOLDER
from controller.http.ui.pages import MAX_PLAN_BYTES, MAX_STREAMS, UiPages
from tests.helpers.cluster.page_cluster import page_cluster
from tests.helpers.controller.page_world import PageWorld, serve
from tests.helpers.waiting import until

TOKEN = "0123456789abcdef0123456789abcdef"
DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop-00, name: nothing}
spec: {podSelector: {matchLabels: {app: frontend}}, policyTypes: [Egress]}
"""


@pytest.fixture(scope="module")
def world() -> Iterator[PageWorld]:
    found = PageWorld(page_cluster(20))
    until(
        lambda: found.page.state().pod_count == 20 and all(one.installed for one in found.page.state().pods), seconds=30
    )
    yield found
    found.stop()


@pytest.fixture(scope="module")
def server(world: PageWorld) -> Iterator[HttpServer]:
    found = serve(world)
    yield found
    found.stop()


def client(world: PageWorld, loopback: bool = True, token: str | None = None) -> Client:
    return Client(Application(world.answers, world.metrics.registry, loopback, UiPages(world.page, loopback, token)))


def asked(response: TestResponse) -> object:
    assert response.status_code == 200, response.data
    assert response.content_type == "application/json"
    return json.loads(response.data)


# -- files -------------------------------------------------------------------------------------------------------------


def test_every_file_is_served_with_its_type_and_a_strict_policy(world: PageWorld) -> None:
    for file in FOLDER.iterdir():
        response = client(world).get(f"/ui/{file.name}")
        assert response.status_code == 200
        assert response.data == file.read_bytes()
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in response.headers


def test_the_address_without_a_slash_leads_to_the_page(world: PageWorld) -> None:
    response = client(world).get("/ui")
    assert (response.status_code, response.headers["Location"]) == (308, "/ui/")
    assert client(world).get("/ui/").data.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("path", ["/ui/../pages.py", "/ui/%2e%2e/pages.py", "/ui/none.js", "/ui/api/none", "/ui/api/"])
def test_no_other_path_is_served(world: PageWorld, path: str) -> None:
    assert client(world).get(path).status_code == 404


def test_files_load_nothing_from_elsewhere() -> None:
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert "http://" not in text and "https://" not in text, file.name
        assert "innerHTML" not in text and "eval(" not in text, file.name


# -- who may ask -------------------------------------------------------------------------------------------------------


def test_off_the_network_without_a_token(world: PageWorld) -> None:
    for path in ("/ui/", "/ui/api/state"):
        response = client(world, loopback=False).get(path)
        assert response.status_code == 403
        assert b"--ui-token-file" in response.data


@pytest.mark.parametrize("given", [None, "", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer é"])
def test_a_wrong_token_is_refused(world: PageWorld, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode().decode("latin-1")}
    visitor = client(world, loopback=False, token=TOKEN)
    assert visitor.get("/ui/").status_code == 200  # the page itself asks for it
    assert visitor.get("/ui/api/state", headers=headers).status_code == 401
    assert visitor.get("/ui/api/events", headers=headers).status_code == 401
    assert visitor.get("/ui/api/audit", headers=headers).status_code == 401
    assert visitor.post("/ui/api/plan", json={"apply": DENY}, headers=headers).status_code == 401


def test_the_right_token_opens(world: PageWorld) -> None:
    visitor = client(world, loopback=False, token=TOKEN)
    assert visitor.get("/ui/api/state", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_names_of_others_are_refused_on_loopback(world: PageWorld) -> None:
    assert client(world).get("/ui/api/state", headers={"Host": "evil.example"}).status_code == 421
    assert client(world).get("/ui/", headers={"Host": "evil.example:80"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_other_sites_are_refused(world: PageWorld, headers: dict[str, str]) -> None:
    assert client(world).get("/ui/api/state", headers=headers).status_code == 403
    assert client(world).post("/ui/api/plan", json={"apply": DENY}, headers=headers).status_code == 403


def test_a_link_from_elsewhere_may_be_followed(world: PageWorld) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client(world).get("/ui/", headers=headers).status_code == 200


def test_nothing_but_reading(world: PageWorld) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert client(world).open("/ui/api/state", method=method).status_code == 405
    assert client(world).get("/ui/api/plan").status_code == 405
    assert client(world).get("/ui/api/state", data=b"x").status_code == 413


# -- questions ---------------------------------------------------------------------------------------------------------


def test_a_matrix_is_cut_to_what_was_chosen(world: PageWorld) -> None:
    found = asked(client(world).get("/ui/api/matrix?by=workload&label=app%3Ddb"))
    assert isinstance(found, dict)
    assert [found["groups"][n][0] for n in found["wanted"]] == ["shop-00/db[Deployment]"]
    assert client(world).get("/ui/api/matrix?by=moon").status_code == 400
    assert client(world).get("/ui/api/matrix?port=x").status_code == 400
    assert b"Content-Security-Policy" in client(world).get("/ui/api/matrix.html").data


def test_a_row_of_the_matrix_is_explained_by_one_of_its_pods(world: PageWorld) -> None:
    query = {"source": "shop-00/api[Deployment]", "destination": "shop-00/db[Deployment]", "port": "5432"}
    found = asked(client(world).get("/ui/api/explain", query_string=query))
    assert isinstance(found, dict)
    assert found["allowed"] and "stands for shop-00/api[Deployment]" in found["notes"][0]
    assert found["connections"][0]["switches"]["agrees"]
    query |= {"source": "0.0.0.0-9.255.255.255,11.0.0.0-255.255.255.255"}
    found = asked(client(world).get("/ui/api/explain", query_string=query))
    assert isinstance(found, dict) and not found["allowed"]
    query |= {"source": "shop-00/none[Deployment]"}
    assert client(world).get("/ui/api/explain", query_string=query).status_code == 400


def test_pods_policies_nodes_and_flows(world: PageWorld) -> None:
    pod = next(iter(world.page.state().pods)).key
    found = asked(client(world).get("/ui/api/pod", query_string={"key": pod}))
    assert isinstance(found, dict) and found["detail"]["pod"]["key"] == pod
    assert found["workload"].endswith("[Deployment]")
    found = asked(client(world).get("/ui/api/policy?key=shop-00/db"))
    assert isinstance(found, dict) and "ingress[0].from[1]" in found["manifest"]["places"]
    found = asked(client(world).get("/ui/api/node?name=node-1"))
    assert isinstance(found, dict) and sum(one["flows"] for one in found["stages"]) > 100
    found = asked(client(world).get("/ui/api/flows?node=node-1&table=ingress"))
    assert isinstance(found, dict) and {one["table_name"] for one in found["flows"]} == {"ingress"}
    for path in ("pod?key=no/no", "policy?key=no/no", "node?name=no", "flows?node=no"):
        assert client(world).get(f"/ui/api/{path}").status_code == 404


def test_search_finds_names_addresses_and_labels(world: PageWorld) -> None:
    def names(text: str) -> set[str]:
        found = asked(client(world).get("/ui/api/find", query_string={"text": text}))
        assert isinstance(found, list)
        return {one["kind"] for one in found}

    assert names("db") == {"pod", "policy"}
    assert names("10.0.0.2") == {"pod"}
    assert names("team=team-3") == {"pod"}
    assert names("node-1") == {"node"}
    assert names("zzz") == set()


def test_a_plan_changes_nothing(world: PageWorld) -> None:
    before = world.page.state().policy_count
    found = asked(client(world).post("/ui/api/plan", json={"apply": DENY}))
    assert isinstance(found, dict)
    assert {one["kind"] for one in found["plan"]["reach"]} == {"removed"}
    assert found["before"]["groups"] and found["after"]["groups"]
    assert world.page.state().policy_count == before


@pytest.mark.parametrize("body", [b"", b"[]", b'{"apply": 3}', b"{", b'"x"', b'{"apply": "a: [", "delete": ""}', b"{}"])
def test_a_plan_of_nonsense_is_refused(world: PageWorld, body: bytes) -> None:
    response = client(world).post("/ui/api/plan", data=body, content_type="application/json")
    assert response.status_code == 400


def test_a_plan_must_be_json_and_short(world: PageWorld) -> None:
    assert client(world).post("/ui/api/plan", data=b"apply=x").status_code == 415
    text = json.dumps({"apply": "#" * MAX_PLAN_BYTES})
    assert client(world).post("/ui/api/plan", data=text, content_type="application/json").status_code == 413


# -- over sockets ------------------------------------------------------------------------------------------------------


def connection(server: HttpServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.address.host, server.address.port, timeout=20)


def test_the_server_passes_the_body_of_a_plan_and_of_nothing_else(server: HttpServer) -> None:
    asked_for = connection(server)
    asked_for.request("POST", "/ui/api/plan", json.dumps({"apply": DENY}), {"Content-Type": "application/json"})
    assert json.loads(asked_for.getresponse().read())["plan"]["reach"]
    asked_for = connection(server)
    asked_for.request("POST", "/wait", b"x" * 100)
    assert asked_for.getresponse().status == 413
    for length in ("-1", "1e3", "99999999999999", str(MAX_PLAN_BYTES + 1), "٣"):
        with socket.create_connection((server.address.host, server.address.port), 20) as raw:
            head = f"POST /ui/api/plan HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            raw.sendall(head.encode())
            assert raw.recv(100).split()[1] in (b"400", b"413")


LONG = b"a" * MAX_REQUEST_BYTES
CUT_OFF = {
    "a header before those that are refused": b"GET /status HTTP/1.1\r\nX: " + LONG + b"\r\nHost: evil.example\r\n\r\n",
    "a path before what another site is known by": b"GET /ui/api/state?" + b"&" * (MAX_REQUEST_BYTES - 100)
    + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nX: " + LONG[:200] + b"\r\nSec-Fetch-Site: cross-site\r\n\r\n",
    "nothing but a path": b"GET /status?" + b"&" * MAX_REQUEST_BYTES + b" HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "an end in the middle": b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", CUT_OFF)
def test_what_is_cut_off_is_no_request(server: HttpServer, name: str) -> None:
    """The headers that are missing may be those by which it would be refused."""
    with socket.create_connection((server.address.host, server.address.port), 20) as raw:
        raw.sendall(CUT_OFF[name])
        line = b""
        with contextlib.suppress(OSError):  # the server does not read the rest, so the answer may be lost
            raw.shutdown(socket.SHUT_WR)
            line = raw.makefile("rb").readline()
        assert line in (b"", b"HTTP/1.0 431 Request Header Fields Too Large\r\n")


def test_a_text_that_is_nested_too_deeply_is_malformed(world: PageWorld) -> None:
    response = client(world).post("/ui/api/plan", data=b"[" * 100_000, content_type="application/json")
    assert response.status_code == 400


def test_deltas_follow_the_serial_that_the_page_has(world: PageWorld, server: HttpServer) -> None:
    state = world.page.state()
    stream = connection(server)
    stream.request("GET", f"/ui/api/events?after={state.serial}")
    answer = stream.getresponse()
    assert answer.getheader("Content-Type", "").startswith("text/event-stream")
    cluster = world.cluster
    kept = {key: one for key, one in cluster.policies.items() if key.name != "db-egress"}
    world.change(type(cluster)(cluster.namespaces, cluster.pods, cluster.nodes, kept))
    try:
        gone: list[str] = []
        while "shop-00/db-egress" not in gone:
            line = answer.readline().decode()
            assert line
            if line.startswith("data: "):
                delta = json.loads(line.removeprefix("data: "))
                assert delta["serial"] > state.serial
                gone += delta["policies_gone"]
    finally:
        world.change(cluster)
        stream.close()


def test_a_serial_that_is_not_known_is_answered_by_a_reset(server: HttpServer) -> None:
    stream = connection(server)
    stream.request("GET", "/ui/api/events?after=999999")
    answer = stream.getresponse()
    assert b"event: reset" in answer.read()


def test_readers_beyond_the_bound_are_refused_and_places_come_back(server: HttpServer, world: PageWorld) -> None:
    streams = []
    serial = world.page.state().serial + 10_000  # never reached: these only wait
    world_after = world.page.state().serial
    for _ in range(MAX_STREAMS):
        stream = connection(server)
        stream.request("GET", f"/ui/api/events?after={world_after}")
        streams.append((stream, stream.getresponse()))
    refused = connection(server)
    refused.request("GET", f"/ui/api/events?after={serial}")
    assert refused.getresponse().status == 503
    for stream, answer in streams:
        answer.close()
        stream.close()

    def opened() -> bool:
        again = connection(server)
        again.request("GET", f"/ui/api/events?after={serial}")
        return again.getresponse().status == 200

    until(opened, seconds=30)
