"""ClusterNetworkPolicies from an API server: their definition may be absent at first, come later, be older, and go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.sources.kubernetes.condition_writer import ConditionWriter
from controller.status.policy_conditions import PolicyConditions
from flows.cluster.model import ClusterPolicy, Key, Tier
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.kubernetes_source import RunningSource

pytestmark = [pytest.mark.api, pytest.mark.slow]
CRDS = Path(__file__).parents[3] / "helpers/api_server/crds"
NEW = CRDS / "clusternetworkpolicies.yaml"
OLD = sorted(CRDS.glob("policy.*.yaml"))
GROUP = "policy.networking.k8s.io"
PEERS: list[dict[str, Any]] = [{"namespaces": {}}]
POLICY: dict[str, Any] = {
    "apiVersion": f"{GROUP}/v1beta1",
    "kind": "ClusterNetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {
        "tier": "Admin",
        "priority": 0,
        "subject": {"namespaces": {}},
        "ingress": [{"action": "Deny", "from": PEERS}],
    },
}
ADMIN: dict[str, Any] = {
    "apiVersion": f"{GROUP}/v1alpha1",
    "kind": "AdminNetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {"priority": 5, "subject": {"namespaces": {}}, "egress": [{"action": "Allow", "to": PEERS}]},
}


@pytest.fixture
def clean(api: ApiServer) -> Iterator[ApiServer]:
    """No definition is left behind."""
    yield api
    for path in (NEW, *OLD):
        api.try_kubectl("delete", "--ignore-not-found", "-f", str(path))


def install(api: ApiServer, definition: dict[str, Any]) -> None:
    api.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump(definition))
    api.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", definition["metadata"]["name"])


def definition(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def read(reader: RunningSource) -> dict[Key, ClusterPolicy]:
    return dict(reader.reread().cluster_policies)


def test_a_definition_that_comes_later_and_goes(clean: ApiServer, reader: RunningSource) -> None:
    assert read(reader) == {}
    install(clean, definition(NEW))
    clean.apply([POLICY])
    (found,) = read(reader).values()
    assert (found.key, found.tier, found.priority, found.errors) == (Key("", "deny"), Tier.ADMIN, 0, ())
    assert reader.source.find(found.key) is not None
    clean.kubectl("delete", "-f", str(NEW))
    reader.until(lambda: not reader.cluster.cluster_policies)
    assert reader.source.state().reason == ""


def conditions(api: ApiServer) -> dict[str, Any]:
    found = api.get("clusternetworkpolicy", "deny")["status"].get("conditions") or []
    return {one["type"]: one for one in found}


def test_conditions_are_written_when_they_change(clean: ApiServer, reader: RunningSource) -> None:
    """Those of others stay, and equal ones are not written again, after a restart neither."""
    install(clean, definition(NEW))
    clean.apply([POLICY])
    other = {"type": "Other", "status": "True", "reason": "r", "message": ""}
    patch = json.dumps({"status": {"conditions": [{**other, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    clean.kubectl("patch", "clusternetworkpolicy", "deny", "--subresource=status", "--type=merge", "-p", patch)
    read(reader)
    (key,) = reader.cluster.cluster_policies
    reader.source.conditions.report({key: PolicyConditions("", "not yet realized on one")})
    reader.until(lambda: conditions(clean).keys() == {"Other", "Accepted", "Realized"})
    first = conditions(clean)
    assert (first["Accepted"]["status"], first["Realized"]["status"]) == ("True", "False")
    assert first["Realized"]["message"] == "not yet realized on one"
    reader.source.conditions.report({key: PolicyConditions()})
    reader.until(lambda: conditions(clean)["Realized"]["status"] == "True")
    version = clean.get("clusternetworkpolicy", "deny")["metadata"]["resourceVersion"]
    again = ConditionWriter(reader.source._api, reader.source._find_cluster_policy)
    again.start()
    again.report({key: PolicyConditions()})
    reader.until(lambda: again._known.get(key, ("", 0))[1] == int(version))
    again.stop()
    assert clean.get("clusternetworkpolicy", "deny")["metadata"]["resourceVersion"] == version


def test_a_definition_of_the_older_version_alone(clean: ApiServer, tmp_path: Path) -> None:
    older = definition(NEW)
    older["spec"]["versions"] = [
        {**one, "storage": True} for one in older["spec"]["versions"] if one["name"] == "v1alpha2"
    ]
    install(clean, older)
    clean.apply([{**POLICY, "apiVersion": f"{GROUP}/v1alpha2"}])
    with RunningSource(clean.credentials(tmp_path)) as reader:
        reader.wait_synced()
        (found,) = read(reader).values()
        reference = reader.source.find(found.key)
        assert found.key == Key("", "deny") and reference is not None
        assert reference.version == f"{GROUP}/v1alpha2"
        assert not reader.posted[-1].problems


def test_the_policies_that_came_before(clean: ApiServer, tmp_path: Path) -> None:
    for path in OLD:
        install(clean, definition(path))
    clean.apply([ADMIN])
    with RunningSource(clean.credentials(tmp_path)) as reader:
        reader.wait_synced()
        (found,) = read(reader).values()
        assert (found.key, found.kind) == (Key("", "adminnetworkpolicy:deny"), "AdminNetworkPolicy")
        reference = reader.source.find(found.key)
        assert reference is not None and reference.name == "deny"
