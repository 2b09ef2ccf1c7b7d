"""Recommended policies allow everything that was seen, and of other connections nothing beyond the same labels."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster, Direction, Key, Namespace, Node, Pod, Policy, Protocol, Rule, Selector
from flows.cluster.net import parse_address
from flows.policy.probe import Probe
from flows.policy.verdict import verdict
from flows.reach.recommend import CountedRule, Seen, SeenEnd, evidence_text, recommend
from tests.helpers.cluster.generated_clusters import clusters, probes


def seen_of(cluster: Cluster, probe: Probe) -> Seen | None:
    if probe.port is None or any(end.node is not None for end in (probe.source, probe.destination)):
        return None
    ends = [
        SeenEnd(end.address, end.pod, cluster.pods[end.pod].workload if end.pod is not None else "")
        for end in (probe.source, probe.destination)
    ]
    return Seen(ends[0], ends[1], Protocol(probe.protocol), probe.port, 2, "2026-11-29T12:00:00.000Z")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(cluster=clusters(), data=st.data())
def test_what_was_seen_stays_allowed_and_all_else_of_the_workloads_is_denied(
    cluster: Cluster, data: st.DataObject
) -> None:
    owners = [address for pod in cluster.pods.values() for address in pod.addresses]
    assume(len(owners) == len(set(owners)))  # labels of one pod never allow another with its address
    possible = [(probe, one) for probe in probes(cluster, 60) if (one := seen_of(cluster, probe)) is not None]
    assume(possible)
    chosen = data.draw(st.lists(st.sampled_from(possible), min_size=1, max_size=5))
    found = recommend(cluster, "x", [one for _, one in chosen])
    policies = {one.policy.key: one.policy for one in found.policies}
    after = replace(cluster, policies=MappingProxyType(policies))
    if not any("left out" in note for note in found.notes):
        for probe, _ in chosen:
            assert verdict(after, probe).allowed
    allowed = {(one.protocol, one.port) for _, one in chosen}
    for probe in probes(cluster, 60):
        answer = verdict(after, probe)
        for end in (answer.egress, answer.ingress):
            if end.isolated_by and end.allowed_by:
                assert (probe.protocol, probe.port) in allowed
    assert all(set(one.policy.isolates) == set(Direction) for one in found.policies)


def pod(name: str, address: str, labels: dict[str, str], workload: str = "", namespace: str = "shop") -> Pod:
    return Pod(Key(namespace, name), labels, "n1", "", (parse_address(address),), workload=workload)


WEB = [pod(f"web-{n}", f"10.0.0.{n}", {"app": "web", "pod-template-hash": f"h{n}"}, "Deployment/web") for n in (1, 2)]
DB = pod("db", "10.0.0.9", {"app": "db"}, "StatefulSet/db")
BARE = pod("bare", "10.0.0.8", {})
DNS = pod("dns", "10.0.0.53", {"k8s-app": "kube-dns"}, namespace="kube-system")
SHOP = Cluster(
    MappingProxyType({name: Namespace(name) for name in ("shop", "kube-system")}),
    MappingProxyType({one.key: one for one in (*WEB, DB, BARE, DNS)}),
    MappingProxyType({"n1": Node("n1", (parse_address("192.0.2.1"),))}),
    MappingProxyType({Key("shop", "old"): Policy(Key("shop", "old"))}),
)


def end(one: Pod | str) -> SeenEnd:
    return SeenEnd(parse_address(one)) if isinstance(one, str) else SeenEnd(one.addresses[0], one.key, one.workload)


def seen(source: Pod | str, target: Pod | str, port: int | None = 5432, last: str = "2026") -> Seen:
    return Seen(end(source), end(target), Protocol.TCP if port else None, port, 3, last)


def test_workloads_are_selected_by_labels_that_last_and_names_are_resolved() -> None:
    found = recommend(SHOP, "shop", [seen(WEB[0], DB), seen(WEB[1], DB, last="2027"), seen("198.51.100.7", WEB[0], 80)])
    web, db = sorted(found.policies, key=lambda one: one.policy.key.name, reverse=True)
    assert [one.policy.key.name for one in (web, db)] == ["seen-web", "seen-db"]
    assert [one.key for one in web.policy.subjects.requirements] == ["app"]
    assert len(web.policy.egress) == 2 and len(web.policy.ingress) == 1 and db.policy.egress == ()
    assert any("names are resolved here" in evidence_text(one) for one in web.evidence.values())
    text = evidence_text(db.evidence["ingress[0]"])
    assert text.startswith("seen 6 times, last 2027: pod shop/web-1 to pod shop/db and 1 more")
    assert found.replaces == (Key("shop", "old"),)


def test_what_cannot_be_said_exactly_is_told() -> None:
    gone = SeenEnd(parse_address("10.0.0.77"), Key("shop", "gone"), "Job/gone")
    some = [seen(BARE, DB), seen(WEB[0], DB, None), seen("192.0.2.1", DB), seen(WEB[0], DB)._replace(source=gone)]
    found = recommend(SHOP, "shop", some)
    text = "\n".join(found.notes)
    assert "shop/bare has no labels" in text and "shop/gone is gone" in text and "without ports" in text
    assert all(rule is None or not rule.peers for one in found.policies for rule in one.policy.ingress)


def test_rules_that_counted_what_was_not_audited_are_kept() -> None:
    counted = CountedRule(Selector(), Direction.INGRESS, Rule(), "shop/old ingress[0]", 12)
    found = recommend(SHOP, "shop", [seen(WEB[0], DB)], [counted])
    assert all(Rule() in one.policy.ingress for one in found.policies)
    assert all(counted in [each.counted for each in one.evidence.values()] for one in found.policies)
    assert not recommend(SHOP, "other", [seen(WEB[0], DB)]).policies
