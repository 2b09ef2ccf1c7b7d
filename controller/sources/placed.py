"""Objects of manifests with the place of each: file, line and path, for commands that speak about the text.

Sources that run do not need places; `offline` and `folder` read the same manifests without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.base.printable import printable
from controller.sources.folder.documents import DocumentError, TooManyDocuments, read_documents
from controller.sources.folder.manifest import join_path, list_items
from controller.sources.offline import ManifestText
from controller.sources.positions import line_of
from flows.parse.objects import PARSERS_WITH_WORKLOADS, ParsedObject, ParseError, parse_object
from flows.parse.untrusted import FieldError

ASSERTIONS_VERSION, ASSERTIONS_KIND = "headgate.io/v1", "ReachabilityTest"


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file by name, and its text; "" where it is no text."""

    name: str
    text: str

    def line(self, first: int, path: str) -> int:
        """The line of a field of the document that begins on line `first`."""
        return line_of(self.text, first, path) if path else first


@dataclass(frozen=True, slots=True)
class Place:
    """A document or an item of a List in it: `line` is the document's first, `prefix` the item's path."""

    file: PlacedFile
    line: int
    prefix: str = ""

    def line_of(self, field: str) -> int:
        """The line of a field of the object."""
        return self.file.line(self.line, join_path(self.prefix, field))


@dataclass(frozen=True, slots=True)
class PlacedObject:
    """An object as it was parsed."""

    parsed: ParsedObject
    place: Place


@dataclass(frozen=True, slots=True)
class PlacedError:
    """What cannot be used. `key` is `Kind namespace/name` as far as it is known; `line` is 0 where `error.field` gives
    it.

    `syntax`: the document is no YAML or JSON, or no object.
    """

    place: Place
    key: str
    error: FieldError
    line: int = 0
    syntax: bool = False


@dataclass(frozen=True, slots=True)
class PlacedManifests:
    """Everything that was read, in the order of the files. `assertions` are the bodies of documents of that kind."""

    files: tuple[PlacedFile, ...]
    objects: tuple[PlacedObject, ...]
    errors: tuple[PlacedError, ...]
    assertions: tuple[tuple[object, Place], ...]


def place_manifests(texts: Iterable[ManifestText]) -> PlacedManifests:
    """All objects and errors of these manifests. Documents without kind and apiVersion are no Kubernetes objects."""
    reader = _Reader()
    for one in texts:
        reader.read(one)
    return PlacedManifests(tuple(reader.files), tuple(reader.objects), tuple(reader.errors), tuple(reader.assertions))


class _Reader:
    """Collects what files have."""

    def __init__(self) -> None:
        self.files: list[PlacedFile] = []
        self.objects: list[PlacedObject] = []
        self.errors: list[PlacedError] = []
        self.assertions: list[tuple[object, Place]] = []

    def read(self, one: ManifestText) -> None:
        try:
            file = PlacedFile(one.where, one.data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            line = one.data.count(b"\n", 0, error.start) + 1
            place = Place(PlacedFile(one.where, ""), line)
            self.errors.append(PlacedError(place, "", FieldError("", "is not UTF-8 text"), line, True))
            return
        self.files.append(file)
        try:
            for document in read_documents(file.text, one.is_json):
                place = Place(file, document.line)
                if document.error is not None:
                    self._syntax(place, document.error)
                    continue
                try:
                    for prefix, body in list_items(document.value):
                        self._object(body, Place(file, document.line, prefix))
                except DocumentError as error:
                    self._syntax(place, error)
        except TooManyDocuments as error:
            self._syntax(Place(file, 1), error)

    def _syntax(self, place: Place, error: DocumentError) -> None:
        reason = FieldError(printable(error.field), printable(error.reason))
        self.errors.append(PlacedError(place, "", reason, error.line or place.line, True))

    def _object(self, body: object, place: Place) -> None:
        if not isinstance(body, dict) or ("kind" not in body and "apiVersion" not in body):
            return  # folders of manifests hold values and configuration, too
        if (body.get("apiVersion"), body.get("kind")) == (
            ASSERTIONS_VERSION,
            ASSERTIONS_KIND,
        ):
            self.assertions.append((body, place))
            return
        try:
            found = parse_object(body, PARSERS_WITH_WORKLOADS)
        except ParseError as error:
            self.errors += [PlacedError(place, error.key, one) for one in error.errors]
            return
        if found is not None:
            self.objects.append(PlacedObject(found, place))
            self.errors += [PlacedError(place, str(found), one) for one in found.errors]
