"""What manifests would change is found out as a whole, and finding out changes nothing: on generated manifests."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.cli.lab.manifests import line_of
from tests.topology.conftest import SMALL
from topology.lab.changes import VERB_NOT_FOUND, GivenManifest, ManifestError, carry_out, to_apply, to_delete
from topology.lab.lab import Lab
from topology.lab.manifests import cluster_objects, object_name
from topology.spec.load import check_topology


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab whose manifests are there and whose network is not: none of this needs any."""
    with tempfile.TemporaryDirectory() as folder:
        made = Lab(check_topology(SMALL, "test", "t"), Path(folder))
        made.manifests.path.mkdir(parents=True)
        made.manifests.put(cluster_objects(made.topology, made.endpoints))
        yield made


def given_all(items: list[dict[str, Any]]) -> list[GivenManifest]:
    return [GivenManifest(item, f"f{number}:{{}}".format) for number, item in enumerate(items)]


def content(lab: Lab) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in lab.manifests.path.iterdir()}


def policy(name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def pod(name: str, labels: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "x", "labels": labels}, **more}


def namespace(labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": labels}}


NAMES = st.sampled_from(["p", "q", "r"])
LABELS = st.dictionaries(st.sampled_from("kl"), st.sampled_from("vw"), max_size=2)
GOOD = st.one_of(
    st.builds(policy, NAMES, st.just("x"), st.just({}) | st.just({"podSelector": {}})),
    st.builds(pod, st.sampled_from("ab"), LABELS),
    st.builds(namespace, LABELS),
)
FAULTY = st.one_of(
    st.builds(policy, NAMES, st.sampled_from(["y", "xx"]), st.just({})),
    st.builds(pod, st.sampled_from("ab"), LABELS, spec=st.just({"nodeName": "three"})),
    st.builds(pod, st.sampled_from("ab"), LABELS, status=st.just({"podIPs": [{"ip": "10.10.9.9"}]})),
    st.builds(pod, st.just("new"), LABELS, spec=st.just({"nodeName": "three"})),
    st.just({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "three"}}),
)


@settings(max_examples=40)
@given(st.lists(GOOD | FAULTY, max_size=4), st.lists(FAULTY, min_size=1, max_size=3), st.randoms())
def test_with_any_fault_nothing_changes_and_each_is_told(
    lab: Lab, some: list[dict[str, Any]], faulty: list[dict[str, Any]], order: Any
) -> None:
    items = [*some, *faulty]
    order.shuffle(items)
    before = content(lab)
    with pytest.raises(ManifestError) as caught:
        to_apply(lab, given_all(items))
    assert content(lab) == before
    told = {fault.split(":")[0] for fault in caught.value.problems}
    assert {f"f{number}" for number, item in enumerate(items) if item in faulty} <= told


@settings(max_examples=30)
@given(st.lists(GOOD, min_size=1, max_size=6))
def test_what_was_said_is_what_is_done_and_then_all_is_unchanged(lab: Lab, items: list[dict[str, Any]]) -> None:
    before = {object_name(item): item for item in lab.manifests.objects()}
    steps = to_apply(lab, given_all(items))
    assert {object_name(item): item for item in lab.manifests.objects()} == before
    carry_out(lab, steps)
    after = {object_name(item): item for item in lab.manifests.objects()}
    said: dict[str, set[str]] = {}
    for step in steps:
        said.setdefault(step.name, set()).add(step.verb)
    assert set(after) - set(before) == {name for name, verbs in said.items() if "created" in verbs}
    for name in before:
        if before[name] != after[name]:
            assert "configured" in said[name]
    last = {object_name(item): item for item in items}
    assert {step.verb for step in to_apply(lab, given_all(list(last.values())))} == {"unchanged"}
    own = [policy(name, "x", {}) for name in "pqr"]
    gone = to_delete(lab, given_all(own))
    assert [step.verb == VERB_NOT_FOUND for step in gone] == [object_name(item) not in after for item in own]
    carry_out(lab, gone)
    assert not [item for item in lab.manifests.objects() if item["kind"] == "NetworkPolicy"]


VALUES = st.recursive(
    st.just(None),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
    max_leaves=12,
)


def numbered(value: Any, numbers: Iterator[int], path: str, places: dict[str, int]) -> Any:
    """The value with another number at each leaf, and the path of each."""
    if isinstance(value, dict):
        return {key: numbered(one, numbers, f"{path}.{key}".lstrip("."), places) for key, one in value.items()}
    if isinstance(value, list):
        return [numbered(one, numbers, f"{path}[{index}]", places) for index, one in enumerate(value)]
    places[path] = next(numbers)
    return places[path]


@given(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), st.integers(0, 3), st.booleans())
def test_the_line_told_is_that_of_the_value(value: dict[str, Any], before: int, flow: bool) -> None:
    places: dict[str, int] = {}
    document = numbered(value, itertools.count(1000), "", places)
    text = "# nothing\n" * before + "---\n" + yaml.safe_dump(document, default_flow_style=flow, width=20)
    lines = text.splitlines()
    for path, number in places.items():
        line = line_of(text, before + 2, path)
        # In the flow style a value may stand on the line after its key.
        assert str(number) in " ".join(lines[line - 1 : line + (1 if flow else 0)])
