"""Events on policies that are not in force: seen with kubectl, one for each reason, and written with few rights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.peers.token_bucket import TokenBucket
from controller.sources.kubernetes import event_writer
from flows.cluster.model import Key
from tests.controller.sources.kubernetes.test_reading import namespace, policy
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.kubernetes_source import RunningSource
from tests.helpers.paths import ROOT

PLACE = "events"
CRD = ROOT / "deploy/kubernetes/crd-networkpolicys.net.alpha.kubernetes.io.yaml"
CLUSTER_POLICIES = ("clusternetworkpolicies", "adminnetworkpolicies", "baselineadminnetworkpolicies")
ALPHA: dict[str, Any] = {
    "apiVersion": "net.alpha.kubernetes.io/v1alpha1",
    "kind": "NetworkPolicy",
    "metadata": {"namespace": PLACE, "name": "old"},
    "spec": {"podSelector": {}},
}


@pytest.fixture(autouse=True)
def place(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A namespace of our own, and pauses of which a test need not wait for the end."""
    monkeypatch.setattr(event_writer, "POLICY_SECONDS", 0.0)
    monkeypatch.setattr(event_writer, "RECUR_SECONDS", 0.5)
    api.apply([namespace(PLACE)])
    yield
    api.kubectl("delete", "networkpolicies,events", "--all", "-n", PLACE)


def events(api: ApiServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("events.events.k8s.io", "-n", PLACE)["items"]
    return found


def test_one_event_for_each_reason(api: ApiServer, reader: RunningSource) -> None:
    api.apply([policy("one", PLACE), policy("two", PLACE)])
    reader.reread()
    writer = reader.source.events
    writer.report({Key(PLACE, "one"): "because", Key(PLACE, "absent"): "nobody is called so"})
    reader.until(lambda: len(events(api)) == 1)
    writer.report({Key(PLACE, "one"): "because", Key(PLACE, "two"): "x" * 5000})
    reader.until(lambda: len(events(api)) == 2)
    one, two = sorted(events(api), key=lambda event: event["regarding"]["name"])
    assert one["note"] == "because"
    assert one["type"] == "Warning"
    assert one["regarding"]["uid"] == api.get("networkpolicy", "one", "-n", PLACE)["metadata"]["uid"]
    assert two["note"] == "x" * 1024
    assert "because" in api.kubectl("describe", "networkpolicy", "one", "-n", PLACE) or "because" in api.kubectl(
        "events", "-n", PLACE, "--for", "networkpolicy/one"
    )


def test_a_reason_that_comes_again_counts_on(api: ApiServer, reader: RunningSource) -> None:
    api.apply([policy("one", PLACE)])
    reader.reread()
    key = Key(PLACE, "one")
    for count in (1, 2, 3):
        reader.source.events.report({key: "because"})
        reader.until(lambda count=count: [_count(event) for event in events(api)] == [count])  # type: ignore[misc]
        reader.source.events.report({})
    with RunningSource(reader.source.name) as again:  # another process of ours, which knows nothing of these
        again.wait_synced()
        again.source.events.report({key: "because"})
        again.until(again.source.events.idle)
        assert len(events(api)) == 1


def _count(event: dict[str, Any]) -> int:
    return int(event.get("series", {}).get("count", 1))


def test_many_at_once_are_written_slowly(
    api: ApiServer, reader: RunningSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    burst = 5
    monkeypatch.setattr(reader.source.events, "_bucket", TokenBucket(burst - 1, 0.001, time.monotonic()))
    many = [policy(f"many-{number}", PLACE) for number in range(burst + 5)]
    api.apply(many)
    reader.reread()
    reader.source.events.report({Key(PLACE, one["metadata"]["name"]): "because" for one in many})
    reader.until(lambda: len(events(api)) == burst)  # the last one is a debt
    time.sleep(0.5)
    assert len(events(api)) == burst


def test_a_policy_of_the_original_api(api: ApiServer, reader: RunningSource) -> None:
    """Its definition is installed while we run, and found when asked to read again."""
    api.kubectl("apply", "-f", str(CRD))
    api.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CRD))
    api.apply([ALPHA])
    assert Key(PLACE, "alpha:old") in reader.reread().policies
    reader.source.events.report({Key(PLACE, "alpha:old"): "its isolation is off"})
    reader.until(lambda: len(events(api)) == 1)
    assert events(api)[0]["regarding"]["apiVersion"] == "net.alpha.kubernetes.io/v1alpha1"
    api.kubectl("delete", "-f", str(CRD))
    reader.until(lambda: Key(PLACE, "alpha:old") not in reader.cluster.policies)


def test_rights(api: ApiServer, reader: RunningSource) -> None:
    """The rights of the manifest suffice, and are for nothing else."""
    assert reader.source.state().reason == ""
    ours, others = (rights(api, f"system:serviceaccount:{name}") for name in ("headgate:headgate", "default:other"))
    read = "get list watch"
    assert ours - others == {
        ("pods", read),
        ("namespaces", read),
        ("nodes", read),
        ("networkpolicies.networking.k8s.io", read),
        ("networkpolicys.net.alpha.kubernetes.io", read),
        *((f"{plural}.policy.networking.k8s.io", read) for plural in CLUSTER_POLICIES),
        *((f"{plural}.policy.networking.k8s.io/status", "patch") for plural in CLUSTER_POLICIES),
        # Read where the switches route.
        ("services", read),
        ("endpointslices.discovery.k8s.io", read),
        ("servicecidrs.networking.k8s.io", read),
        ("events.events.k8s.io", "create patch"),
    }


def rights(api: ApiServer, user: str) -> set[tuple[str, str]]:
    """Resources and verbs that a user has."""
    listed = api.kubectl("auth", "can-i", "--list", f"--as={user}", "--no-headers")
    return {
        (line.split()[0], line.rpartition("[")[2].rstrip("] "))
        for line in listed.splitlines()
        if line and not line.startswith(" ")
    }
