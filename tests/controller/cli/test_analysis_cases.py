"""Cases as analyzers of policies have them: manifests in; connections, differences and exposure out, as whole lists.

Written by hand, of the kinds that such tools are tried with: tiers of an application, named ports, ranges of ports with
gaps, expressions, namespaces by label, blocks with exceptions, workloads of several pods, and policies of the cluster.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.cli.matrix import ask, connection_lines
from controller.cli.plan_answer import read_changes
from controller.sources.offline import OfflineCluster, offline_manifests
from controller.status.plans import Present, plan_view
from flows.reach.exposure import exposures

SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: v1
kind: Namespace
metadata: {name: ops, labels: {team: ops}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db, tier: back}}
    spec: {containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: tool, namespace: ops}
spec:
  selector: {matchLabels: {app: tool}}
  template: {metadata: {labels: {app: tool}}, spec: {containers: [{name: c}]}}
"""
WEB, DB, TOOL, OUT = "shop/web[Deployment]", "shop/db[StatefulSet]", "ops/tool[Deployment]", "0.0.0.0-255.255.255.255"


def policy(name: str, selector: str, body: str) -> str:
    return f"""
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  podSelector: {selector}
{body}
"""


DENY = policy("deny", "{}", "  policyTypes: [Ingress]")
TO_DB = policy(
    "db", "{matchLabels: {app: db}}",
    "  ingress: [{from: [{podSelector: {matchLabels: {tier: front}}}], ports: [{port: sql}]}]",
)  # fmt: skip
RANGES = policy(
    "ranges", "{matchLabels: {app: web}}",
    """
  ingress:
  - from: [{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [ops, dev]}]}}]
    ports: [{port: 8000, endPort: 8079}, {port: http}, {port: 9000}, {protocol: UDP, port: 53}]
""",
)  # fmt: skip
BLOCK = policy(
    "block", "{matchExpressions: [{key: app, operator: NotIn, values: [db]}]}",
    "  ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}], ports: [{port: 443}]}]",
)  # fmt: skip
ADMIN = """
---
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {name: no-ops}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {namespaceSelector: {matchLabels: {team: shop}}, podSelector: {matchLabels: {app: db}}}}
  ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: ops}}}]}]
"""


def read(folder: Path, *parts: str) -> OfflineCluster:
    path = folder / "all.yaml"
    path.write_text(SHOP + "".join(parts))
    found = offline_manifests([str(path)])
    assert not found.problems
    return found


def lines(cluster: OfflineCluster) -> set[str]:
    """What is reached over IPv4, but for what the shop and the tool open to outside."""
    found = connection_lines(ask(cluster.cluster, "workload", ""))
    return {one for one in found if "::" not in one and not one.partition(" => ")[2].startswith(("0.", "192."))}


EVERY = "All Connections"
ALL_FROM_DB = {f"{DB} => {TOOL} : {EVERY}", f"{WEB} => {TOOL} : {EVERY}", f"{OUT} => {TOOL} : {EVERY}"}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((DENY,), set()),
        ((DENY, TO_DB), {f"{WEB} => {DB} : TCP 5432"}),
        ((DENY, RANGES), {f"{TOOL} => {WEB} : TCP 8000-8080,9000,UDP 53"}),
        ((DENY, TO_DB, ADMIN), {f"{WEB} => {DB} : TCP 5432"}),
        (
            (RANGES, ADMIN),
            {f"{TOOL} => {WEB} : TCP 8000-8080,9000,UDP 53", f"{WEB} => {DB} : {EVERY}", f"{OUT} => {DB} : {EVERY}"},
        ),
    ],
)
def test_connections(parts: tuple[str, ...], expected: set[str], tmp_path: Path) -> None:
    assert lines(read(tmp_path, *parts)) - ALL_FROM_DB == expected


def test_a_block_with_an_exception(tmp_path: Path) -> None:
    found = {one for one in lines(read(tmp_path, DENY, BLOCK)) if WEB in one}
    assert f"192.0.2.0-192.0.2.127 => {WEB} : TCP 443" in found
    assert not [one for one in found if "192.0.2.128" in one.partition(" => ")[0]]


def test_differences(tmp_path: Path) -> None:
    before = read(tmp_path, DENY, TO_DB)
    change = tmp_path / "change.yaml"
    change.write_text(TO_DB.replace("port: sql", "port: 5433") + RANGES)
    found = plan_view(Present(before.cluster), read_changes([str(change)], []))
    told = {(one.kind, one.sources, one.destinations, one.before.text, one.after.text) for one in found.reach}
    assert told == {
        ("changed", (WEB,), (DB,), "TCP 5432", "TCP 5433"),
        ("added", (TOOL,), (WEB,), "No Connections", "TCP 8000-8080,9000,UDP 53"),
    }
    gone = tmp_path / "gone.yaml"
    gone.write_text(TO_DB)
    found = plan_view(Present(before.cluster), read_changes([], [str(gone)]))
    assert [(one.kind, one.sources, one.destinations) for one in found.reach] == [("removed", (WEB,), (DB,))]


def test_exposure(tmp_path: Path) -> None:
    found = exposures(read(tmp_path, DENY, TO_DB, RANGES, ADMIN).cluster).found
    assert [(one.workload, one.peer, one.ports) for one in found if one.direction == "ingress"] == [
        (TOOL, "any pod", EVERY),
        (DB, "pods with tier=front in namespace shop", "TCP 5432"),
        (WEB, "pods in namespaces with team in (dev, ops)", "TCP 8000-8080,9000,UDP 53"),
        (WEB, "pods in namespaces with team=ops", "TCP 8000-8080,9000,UDP 53"),
    ]  # fmt: skip
