"""From the bytes of one manifest file to objects and problems. Reads no file and knows no folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controller.printable import printable
from controller.reconcile.events import Problem
from controller.sources.documents import Document, DocumentError, read_documents
from flows.parse import READERS, ParsedObject, ParseError, parse_object

MAX_LIST_DEPTH = 10  # lists inside lists; kubectl makes one
_LISTS = frozenset({"List", *(f"{kind}List" for _, kind in READERS)})


@dataclass(frozen=True, slots=True)
class Unit:
    """What a source takes or leaves as a whole: the objects of a file, or one object of an API.

    The problems name what is wrong in it.
    """

    objects: tuple[ParsedObject, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a file. `broken`: it has errors, so that a good earlier reading is to be preferred."""

    unit: Unit
    broken: bool


def read_manifest(data: bytes, where: str, is_json: bool) -> Reading:
    """All objects of a file that can be used at all, and everything that is wrong in it.

    `where` is the file's name for people.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return broken(where, f"is not UTF-8 text (line {line}): save it as UTF-8")
    objects: list[ParsedObject] = []
    problems: list[Problem] = []
    for document in read_documents(text, is_json):
        _read_document(document, f"{where}, document {document.number} (line {document.line})", objects, problems)
    has_errors = bool(problems)
    kept = _last_of_each(objects, where, problems)
    return Reading(Unit(tuple(kept), tuple(problems)), has_errors)


def broken(where: str, reason: str) -> Reading:
    """The reading of a file of which nothing can be read."""
    return Reading(Unit((), (Problem(where, "", "", reason),)), True)


def _read_document(document: Document, where: str, objects: list[ParsedObject], problems: list[Problem]) -> None:
    if document.error is not None:
        problems.append(_problem(where, document, document.error))
        return
    try:
        for prefix, raw in flatten(document.value):
            _read_object(raw, where, prefix, objects, problems)
    except DocumentError as error:
        problems.append(_problem(where, document, error))


def _problem(where: str, document: Document, error: DocumentError) -> Problem:
    at = f" (line {error.line})" if error.line > document.line else ""
    return Problem(where, "", printable(error.field), printable(error.reason) + at)


def _read_object(raw: object, where: str, prefix: str, objects: list[ParsedObject], problems: list[Problem]) -> None:
    try:
        found = parse_object(raw)
    except ParseError as error:
        problems += (Problem(where, error.key, join(prefix, one.field), one.reason) for one in error.errors)
        return
    if found is not None:
        objects.append(found)
        problems += (Problem(where, str(found), join(prefix, one.field), one.reason) for one in found.errors)


def join(prefix: str, field: str) -> str:
    """A field's path inside a list's item."""
    return f"{prefix}.{field}" if prefix and field else prefix or field


def flatten(raw: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """The objects of a List (PodList, ...) with their place in it, like `items[3]`; any other object as it is.

    The items of a typed list need not say what they are. Raises DocumentError for a list that is none.
    """
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(kind, str) or not kind.endswith("List"):
        yield prefix, raw
        return
    items = raw.get("items")
    if kind not in _LISTS and not isinstance(items, list):
        yield prefix, raw  # some other kind that is called a list
        return
    if items is not None and not isinstance(items, list):
        raise DocumentError("must be a list", field=join(prefix, "items"))
    if depth == MAX_LIST_DEPTH:
        raise DocumentError(f"has lists inside lists, more than {MAX_LIST_DEPTH} levels", field=prefix)
    typed = {} if kind == "List" else {"apiVersion": raw.get("apiVersion"), "kind": kind.removesuffix("List")}
    for index, item in enumerate(items or ()):
        whole = {**typed, **item} if typed and isinstance(item, dict) else item
        yield from flatten(whole, join(prefix, f"items[{index}]"), depth + 1)


def _last_of_each(objects: list[ParsedObject], where: str, problems: list[Problem]) -> list[ParsedObject]:
    """An object that stands twice in a file counts as it stands last, as if applied in order; that is reported."""
    last = {(found.kind, found.name): found for found in objects}
    if len(last) == len(objects):
        return objects
    seen = set()
    for found in objects:
        identity = (found.kind, found.name)
        if identity in seen:
            problems.append(Problem(where, str(found), "", "stands in this file more than once; the last one counts"))
        seen.add(identity)
    return list(last.values())
