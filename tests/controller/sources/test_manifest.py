"""One manifest file: which objects stand in it, and how what is wrong is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.problem import Problem
from controller.sources.folder.manifest import read_manifest
from flows.cluster.model import Key, Pod, Policy
from tests.helpers.cluster.broken_manifests import BROKEN, POD, POLICY


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_named(name: str) -> None:
    case = BROKEN[name]
    data = case.text if isinstance(case.text, bytes) else case.text.encode()
    reading = read_manifest(data, "x", case.name.endswith(".json"))
    assert tuple(map(str, reading.unit.objects)) == case.objects
    assert len(reading.unit.problems) == len(case.problems)
    for problem, (document, line, field, reason) in zip(reading.unit.problems, case.problems, strict=True):
        assert problem.where == (f"x, document {document} (line {line})" if document else "x")
        assert problem.field == field
        assert reason in problem.reason
    assert reading.has_errors is (name != "an object twice")


POD_OBJECT = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("# nothing\n---\n---\n...\n", []),
        ("---\n" + POD.format("a"), ["a"]),
        ("\ufeff" + POD.format("a"), ["a"]),
        (POD.format("a").replace("\n", "\r\n") + "---\r\n" + POD.format("b"), ["a", "b"]),
        (POD.format("a") + "--- # next\n" + POD.format("b") + "...\n---\n", ["a", "b"]),
        (json.dumps(POD_OBJECT), ["a"]),
        (json.dumps({"apiVersion": "v1", "kind": "List", "items": [POD_OBJECT]}), ["a"]),
        (json.dumps({"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "a"}}]}), ["a"]),
        (json.dumps({"apiVersion": "v1", "kind": "PodList", "items": None}), []),
        (json.dumps({"kind": "List", "items": [{"kind": "List", "items": [POD_OBJECT]}]}), ["a"]),
        (json.dumps({"apiVersion": "example.com/v1", "kind": "AllowList", "spec": {}}), []),
        ("base: &m {name: a}\napiVersion: v1\nkind: Pod\nmetadata: {<<: *m, namespace: b}\n", ["a"]),
        ("kind: Secret\napiVersion: v1\ndata: {x: 2024-01-01, y: 0x1f, z: .inf}\n", []),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a}}", ["a"]),
        (POD.format("a") + "  annotations:\n    note: |\n      --- not a separator\n", ["a"]),
    ],
)  # fmt: skip
def test_good_files(text: str, names: list[str]) -> None:
    reading = read_manifest(text.encode(), "x", False)
    assert reading.unit.problems == ()
    assert not reading.has_errors
    assert [found.name.name for found in reading.unit.objects if isinstance(found.name, Key)] == names


def test_merged_keys_give_way_to_own_ones() -> None:
    text = "a: &a {name: x, namespace: y}\napiVersion: v1\nkind: Pod\nmetadata: {<<: [*a, {uid: u}], name: own}\n"
    (found,) = read_manifest(text.encode(), "x", False).unit.objects
    assert found.value == Pod(Key("y", "own"), uid="u")


def test_a_defective_policy_carries_its_defects() -> None:
    text = POLICY.format("p") + "  ingress: [{from: [{}]}]\n"
    (found,) = read_manifest(text.encode(), "x", False).unit.objects
    assert isinstance(found.value, Policy)
    assert found.value.ingress == (None,)
    assert len(found.value.errors) == 1


def test_an_object_given_twice_counts_as_it_stands_last() -> None:
    text = POD.format("a") + "  uid: one\n---\n" + POD.format("a") + "  uid: two\n"
    reading = read_manifest(text.encode(), "x", False)
    assert [found.value for found in reading.unit.objects] == [Pod(Key("default", "a"), uid="two")]


def test_nothing_unprintable_gets_into_problems() -> None:
    pod = '{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "\\u001b[31m", "labels": {"\\n": "x"}}}'
    for text in (pod, '"\\e[0m": {"\\n": &x [*x]}'):
        (problem,) = read_manifest(text.encode(), "x", False).unit.problems
        assert (problem.field + problem.reason + problem.key).isprintable()


WORDS = "kind Pod apiVersion v1 metadata name List items 1 yes 2024-01-01 ~ ü ... << !!int !x &a *a a --- -"
PIECES = st.sampled_from([*WORDS.split(), *"\n:{}[]|>'\"#%?\t\x00 ", ": ", "- ", "  "])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.lists(PIECES, max_size=40).map(lambda parts: "".join(parts).encode()), st.booleans())
def test_no_bytes_make_it_raise(data: bytes, is_json: bool) -> None:
    reading = read_manifest(data, "x", is_json)
    assert all(isinstance(problem, Problem) and problem.reason for problem in reading.unit.problems)
    if reading.has_errors:
        assert reading.unit.problems


def test_kinds_that_are_none_of_ours_are_counted() -> None:
    other = "apiVersion: v1\nkind: Secret\n---\n"
    reading = read_manifest((other * 3 + POD.format("a")).encode(), "x", False)
    assert (reading.has_errors, dict(reading.unit.ignored)) == (False, {"Secret (v1)": 3})
    many = "---\n".join(f"apiVersion: example.com/v1\nkind: Kind{n}x\n" for n in range(30))
    ignored = read_manifest(many.encode(), "x", False).unit.ignored
    assert len(ignored) == 21
    assert ignored["objects of other kinds"] == 10


@pytest.mark.parametrize("kind", ["list", "podlist", "NetworkPolicylist"])
def test_a_list_that_is_misspelt_is_told(kind: str) -> None:
    reading = read_manifest(json.dumps({"apiVersion": "v1", "kind": kind, "items": [POD_OBJECT]}).encode(), "x", True)
    assert reading.has_errors
    assert reading.unit.problems[0].reason.startswith("did you mean ")
