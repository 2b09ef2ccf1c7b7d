"""From the bytes of one manifest file to objects and problems. Reads no file and knows no folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controller.base.printable import printable
from controller.reconcile.events import Problem
from controller.sources.folder.documents import Document, DocumentError, TooManyDocuments, read_documents
from controller.sources.unit import SourceUnit
from flows.parse.objects import PARSERS, ParsedObject, ParseError, parse_object

MAX_LIST_DEPTH = 10  # lists inside lists; kubectl makes one
MAX_OBJECTS = 250_000  # of a file; more than twice as many pods as one file of the greatest size holds
MAX_FILE_PROBLEMS = 100  # of a file that are told one by one
MAX_REASON_LENGTH = 400  # characters
MAX_IGNORED_KINDS = 20  # of a file that are counted by name when they are none of ours
OTHER_KINDS = "objects of other kinds"
_LISTS = frozenset({"List", *(f"{kind}List" for _, kind in PARSERS)})
_NEAR_LISTS = {kind.lower(): kind for kind in _LISTS}


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """What was read of a file. `has_errors`: it has errors, so that a good earlier reading is to be preferred."""

    unit: SourceUnit
    has_errors: bool


def read_manifest(data: bytes, where: str, is_json: bool) -> ParsedManifest:
    """All objects of a file that can be used at all, and everything that is wrong in it.

    `where` is the file's name for people.
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
            _read_document(document, f"{where}, document {document.number} (line {document.line})", objects, problems)
    except TooManyDocuments as error:
        return unreadable(where, error.reason)
    if len(objects) > MAX_OBJECTS:
        return unreadable(where, f"has more than {MAX_OBJECTS} objects: split it")
    has_errors = problems.count > 0
    kept = _last_of_each(objects, where, problems)
    return ParsedManifest(SourceUnit(tuple(kept), problems.listed(), problems.count, problems.ignored), has_errors)


class ManifestProblems:
    """What is wrong in one file: the first ones one by one, and then how many more there are; and what is ignored."""

    def __init__(self, where: str) -> None:
        self.count = 0
        self.ignored: dict[str, int] = {}  # objects that are none of our kinds, by what they are
        self._where = where
        self._first: list[Problem] = []

    def add(self, where: str, key: str, path: str, reason: str) -> None:
        """One more."""
        self.count += 1
        if self.count <= MAX_FILE_PROBLEMS:
            self._first.append(Problem(where, key, _cut(path), _cut(reason)))

    def ignore(self, raw: object) -> None:
        """An object that is none of ours, and whose kind and version are texts."""
        name = _cut(printable(f"{raw['kind']} ({raw['apiVersion']})")) if isinstance(raw, dict) else OTHER_KINDS
        if name not in self.ignored and len(self.ignored) >= MAX_IGNORED_KINDS:
            name = OTHER_KINDS
        self.ignored[name] = self.ignored.get(name, 0) + 1

    def listed(self) -> tuple[Problem, ...]:
        """What is said of them."""
        more = self.count - len(self._first)
        rest = (Problem(self._where, "", "", f"and {more} more problems in this file"),) if more else ()
        return (*self._first, *rest)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_REASON_LENGTH else f"{text[: MAX_REASON_LENGTH - 3]}..."


def unreadable(where: str, reason: str) -> ParsedManifest:
    """The reading of a file of which nothing can be read."""
    return ParsedManifest(SourceUnit((), (Problem(where, "", "", reason),)), True)


def _read_document(document: Document, where: str, objects: list[ParsedObject], problems: ManifestProblems) -> None:
    if document.error is not None:
        _add(problems, where, document, document.error)
        return
    try:
        for prefix, raw in list_items(document.value):
            _read_object(raw, where, prefix, objects, problems)
    except DocumentError as error:
        _add(problems, where, document, error)


def _add(problems: ManifestProblems, where: str, document: Document, error: DocumentError) -> None:
    at = f" (line {error.line})" if error.line > document.line else ""
    problems.add(where, "", printable(error.field), _cut(printable(error.reason)) + at)


def _read_object(raw: object, where: str, prefix: str, objects: list[ParsedObject], problems: ManifestProblems) -> None:
    try:
        found = parse_object(raw)
    except ParseError as error:
        for one in error.errors:
            problems.add(where, error.key, join_path(prefix, one.field), one.reason)
        return
    if found is None:
        problems.ignore(raw)
    else:
        objects.append(found)
        for one in found.errors:
            problems.add(where, str(found), join_path(prefix, one.field), one.reason)


def join_path(prefix: str, path: str) -> str:
    """A field's path inside a list's item."""
    return f"{prefix}.{path}" if prefix and path else prefix or path


def list_items(raw: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """The objects of a List (PodList, ...) with their place in it, like `items[3]`; any other object as it is.

    The items of a typed list need not say what they are. Raises DocumentError for a list that is none.
    """
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(kind, str) or not kind.endswith("List"):
        if isinstance(raw, dict) and isinstance(kind, str) and (near := _NEAR_LISTS.get(kind.lower())):
            raise DocumentError(f"did you mean {near}?", field=join_path(prefix, "kind"))
        yield prefix, raw
        return
    items = raw.get("items")
    if kind not in _LISTS and not isinstance(items, list):
        yield prefix, raw  # some other kind that is called a list
        return
    if items is not None and not isinstance(items, list):
        raise DocumentError("must be a list", field=join_path(prefix, "items"))
    if depth == MAX_LIST_DEPTH:
        raise DocumentError(f"has lists inside lists, more than {MAX_LIST_DEPTH} levels", field=prefix)
    typed = {} if kind == "List" else {"apiVersion": raw.get("apiVersion"), "kind": kind.removesuffix("List")}
    for index, item in enumerate(items or ()):
        whole = {**typed, **item} if typed and isinstance(item, dict) else item
        yield from list_items(whole, join_path(prefix, f"items[{index}]"), depth + 1)


def _last_of_each(objects: list[ParsedObject], where: str, problems: ManifestProblems) -> list[ParsedObject]:
    """An object that stands twice in a file counts as it stands last, as if applied in order; that is reported."""
    last = {(found.kind, found.name): found for found in objects}
    if len(last) == len(objects):
        return objects
    seen = set()
    for found in objects:
        identity = (found.kind, found.name)
        if identity in seen:
            problems.add(where, str(found), "", "stands in this file more than once; the last one counts")
        seen.add(identity)
    return list(last.values())
