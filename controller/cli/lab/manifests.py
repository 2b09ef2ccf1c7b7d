"""Reads the files of `headgate lab apply` and `delete` as the controller reads its folder, with problems by line.

Nothing is written here; see `topology.lab.changes` for what a lab does with the objects.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from controller.base.printable import printable
from controller.cli.errors import CommandFailure
from controller.reconcile.problem import Problem
from controller.sources.folder.documents import Document, DocumentError, read_documents
from controller.sources.folder.manifest import join_path, list_items, read_manifest
from flows.parse.objects import ParseError, parse_object
from topology.errors import LabError
from topology.lab.changes import GivenManifest
from topology.lab.manifests import check_manifest, object_name

MAX_PROBLEMS_SHOWN = 20  # of all files; the others are only counted
_DOCUMENT = re.compile(r", document \d+ \(line (\d+)\)\Z")
_AT_LINE = re.compile(r" \(line (\d+)\)\Z")
_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")


class ReadManifests:
    """The objects of some files, and the names of objects of other kinds, which are ignored."""

    def __init__(self) -> None:
        self.given: list[GivenManifest] = []
        self.ignored: list[str] = []


def read_files(names: Sequence[str], whole: bool) -> ReadManifests:
    """Read files, `-` for standard input. Raises CommandFailure with all problems of all files.

    Without `whole`, objects need only kind and name, which is enough to delete them.
    """
    found = ReadManifests()
    problems: list[str] = []
    for name in names:
        shown = "standard input" if name == "-" else name
        data = _bytes(name, shown)
        problems += _problems_of(data, shown, name.endswith(".json")) if whole else []
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            problems += [] if whole else [f"{shown}: is not UTF-8 text: save it as UTF-8"]
            continue
        for document in read_documents(text, name.endswith(".json")):
            try:
                _add_objects(document, shown, text, found)
            except (LabError, DocumentError, ParseError) as error:
                problems += [] if whole else [f"{shown}:{document.line}: {printable(str(error))}"]
    raise_problems(problems)
    return found


def raise_problems(problems: Sequence[str]) -> None:
    """Raise CommandFailure if there are problems; a single one is printed on one line."""
    if len(problems) == 1:
        raise CommandFailure(f"{problems[0]}; nothing was changed")
    if problems:
        more = [f"and {len(problems) - MAX_PROBLEMS_SHOWN} more"] if len(problems) > MAX_PROBLEMS_SHOWN else []
        raise CommandFailure(
            "\n  ".join((f"{len(problems)} problems; nothing was changed:", *problems[:MAX_PROBLEMS_SHOWN], *more))
        )


def _bytes(name: str, shown: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise CommandFailure(f"{shown}: {error.strerror or error}; nothing was changed") from error


def _problems_of(data: bytes, shown: str, is_json: bool) -> list[str]:
    """The problems that the controller would report of the file, each with its line."""
    text = data.decode("utf-8-sig", "replace")
    problems = read_manifest(data, shown, is_json).unit.problems
    # Finding a line costs as much as parsing the file: only for those that are shown.
    return [
        _with_line(one, shown, text) if number < MAX_PROBLEMS_SHOWN else shown for number, one in enumerate(problems)
    ]


def _with_line(problem: Problem, shown: str, text: str) -> str:
    document = _DOCUMENT.search(problem.where)
    at, reason = _AT_LINE.search(problem.reason), problem.reason
    if at:
        line, reason = int(at[1]), problem.reason[: at.start()]
    elif document:
        line = line_of(text, int(document[1]), problem.field)
    else:
        line = 0
    where = f"{shown}:{line}" if line else shown
    return ": ".join(part for part in (where, problem.key, problem.field, reason) if part)


def _add_objects(document: Document, shown: str, text: str, found: ReadManifests) -> None:
    if document.error is not None:
        raise document.error
    for prefix, body in list_items(document.value):
        item = check_manifest(body, "not a Kubernetes object")
        place = _place(shown, text, document.line, prefix)
        if _is_read(item):
            found.given.append(GivenManifest(item, place))
        else:
            found.ignored.append(f"{place('')}: {object_name(item)} ignored: a lab does not take this kind")


def _is_read(item: dict[str, Any]) -> bool:
    try:
        return parse_object(item) is not None
    except ParseError:
        return True  # a kind that Headgate reads, with errors, which do not matter for `delete`


def _place(shown: str, text: str, first: int, prefix: str) -> Callable[[str], str]:
    return lambda path: f"{shown}:{line_of(text, first, join_path(prefix, path))}"


def line_of(text: str, first: int, path: str) -> int:
    """The line of the field at `path`, like `spec.ingress[0].ports`, in the document that begins on line `first`.

    If the path does not exist completely, the line of its last existing part.
    """
    loader = yaml.CSafeLoader("\n".join(text.splitlines()[first - 1 :]))
    try:
        node = loader.get_node() if loader.check_node() else None
    except (yaml.YAMLError, RecursionError):
        return first
    finally:
        loader.dispose()
    line = node.start_mark.line if node is not None else 0
    for step in _STEP.findall(path):
        found = next(_children(node, step), None)
        if found is None:
            break
        key, node = found
        line = key.start_mark.line
    return first + int(line)


def _children(node: Any, step: str) -> Iterator[tuple[Any, Any]]:
    """The child of a YAML node at one step of a path: the node of its key (or item), and its value."""
    if isinstance(node, yaml.MappingNode):
        yield from ((key, value) for key, value in node.value if key.value == step)
    elif isinstance(node, yaml.SequenceNode) and step.startswith("["):
        number = int(step[1:-1])
        yield from ((one, one) for one in node.value[number : number + 1])
