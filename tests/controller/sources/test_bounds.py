"""What one file or one object may cost is bounded, and grows with its length only.

Where a cost can be counted it is; else the documents are such as took minutes when a step was quadratic.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.sources.folder import documents, manifest
from controller.sources.folder.documents import DocumentError, read_documents
from controller.sources.folder.manifest import read_manifest
from controller.sources.store import MAX_LISTED_PROBLEMS as STORE_PROBLEMS
from controller.sources.store import Store
from flows.cluster.model import Policy
from flows.parse.objects import parse_object
from flows.parse.untrusted import MAX_ERRORS
from tests.helpers.cluster.broken_manifests import POD

META = {"name": "many", "namespace": "x"}


def bad_peers(count: int) -> dict[str, Any]:
    peers = [{"ipBlock": {"cidr": f"::ffff:10.{n // 256 % 256}.{n % 256}.0/120"}} for n in range(count)]
    spec = {"podSelector": {}, "ingress": [{"from": peers}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": META, "spec": spec}


@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 3 * MAX_ERRORS))
def test_the_faults_of_an_object_are_told_up_to_a_bound_and_then_counted(count: int) -> None:
    found = parse_object(bad_peers(count))
    assert found is not None
    assert isinstance(found.value, Policy)
    assert found.value.errors == tuple(map(str, found.errors))
    if count <= MAX_ERRORS + 1:
        assert len(found.errors) == count
    else:
        assert len(found.errors) == MAX_ERRORS + 1
        assert found.errors[-1].reason == f"and {count - MAX_ERRORS} more errors in this object"
    assert found.value.ingress == ((None,) if count else found.value.ingress), "a rule with a fault opens nothing"
    if count:
        assert found.value.ingress == (None,)


@pytest.mark.parametrize("version", ["extensions/v1beta1", "net.alpha.kubernetes.io/v1alpha1"])
def test_so_are_those_of_the_original_api(version: str) -> None:
    bad = [{"podSelector": {"matchLabels": {f"k{n}": 1}}, "pods": {f"k{n}": 1}} for n in range(300)]
    spec = {"podSelector": {}, "ingress": [{"from": bad}], "allowIncoming": {"from": bad}}
    found = parse_object({"apiVersion": version, "kind": "NetworkPolicy", "metadata": META, "spec": spec})
    assert found is not None
    assert len(found.errors) == MAX_ERRORS + 1
    assert found.errors[-1].reason.endswith(" more errors in this object")


def test_those_of_a_pod_too() -> None:
    labels = {f"k{n}": n for n in range(500)}
    found = parse_object({"apiVersion": "v1", "kind": "Pod", "metadata": {**META, "labels": labels}})
    assert found is not None
    assert len(found.errors) == MAX_ERRORS + 1


def test_the_problems_of_a_file_are_told_up_to_a_bound_and_then_counted() -> None:
    reading = read_manifest("---\n".join(["a: 1\n"] * 2000).encode(), "x.yaml", False)
    assert reading.has_errors
    assert len(reading.unit.problems) == manifest.MAX_FILE_PROBLEMS + 1
    assert reading.unit.problem_count == 2000
    last = reading.unit.problems[-1]
    assert (last.where, last.reason) == (
        "x.yaml",
        f"and {2000 - manifest.MAX_FILE_PROBLEMS} more problems in this file",
    )


def test_a_file_of_too_many_documents_is_not_read_and_named() -> None:
    reading = read_manifest(("a: 1\n---\n" * (documents.MAX_DOCUMENTS + 1)).encode(), "big.yaml", False)
    (problem,) = reading.unit.problems
    assert reading.has_errors
    assert problem.where == "big.yaml"
    assert problem.reason.startswith(f"has more than {documents.MAX_DOCUMENTS} documents: split the file")


def test_a_file_of_too_many_objects_is_not_read_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_OBJECTS", 3)
    reading = read_manifest("---\n".join(POD.format(f"p{n}") for n in range(4)).encode(), "big.yaml", False)
    assert (reading.has_errors, reading.unit.objects) == (True, ())
    assert reading.unit.problems[0].reason == "has more than 3 objects: split it"


class Counted(str):
    """A key that counts how often it is compared."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return str.__eq__(self, other) if isinstance(other, str) else NotImplemented

    __hash__ = str.__hash__


@pytest.mark.parametrize("count", [100, 1000, 10_000])
def test_finding_a_double_key_takes_a_step_a_key(count: int) -> None:
    pairs: list[tuple[str, Any]] = [(Counted(f"key-{n}"), n) for n in range(count)]
    pairs.append((Counted(f"key-{count - 1}"), 0))
    Counted.comparisons = 0
    with pytest.raises(DocumentError) as caught:
        documents._unique(pairs)
    assert caught.value.field == f"key-{count - 1}"
    assert Counted.comparisons <= 2 * count


def test_double_keys_in_json_are_named() -> None:
    body = ",".join(f'"key-{n}": 1' for n in range(60_000)) + ',"key-59999": 2'
    reading = read_manifest(("{" + body + "}").encode(), "x.json", True)
    (problem,) = reading.unit.problems
    assert (problem.field, problem.reason) == ("key-59999", "the key is in one object twice")


PRIME = 2**61 - 1  # Python's hash of n and of n + PRIME is the same


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        # PyYAML multiplies a base of ever more digits for each part.
        ("sexagesimal", "a: 1" + ":1" * 300_000, "cannot be read as int: it is too long"),
        ("float", "a: 1" + ":1" * 300_000 + ".5", "cannot be read as float: it is too long"),
        ("digits", "a: " + "9" * 1_000_000, "cannot be read as int: it is too long"),
        ("digits as a key", "9" * 500 + ": 1", "cannot be read as int: it is too long"),
        ("tagged", "a: !!int " + "9" * 1_000_000, "cannot be read as int: it is too long"),
        ("colliding keys", "\n".join(f"{1 + n * PRIME}: 1" for n in range(30_000)), "keys that are not text"),
        ("colliding floats", "\n".join(f"{n}.5: 1" for n in range(30_000)), "keys that are not text"),
        ("aliases", "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9)
        ), "aliases expand"),
        ("merges", "a: &a {" + ",".join(f"k{n}: 1" for n in range(2000)) + "}\nb:\n" + "- <<: *a\n" * 2000,
         "aliases expand"),
        ("depth", "a: " + "[" * 100_000, "nested deeper"),
        ("long key", "a" * 500 + ": !x 1", "is not allowed"),
        ("long tag", "a: !" + "x" * 100_000 + " 1", "is not allowed"),
        ("long alias", "a: *" + "x" * 100_000, "refers to nothing"),
    ],
)  # fmt: skip
def test_no_yaml_costs_more_than_its_length(name: str, text: str, reason: str) -> None:
    (document,) = read_documents(text, False)
    assert document.error is not None, name
    assert reason in document.error.reason
    assert len(document.error.reason) + len(document.error.field) < 1000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": ' + "9" * 1_000_000 + "}", "a number that is too long"),
        ('{"a": ' + "[" * 200_000 + "}", "nested too deeply"),
        ('{"a": NaN}', "has NaN"),
    ],
)
def test_no_json_does(text: str, reason: str) -> None:
    (document,) = read_documents(text, True)
    assert document.error is not None
    assert reason in document.error.reason


def test_many_documents_share_what_aliases_may_add() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    found = list(read_documents("---\n".join([bomb] * 500), False))
    expanded = sum(document.error is None for document in found)
    assert 50 < expanded < 300, "a file may expand to a bounded number of values, however many documents it has"


@settings(deadline=None, max_examples=50)
@given(parts=st.lists(st.sampled_from(["# comment\n", "\n", "   \n", "---\n", "...\n", "#\n", " \t\n"]), max_size=40))
def test_a_document_without_content_is_found_in_one_pass(parts: list[str]) -> None:
    text = "".join(parts)
    assert documents._NOTHING.match(text)
    assert not documents._NOTHING.match(text + "x")
    assert "*+" in documents._NOTHING.pattern, "no way back, so no second look at any of it"


def test_problems_of_all_sources_are_bounded_and_kept() -> None:
    posted: list[Any] = []
    store = Store(posted.append)

    class Source:
        """A source that says nothing by itself."""

    source: Any = Source()
    store.add(source)
    file = read_manifest("---\n".join(["a: 1\n"] * 200).encode(), "x", False).unit
    store.apply(source, {f"f{n}": file for n in range(200)})
    store.synced(source)
    store.flush()
    problems = posted[-1].problems
    assert len(problems) == STORE_PROBLEMS + 1
    assert problems[-1].reason == f"and {200 * (manifest.MAX_FILE_PROBLEMS + 1) - STORE_PROBLEMS} more problems"
    pod = read_manifest(POD.format("p").encode(), "y", False).unit
    store.apply(source, {"good": pod}, now=True)
    assert posted[-1].problems is problems, "what did not change is not put together again"
    store.apply(source, {f"f{n}": None for n in range(200)}, now=True)
    assert posted[-1].problems == ()
