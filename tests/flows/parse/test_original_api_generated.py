"""The original API on generated clusters: its translation has the meaning of the proposal's pseudo-code."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster, Direction, Key, Namespace
from flows.cluster.original_api import (
    ALPHA_ANNOTATION,
    ALPHA_API,
    BETA_ANNOTATION,
    BETA_API,
    OriginalPolicy,
    all_policies,
)
from flows.parse.objects import ParseError, parse_object
from flows.policy.explanation import Isolation
from flows.policy.reference import compile_policy
from flows.policy.verdict import verdict
from tests.helpers.cluster.generated_clusters import NAMESPACES, PORT_NAMES, PORT_NUMBERS, clusters, probes
from tests.helpers.cluster.original_api_verdict import OriginalApi

_quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

LABELS = st.dictionaries(st.sampled_from(("app", "tier")), st.sampled_from(("a", "b")), max_size=1)
ONE_LABEL = st.dictionaries(st.sampled_from(("app", "tier")), st.sampled_from(("a", "b")), min_size=1, max_size=1)
NAMESPACE_LABELS = st.one_of(
    LABELS, st.sampled_from(NAMESPACES).map(lambda name: {"kubernetes.io/metadata.name": name})
)
HIDDEN = st.sampled_from(("app", "missing")).map(lambda key: [{"key": key, "operator": "NotIn", "values": ["a"]}])
SELECTORS = st.fixed_dictionaries({}, optional={"matchLabels": LABELS, "matchExpressions": HIDDEN})
PORTS = st.fixed_dictionaries(
    {},
    optional={
        "port": st.sampled_from((*PORT_NUMBERS, *PORT_NAMES)),
        "protocol": st.sampled_from(("TCP", "UDP", "SCTP", "tcp", "udp")),
    },
)
ALPHA_PEERS = st.one_of(
    st.fixed_dictionaries({"pods": LABELS}),
    st.fixed_dictionaries({"namespaces": NAMESPACE_LABELS}),
    st.fixed_dictionaries({"pods": ONE_LABEL, "namespaces": NAMESPACE_LABELS}),
    st.fixed_dictionaries({"pods": ONE_LABEL, "namespaces": st.just({})}),
)
BETA_PEERS = st.one_of(
    st.fixed_dictionaries({"podSelector": SELECTORS}), st.fixed_dictionaries({"namespaceSelector": SELECTORS})
)


def some(things: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(things, max_size=2)


INCOMING = st.one_of(
    st.fixed_dictionaries({"from": some(ALPHA_PEERS)}),
    st.fixed_dictionaries({}, optional={"from": some(ALPHA_PEERS), "toPorts": some(PORTS)}),
)
INGRESS = some(st.fixed_dictionaries({}, optional={"from": some(BETA_PEERS), "ports": some(PORTS)}))
SPECS = {
    ALPHA_API: st.fixed_dictionaries({"podSelector": LABELS}, optional={"allowIncoming": INCOMING}),
    BETA_API: st.fixed_dictionaries({"podSelector": SELECTORS}, optional={"ingress": INGRESS}),
}
DENY = '{"ingress": {"isolation": "DefaultDeny"}}'
# Mostly isolated, because in other namespaces the policies have no effect.
ALPHA_TEXTS = st.sampled_from((None, "on", "on", "yes", "true", "off", "no", "false", "maybe", ""))
BETA_TEXTS = st.sampled_from(
    (None, DENY, DENY, DENY, "{}", '{"ingress": {}}', "{", "[]", '{"ingress": {"isolation": "x"}}')
)


@st.composite
def some_annotations(draw: st.DrawFn) -> dict[str, str]:
    found = {ALPHA_ANNOTATION: draw(ALPHA_TEXTS), BETA_ANNOTATION: draw(BETA_TEXTS)}
    return {key: text for key, text in found.items() if text is not None}


@st.composite
def some_policies(draw: st.DrawFn, api: str) -> tuple[dict[str, Any], ...]:
    """Up to four policies of one version of the API, with names that v1 policies have too."""
    count = draw(st.integers(1, 4))
    return tuple(
        {
            "apiVersion": api,
            "kind": "NetworkPolicy",
            "metadata": {"name": f"policy{number}", "namespace": draw(st.sampled_from(NAMESPACES))},
            "spec": draw(SPECS[api]),
        }
        for number in range(count)
    )


@dataclass(frozen=True)
class Mixed:
    """A cluster with v1 policies, the same with the original API's policies too, and the objects of these."""

    before: Cluster
    after: Cluster
    original: OriginalApi
    original_policies: tuple[OriginalPolicy, ...]


@st.composite
def mixed(draw: st.DrawFn) -> Mixed:
    before = draw(clusters())
    if draw(st.booleans()):
        before = replace(before, policies=MappingProxyType({}))
    annotations = {name: draw(some_annotations()) for name in before.namespaces}
    original = OriginalApi(annotations, draw(some_policies(ALPHA_API)), draw(some_policies(BETA_API)))
    namespaces: dict[str, Namespace] = {}
    for name, namespace in before.namespaces.items():
        metadata = {"name": name, "labels": dict(namespace.labels), "annotations": annotations[name]}
        read = parse_object({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        assert read is not None
        assert isinstance(read.value, Namespace)
        namespaces[name] = read.value
    original_policies = []
    for raw in (*original.alpha, *original.beta):
        read = parse_object(raw)
        assert read is not None
        assert isinstance(read.value, OriginalPolicy)
        assert not read.errors
        original_policies.append(read.value)
    policies = all_policies(before.policies, original_policies, namespaces.values())
    after = replace(before, namespaces=MappingProxyType(namespaces), policies=policies)
    return Mixed(before, after, original, tuple(original_policies))


@settings(_quick, max_examples=120)
@given(mixed())
def test_the_translation_has_the_meaning_of_the_proposal(case: Mixed) -> None:
    for probe in probes(case.after, 300):
        pod = case.after.pods[probe.destination.pod] if probe.destination.pod is not None else None
        if pod is not None and not case.original.isolates(pod) and probe.port != 80:
            continue  # a few of these are enough
        was, now = verdict(case.before, probe), verdict(case.after, probe)
        assert now.egress == was.egress
        if was.ingress.isolation not in (Isolation.ISOLATED, Isolation.NOT_ISOLATED):
            assert now.ingress == was.ingress  # itself, its own node, or not a subject of policy
            continue
        assert pod is not None
        isolated = was.ingress.isolation is Isolation.ISOLATED or case.original.isolates(pod)
        opened = bool(was.ingress.allowed_by) or case.original.opens(case.after, pod, probe)
        assert now.ingress.allowed == (opened or not isolated), now.explain()


@_quick
@given(mixed())
def test_reference_and_verdict_isolate_the_same_pods(case: Mixed) -> None:
    """`reference` isolates the pods that `verdict` isolates, and rules that match nothing compile to nothing."""
    compiled = compile_policy(case.after, case.after.pods)
    for key, pod in case.after.pods.items():
        v1 = {d for p in case.before.policies.values() for d in p.isolates if _selects(case.before, p.key, key)}
        original = {Direction.INGRESS} if pod.networked and case.original.isolates(pod) else set()
        assert compiled.isolated.get(key, frozenset()) == v1 | original
    for rule in compiled.rules:
        assert rule.subjects
        assert rule.peers != frozenset()


def _selects(cluster: Cluster, policy: Key, pod: Key) -> bool:
    found = compile_policy(replace(cluster, policies={policy: cluster.policies[policy]}), [pod])
    return pod in found.isolated


@_quick
@given(mixed())
def test_translated_names_are_unique_and_reversible(case: Mixed) -> None:
    added = set(case.after.policies) - set(case.before.policies)
    assert {key: case.after.policies[key] for key in case.before.policies} == dict(case.before.policies)
    own = {Key(one.key.namespace, f"{one.api}:{one.key.name}") for one in case.original_policies}
    assert own <= added
    assert {key.name for key in added - own} <= {"isolation:alpha", "isolation:beta"}
    assert all(policy.key == key for key, policy in case.after.policies.items())


@_quick
@given(mixed(), st.sampled_from(NAMESPACES))
def test_a_namespace_changes_its_own_policies_only(case: Mixed, name: str) -> None:
    """The policies of other namespaces are the same Python objects, so that identity shows them unchanged."""
    before = all_policies({}, case.original_policies, case.after.namespaces.values())
    changed = {**case.after.namespaces, name: Namespace(name)}
    after = all_policies({}, case.original_policies, changed.values())
    for key in before.keys() | after.keys():
        if key.namespace != name:
            assert after[key] is before[key]


WORDS = ("on", "off", "TCP", "{}", '{"ingress":5}', "DefaultDeny", "[" * 5000)
FIELDS = (
    "spec podSelector allowIncoming from pods namespaces toPorts port protocol ingress egress policyTypes ports "
    f"matchLabels namespaceSelector isolation metadata name annotations {ALPHA_ANNOTATION} {BETA_ANNOTATION}"
).split()
SINGLE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(WORDS))
KEYS = st.one_of(st.sampled_from(FIELDS), st.integers())
JUNK = st.recursive(
    SINGLE,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=25,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from((ALPHA_API, BETA_API)), JUNK, JUNK)
def test_junk_policies_never_raise_and_never_allow(api: str, spec: object, metadata: object) -> None:
    for meta in (metadata, {"name": "p"}):
        try:
            found = parse_object({"apiVersion": api, "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
        except ParseError:
            continue
        assert found is not None
        assert isinstance(found.value, OriginalPolicy)
        assert found.value.active.errors == tuple(map(str, found.errors))
        assert not found.value.inactive.isolates
        if api == ALPHA_API and found.errors:
            assert not any(found.value.active.ingress)


@settings(max_examples=300, deadline=None)
@given(JUNK)
def test_junk_annotations_never_raise_and_isolate(junk: object) -> None:
    """An annotation with an error isolates, unless the error is about egress only."""
    for given_ones in (junk, {ALPHA_ANNOTATION: junk}, {BETA_ANNOTATION: junk}, {BETA_ANNOTATION: json.dumps(junk)}):
        raw = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "annotations": given_ones}}
        found = parse_object(raw)
        assert found is not None
        assert isinstance(found.value, Namespace)
        if any("egress in it" not in error.reason for error in found.errors):
            assert found.value.isolation
