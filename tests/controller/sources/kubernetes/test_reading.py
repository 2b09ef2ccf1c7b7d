"""Objects of a real API server become the same world as manifests, with the least rights; and reread keeps its word."""

from __future__ import annotations

import time

import pytest

from controller.sources.kubernetes.resources import ListPage, list_page
from flows.cluster.model import Key
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.kubernetes_source import RunningSource
from tests.helpers.truth.layout import Manifest


def namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def pod(name: str, labels: dict[str, str] | None = None, place: str = "reading") -> Manifest:
    metadata = {"namespace": place, "name": name, "labels": labels or {}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "one", "image": "one"}]},
    }


def policy(name: str, place: str = "reading") -> Manifest:
    metadata = {"namespace": place, "name": name}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {"podSelector": {}},
    }


@pytest.fixture(autouse=True)
def place(request: pytest.FixtureRequest) -> None:
    api: ApiServer = request.getfixturevalue("api")
    api.apply([namespace("reading")])


def test_reread_has_what_was_written_before(api: ApiServer, reader: RunningSource) -> None:
    for number in range(10):
        api.apply([pod("a", {"turn": str(number)})])
        assert reader.reread().pods[Key("reading", "a")].labels["turn"] == str(number)
    api.apply([policy("p")])
    assert Key("reading", "p") in reader.reread().policies
    api.delete([pod("a"), policy("p")])
    cluster = reader.reread()
    assert Key("reading", "a") not in cluster.pods
    assert Key("reading", "p") not in cluster.policies


def test_state(reader: RunningSource) -> None:
    state = reader.source.state()
    assert state.synced
    assert state.reason == ""
    assert state.current_at is not None


def test_an_update_that_means_nothing_posts_nothing(api: ApiServer, reader: RunningSource) -> None:
    api.apply([pod("quiet", {"a": "b"})])
    reader.reread()
    count = len(reader.posted)
    api.kubectl("annotate", "pod", "quiet", "-n", "reading", "--overwrite", "note=means-nothing")
    reader.reread()
    assert len(reader.posted) == count
    api.delete([pod("quiet")])


def test_a_list_that_the_watch_has_passed_is_not_read_on(
    api: ApiServer, reader: RunningSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for to prove that all is known may be large, and is needed only where the watch is silent."""
    monkeypatch.setattr("controller.sources.kubernetes.reflector.OBJECTS_PER_PAGE", 1)
    (reflector,) = (one for one in reader.source._reflectors if one.resource.kind == "Namespace")
    deadline = time.monotonic() + 60
    api.apply([pod("other", {"at": f"n{time.monotonic_ns()}"})])  # no namespace: their watch says nothing
    checkpoint = reflector.checkpoint(deadline)
    assert checkpoint is not None
    assert len(checkpoint.versions) > 1
    api.kubectl("label", "namespace", "reading", "--overwrite", f"now=n{time.monotonic_ns()}")
    reader.until(lambda: (reflector.progress.resource_version or 0) > checkpoint.number)
    assert reflector.wait_for(checkpoint, deadline)
    pages = []

    def count(raw: object) -> ListPage:
        page = list_page(raw)
        pages.append(page)
        return page._replace(number=checkpoint.number)  # as if it had been asked for before

    monkeypatch.setattr("controller.sources.kubernetes.reflector.list_page", count)
    assert reflector.checkpoint(deadline) is None
    assert len(pages) == 1
    assert pages[0].token
    api.delete([pod("other")])


def test_more_objects_than_a_page_has(api: ApiServer, reader: RunningSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.sources.kubernetes.reflector.OBJECTS_PER_PAGE", 7)
    many = [policy(f"many-{number}") for number in range(40)]
    api.apply(many)
    assert sum(key.name.startswith("many-") for key in reader.reread().policies) == 40
    with RunningSource(reader.source.name) as again:
        again.wait_synced()
        assert sum(key.name.startswith("many-") for key in again.cluster.policies) == 40
    api.delete(many)
    assert not any(key.name.startswith("many-") for key in reader.reread().policies)
