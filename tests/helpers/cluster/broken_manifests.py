"""Broken manifests, each with the problems that reading it must report: data for the tests of manifests."""

from __future__ import annotations

from typing import NamedTuple

POD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n"
POLICY = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {}\nspec:\n  podSelector: {{}}\n"


class Broken(NamedTuple):
    """A file's contents, the objects that can be used, and the problems: document, line, field, part of the reason."""

    text: str | bytes
    objects: tuple[str, ...]
    problems: tuple[tuple[int, int, str, str], ...]
    name: str = "x.yaml"


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join(lines)


BROKEN: dict[str, Broken] = {
    "syntax error": Broken("a: b: c\n", (), ((1, 1, "", "mapping values are not allowed"),)),
    "tab": Broken("a:\n\tb: c\n", (), ((1, 1, "", "cannot start any token (line 2)"),)),
    "one document of three": Broken(
        POD.format("a") + "---\n{\n---\n" + POD.format("b"),
        ("Pod default/a", "Pod default/b"),
        ((2, 6, "", "is not YAML"),),
    ),
    "documents that hold nothing are not counted": Broken(
        "# licence\n---\n\n---\n" + POD.format("a") + "---\n5\n",
        ("Pod default/a",),
        ((2, 10, "", "must be an object"),),
    ),
    "a key twice": Broken(
        POD.format("a") + "  labels: {a: b}\n  labels: {c: d}\n",
        (),
        ((1, 1, "metadata.labels", "is in one object twice (line 6)"),),
    ),
    "a label that is no text": Broken(
        POD.format("a") + "  labels: {on: x, b: yes, c: 2024-01-01, d: 1.10, e: f}\n",
        ("Pod default/a",),
        (
            (1, 1, "metadata.labels[the boolean true]", "the key must be a string, not the boolean true; quote it"),
            (1, 1, "metadata.labels[b]", "must be a string, not the boolean true; quote it"),
            (1, 1, "metadata.labels[c]", "must be a string, not a date; quote it"),
            (1, 1, "metadata.labels[d]", "must be a string, not the number 1.1; quote it"),
        ),
    ),
    "an item of a list": Broken(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: Pod, metadata: {name: A}}\n",
        ("Pod default/a",),
        ((1, 1, "items[1].metadata.name", "lower case"),),
    ),
    "items is an object": Broken(
        "{apiVersion: v1, kind: PodList, items: {}}", (), ((1, 1, "items", "must be a list"),)
    ),
    "a defective policy": Broken(
        POLICY.format("p") + "  ingress:\n  - ports: [{port: 0}]\n",
        ("NetworkPolicy default/p",),
        ((1, 1, "spec.ingress[0].ports[0].port", "between 1 and 65535"),),
    ),
    "no kind": Broken("apiVersion: v1\n", (), ((1, 1, "kind", "is required"),)),
    "a foreign tag": Broken("a: !!python/object/apply:os.system [x]\n", (), ((1, 1, "a", "is not allowed"),)),
    "an alias bomb": Broken(_bomb(), (), ((1, 1, "a4[7]", "aliases expand to more"),)),
    "an alias to itself": Broken("a: &a [*a]\n", (), ((1, 1, "a[0]", "refers to nothing"),)),
    "deep nesting": Broken("[" * 100_000, (), ((1, 1, "[0]" * 100, "nested deeper"),)),
    "deep nesting of objects": Broken("{a: " * 100_000, (), ((1, 1, ".".join("a" * 100), "nested deeper"),)),
    "deep nesting in JSON": Broken("[" * 100_000, (), ((1, 1, "", "nested too deeply"),), "x.json"),
    "lists in lists": Broken(
        '{"kind": "List", "apiVersion": "v1", "items": [' * 12 + "]}" * 12,
        (),
        ((1, 1, ".".join(["items[0]"] * 10), "lists inside lists"),),
        "x.json",
    ),
    "a number too long": Broken("a: " + "9" * 5000, (), ((1, 1, "a", "cannot be read as int"),)),
    "a number too long in JSON": Broken('{"a": ' + "9" * 5000 + "}", (), ((1, 1, "", "too long"),), "x.json"),
    "NaN": Broken('{"a": NaN}', (), ((1, 1, "", "NaN"),), "x.json"),
    "JSON syntax": Broken('{\n"a": }', (), ((1, 1, "", "(column 6) (line 2)"),), "x.json"),
    "a key twice in JSON": Broken('{"a": 1, "a": 2}', (), ((1, 1, "a", "is in one object twice"),), "x.json"),
    "control characters": Broken("a: '\x01'\n", (), ((1, 1, "", "control characters"),)),
    "not UTF-8": Broken(b"a: b\nc: \xff\n", (), ((0, 0, "", "not UTF-8 text (line 2)"),)),
    "UTF-16": Broken(POD.format("a").encode("utf-16"), (), ((0, 0, "", "not UTF-8"),)),
    "an object twice": Broken(
        POD.format("a") + "---\n" + POD.format("a"),
        ("Pod default/a",),
        ((0, 0, "", "more than once; the last one takes precedence"),),
    ),
}
