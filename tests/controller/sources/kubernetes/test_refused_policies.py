"""What an API server refuses as a policy of the whole cluster, a manifest of Headgate's never says in silence.

The judge is a real API server with upstream's definitions, asked with `dryRun` and strict validation of fields. Each
manifest is a whole one that is broken at one place, in every way there is: so nobody has to think of the ways.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes
import pytest
import yaml

from flows.parse.objects import parse_object
from flows.parse.untrusted import ParseError
from tests.controller.sources.kubernetes.test_cluster_policies import NEW, OLD, definition, install
from tests.flows.parse.test_mutated_cluster_policies import places
from tests.helpers.api_server.server import ApiServer

pytestmark = [pytest.mark.api, pytest.mark.slow]

GROUP = "policy.networking.k8s.io"
SELECTOR: dict[str, Any] = {
    "matchLabels": {"ns": "x"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
}  # fmt: skip
PODS: dict[str, Any] = {"pods": {"namespaceSelector": SELECTOR, "podSelector": SELECTOR}}
NEW_SPEC: dict[str, Any] = {
    "tier": "Admin", "priority": 5, "subject": PODS,
    "ingress": [{"name": "in", "action": "Pass", "from": [PODS, {"namespaces": SELECTOR}],
                 "protocols": [{"destinationNamedPort": "web"}, {"sctp": {"destinationPort": {"number": 1}}}]}],
    "egress": [
        {"name": "out", "action": "Accept", "to": [{"networks": ["10.0.0.0/8", "fd00::/64"]}, {"nodes": SELECTOR},
                                                   {"domainNames": ["*.example.com", "example.com"]}],
         "protocols": [{"tcp": {"destinationPort": {"number": 80}}},
                       {"udp": {"destinationPort": {"range": {"start": 1, "end": 2}}}}]},
        {"action": "Deny", "to": [{"namespaces": {}}]},
    ],
}  # fmt: skip
OLD_RULES: dict[str, Any] = {
    "ingress": [{"name": "in", "action": "Deny", "from": [PODS, {"namespaces": SELECTOR}],
                 "ports": [{"namedPort": "web"}, {"portNumber": {"protocol": "SCTP", "port": 1}}]}],
    "egress": [{"action": "Allow", "to": [{"networks": ["10.0.0.0/8"]}, {"nodes": SELECTOR}],
                "ports": [{"portRange": {"protocol": "UDP", "start": 1, "end": 2}}]}],
}  # fmt: skip
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ClusterNetworkPolicy": ("v1beta1", "clusternetworkpolicies", NEW_SPEC),
    "AdminNetworkPolicy": ("v1alpha1", "adminnetworkpolicies", {"priority": 5, "subject": PODS, **OLD_RULES}),
    "BaselineAdminNetworkPolicy": ("v1alpha1", "baselineadminnetworkpolicies", {"subject": PODS, **OLD_RULES}),
}
JUNK: tuple[Any, ...] = (
    None, "", "x", "Accept", "ALLOW", "10.0.0.1/8", "::ffff:10.0.0.0/104", "*", "a..b", "x" * 254, 5, -1, 0, 65536,
    1001, 0.5, True, [], {}, [None], [{}], {"new": {}}, ["x"] * 26, [["x"]],
)  # fmt: skip
MOST = 300  # of each kind: a sample by a seed


def broken(spec: Any) -> Iterator[Any]:
    """The spec with one change, for each place and way."""
    for path in places(spec):
        for how in ("drop", "rename", "add", *range(len(JUNK))):
            found = json.loads(json.dumps(spec))
            parent = found
            for key in path[:-1]:
                parent = parent[key]
            key = path[-1]
            if how == "drop":
                del parent[key]
            elif how == "rename" and isinstance(parent, dict):
                parent[f"{key}s"] = parent.pop(key)
            elif how == "add" and isinstance(parent[key], dict):
                parent[key]["services"] = {}
            elif isinstance(how, int):
                parent[key] = JUNK[how]
            else:
                continue
            yield found


@pytest.fixture(scope="module")
def refusal(api: ApiServer) -> Iterator[Callable[[str, Any], str]]:
    """Asks the API server for its opinion of a manifest: why it refuses it, or ""."""
    for path in (NEW, *OLD):
        install(api, definition(path))
    user = yaml.safe_load(api.kubeconfig.read_text())["users"][0]["user"]
    client: Any = kubernetes.config.new_client_from_config(str(api.kubeconfig))  # type: ignore[no-untyped-call]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {user['token']}"}

    def ask(plural: str, manifest: Any) -> str:
        where = f"{client.configuration.host}/apis/{manifest['apiVersion']}/{plural}?dryRun=All&fieldValidation=Strict"
        answer = client.rest_client.pool_manager.request("POST", where, body=json.dumps(manifest), headers=headers)
        return "" if answer.status == 201 else str(json.loads(answer.data)["message"])

    yield ask
    for path in (NEW, *OLD):
        api.try_kubectl("delete", "--ignore-not-found", "-f", str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_api_server_refuses_is_never_read_in_silence(
    refusal: Callable[[str, Any], str], kind: str, record_property: Callable[[str, object], None]
) -> None:
    version, plural, spec = KINDS[kind]
    ways = list(broken(spec))
    asked = random.Random(14).sample(ways, min(MOST, len(ways)))
    silent, refused = list[str](), 0
    for one in (spec, *asked):
        manifest = {
            "apiVersion": f"{GROUP}/{version}", "kind": kind, "metadata": {"name": "default"}, "spec": one,
        }  # fmt: skip
        said = refusal(plural, manifest)
        try:
            found = parse_object(manifest)
            errors = [] if found is None else [str(error) for error in found.errors]
        except ParseError as error:
            errors = [str(error)]
        refused += bool(said)
        if said and not errors:
            silent.append(said)
    record_property("counted", f"{kind}: {len(asked)} broken manifests, {refused} refused by the API server")
    assert not silent, f"{len(silent)} are read in silence: {silent[:9]}"
    assert refused > len(asked) / 2
