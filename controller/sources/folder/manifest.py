"""Parses the bytes of one manifest file into objects and problems. No files are read here, no folders known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controller.base.printable import printable
from controller.reconcile.problem import Problem
from controller.sources.folder.documents import Document, DocumentError, TooManyDocuments, read_documents
from controller.sources.unit import SourceUnit
from flows.parse.objects import PARSERS, ParsedObject, ParseError, Parsers, parse_object

MAX_LIST_DEPTH = 10  # of lists inside lists; kubectl makes one level
MAX_OBJECTS = 250_000  # in one file; more than twice the pods that fit into MAX_MANIFEST_BYTES
MAX_FILE_PROBLEMS = 100  # of one file; the rest is only counted
MAX_REASON_LENGTH = 400  # characters
MAX_IGNORED_KINDS = 20  # of one file that are counted by name; the others together
OTHER_KINDS = "objects of other kinds"
_LISTS = frozenset({"List", *(f"{kind}List" for _, kind in PARSERS)})
_NEAR_LISTS = {kind.lower(): kind for kind in _LISTS}


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """A parsed file. With `has_errors` the last version of the file that had none is to be preferred."""

    unit: SourceUnit
    has_errors: bool


def read_manifest(data: bytes, where: str, is_json: bool, parsers: Parsers = PARSERS) -> ParsedManifest:
    """All objects of a file that can be parsed, and all its problems. Never raises.

    `where` is the file's path as messages show it, `parsers` has the kinds that are read.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return unreadable(where, f"is not UTF-8 text (line {line}): save it as UTF-8")
    objects: list[ParsedObject] = []
    problems = ManifestProblems(where)
    try:
        for document in read_documents(text, is_json):
            place = f"{where}, document {document.number} (line {document.line})"
            _read_document(document, place, parsers, objects, problems)
    except TooManyDocuments as error:
        return unreadable(where, error.reason)
    if len(objects) > MAX_OBJECTS:
        return unreadable(where, f"has more than {MAX_OBJECTS} objects: split it")
    has_errors = problems.count > 0
    kept = _last_of_each(objects, where, problems)
    return ParsedManifest(SourceUnit(tuple(kept), problems.listed(), problems.count, problems.ignored), has_errors)


class ManifestProblems:
    """The problems of one file, the first MAX_FILE_PROBLEMS listed and the others counted, and its ignored objects."""

    def __init__(self, where: str) -> None:
        self.count = 0
        self.ignored: dict[str, int] = {}  # number of objects of other kinds, by kind and version
        self._where = where
        self._first: list[Problem] = []

    def add(self, where: str, key: str, path: str, reason: str) -> None:
        """Add a problem."""
        self.count += 1
        if self.count <= MAX_FILE_PROBLEMS:
            self._first.append(Problem(where, key, _shortened(path), _shortened(reason)))

    def ignore(self, document: object) -> None:
        """Count an object of a kind that Headgate does not read; its kind and version are texts."""
        name = OTHER_KINDS
        if isinstance(document, dict):
            name = _shortened(printable(f"{document['kind']} ({document['apiVersion']})"))
        if name not in self.ignored and len(self.ignored) >= MAX_IGNORED_KINDS:
            name = OTHER_KINDS
        self.ignored[name] = self.ignored.get(name, 0) + 1

    def listed(self) -> tuple[Problem, ...]:
        """The listed problems, and one that gives the number of the others."""
        more = self.count - len(self._first)
        rest = (Problem(self._where, "", "", f"and {more} more problems in this file"),) if more else ()
        return (*self._first, *rest)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_REASON_LENGTH else f"{text[: MAX_REASON_LENGTH - 3]}..."


def unreadable(where: str, reason: str) -> ParsedManifest:
    """The result for a file of which nothing can be read, and why."""
    return ParsedManifest(SourceUnit((), (Problem(where, "", "", reason),)), True)


def _read_document(
    document: Document, where: str, parsers: Parsers, objects: list[ParsedObject], problems: ManifestProblems
) -> None:
    if document.error is not None:
        _add_error(problems, where, document, document.error)
        return
    try:
        for prefix, body in list_items(document.value, release=document.unshared):
            _read_object(body, where, prefix, parsers, objects, problems)
    except DocumentError as error:
        _add_error(problems, where, document, error)


def _add_error(problems: ManifestProblems, where: str, document: Document, error: DocumentError) -> None:
    at = f" (line {error.line})" if error.line > document.line else ""
    problems.add(where, "", printable(error.field), _shortened(printable(error.reason)) + at)


def _read_object(
    body: object, where: str, prefix: str, parsers: Parsers, objects: list[ParsedObject], problems: ManifestProblems
) -> None:
    try:
        found = parse_object(body, parsers)
    except ParseError as error:
        for one in error.errors:
            problems.add(where, error.key, join_path(prefix, one.field), one.reason)
        return
    if found is None:
        problems.ignore(body)
    else:
        objects.append(found)
        for one in found.errors:
            problems.add(where, str(found), join_path(prefix, one.field), one.reason)


def join_path(prefix: str, path: str) -> str:
    """The path of a field inside an item of a list: `items[3]` and `spec` give `items[3].spec`."""
    return f"{prefix}.{path}" if prefix and path else prefix or path


def list_items(
    body: object, prefix: str = "", depth: int = 0, *, release: bool = False
) -> Iterator[tuple[str, object]]:
    """The objects of a List (PodList, ...), each with its path in it, like `items[3]`; else the object itself.

    With `release` the list forgets each item that was given: all at once would stop every thread for as long as it
    takes to free them. Items of a typed list need no apiVersion and kind. Raises DocumentError for a malformed list.
    """
    kind = body.get("kind") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(kind, str) or not kind.endswith("List"):
        if isinstance(body, dict) and isinstance(kind, str) and (near := _NEAR_LISTS.get(kind.lower())):
            raise DocumentError(f"did you mean {near}?", field=join_path(prefix, "kind"))
        yield prefix, body
        return
    items = body.get("items")
    if kind not in _LISTS and not isinstance(items, list):
        yield prefix, body  # a kind of another API whose name ends with List
        return
    if items is not None and not isinstance(items, list):
        raise DocumentError("must be a list", field=join_path(prefix, "items"))
    if depth == MAX_LIST_DEPTH:
        raise DocumentError(f"has lists inside lists, more than {MAX_LIST_DEPTH} levels", field=prefix)
    typed = {} if kind == "List" else {"apiVersion": body.get("apiVersion"), "kind": kind.removesuffix("List")}
    for index, item in enumerate(items or ()):
        whole = {**typed, **item} if typed and isinstance(item, dict) else item
        if release and items:
            items[index] = None
        yield from list_items(whole, join_path(prefix, f"items[{index}]"), depth + 1, release=release)


def _last_of_each(objects: list[ParsedObject], where: str, problems: ManifestProblems) -> list[ParsedObject]:
    """Of an object that is in a file twice the last one wins, as if applied in order; a problem is added."""
    last = {(found.kind, found.name): found for found in objects}
    if len(last) == len(objects):
        return objects
    seen = set()
    for found in objects:
        object_id = (found.kind, found.name)
        if object_id in seen:
            problems.add(where, str(found), "", "is in this file more than once; the last one takes precedence")
        seen.add(object_id)
    return list(last.values())
