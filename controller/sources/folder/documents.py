"""Parses the text of a manifest into documents, and rejects what YAML and JSON allow but a manifest must not have.

YAML values are built from the parser's events with a stack of our own: libyaml's composer recurses on the C stack, and
deep nesting would crash the process. See `flows.parse.objects` for what the documents mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

MAX_DEPTH = 100  # levels; a Kubernetes object has about 20
ALIAS_ALLOWANCE = 100_000  # values that aliases may add to a file, beyond its length in characters
MAX_DOCUMENTS = 50_000  # in one file; a List can hold more objects
MAX_SCALAR_LENGTH = 100  # characters of a number or a date; PyYAML takes quadratic time for what is written 1:2:3:4:...
MAX_NON_TEXT_KEYS = 100  # of one object: numbers can be chosen so that all collide in a dict
MAX_KEY_LENGTH = 80  # characters of a key in an error's path
# At the start of a line this is the end of a document wherever it stands, in quoted and block text too (YAML 1.1, 9.1).
_SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_SEPARATOR_LINE = re.compile(r"---[ \t]*(?:#[^\n]*)?\r?\n")
_NOTHING = re.compile(r"(?:\s|#[^\n]*+(?:\n|\Z)|^\.\.\.(?=\s|\Z)|^---(?=\s|\Z))*+\Z", re.MULTILINE)
_SCALAR_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp"))
_STR, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_MERGE_KEY = object()


class DocumentError(Exception):
    """A document that cannot be parsed. `field` is the path as far as it is known; `line` counts from 1, 0: unknown."""

    def __init__(self, reason: str, line: int = 0, field: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.field = field


class TooManyDocuments(DocumentError):
    """A file has more than MAX_DOCUMENTS documents; none of them is parsed."""


class _NotJson(DocumentError):
    """The text is not JSON; it may be YAML."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document: its number among the non-empty ones, its first line, and its value, or the error instead.

    `unshared`: no part of the value is in it twice, as aliases of YAML would make it.
    """

    number: int
    line: int
    value: Any = None
    error: DocumentError | None = None
    unshared: bool = False


def read_documents(text: str, is_json: bool) -> Iterator[Document]:
    """All non-empty documents of a file. One that cannot be parsed does not stop the others.

    Raises TooManyDocuments before the first document.
    """
    if is_json or text.lstrip()[:1] == "{":
        try:
            yield Document(1, 1, _json(text), unshared=True)
            return
        except _NotJson as error:
            if is_json:
                yield Document(1, 1, error=error)
                return  # otherwise it is YAML, which may begin with a brace, too
        except DocumentError as error:
            yield Document(1, 1, error=error)
            return
    number = 0
    allowance = ValueAllowance(len(text) + ALIAS_ALLOWANCE)
    for line, part in _parts(text):
        if _NOTHING.match(part):
            continue
        number += 1
        first = line + 1 if _SEPARATOR_LINE.match(part) else line
        try:
            value = _Builder(part, line, allowance).build()
        except DocumentError as error:
            yield Document(number, first, error=error)
            continue
        if value is not None:
            yield Document(number, first, value)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """The text between separators, each with the number of the line that it begins on."""
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text) if match.start())]
    if len(starts) > MAX_DOCUMENTS:
        reason = f"has more than {MAX_DOCUMENTS} documents: split the file, or put the objects into a List"
        raise TooManyDocuments(reason)
    line = 1
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield line, text[start:end]
        line += text.count("\n", start, end)


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _NotJson(f"is not JSON: {error.msg} (column {error.colno})", error.lineno) from None
    except RecursionError:
        raise DocumentError("is nested too deeply") from None
    except ValueError:  # a number of more digits than Python converts
        raise DocumentError("has a number that is too long") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DocumentError("the key is in one object twice", field=_shown_key(key))
            seen.add(key)
    return values


def _shown_key(key: object) -> str:
    """A key as paths and reasons show it: shortened, whatever its type."""
    text = key if isinstance(key, str) else f"{key}"
    return text if len(text) <= MAX_KEY_LENGTH else f"{text[: MAX_KEY_LENGTH - 3]}..."


def _no_constant(name: str) -> NoReturn:
    raise DocumentError(f"has {name}, which is not JSON")


@dataclass(slots=True)
class ValueAllowance:
    """How many more values the documents of a file may have, with their aliases expanded.

    One for all documents: many small ones together could otherwise exceed the limit many times.
    """

    left: int


@dataclass(slots=True)
class _OpenNode:
    """A list or an object that is being built.

    `key` is the key whose value comes next; `size` is the number of values inside, with aliases expanded;
    `non_text_keys` counts the keys that are not text.
    """

    values: Any
    anchor: str | None
    key: Any = None
    has_key: bool = False
    size: int = 1
    non_text_keys: int = 0
    merged: list[dict[Any, Any]] = field(default_factory=list)


class _Builder:
    """Builds one document from its events, counts aliases and rejects duplicate keys."""

    def __init__(self, text: str, line: int, allowance: ValueAllowance) -> None:
        self._loader = yaml.CSafeLoader(text)
        self._resolve: Callable[[type, str, tuple[bool, bool]], str] = self._loader.resolve
        self._line = line
        self._allowance = allowance
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._stack: list[_OpenNode] = []
        self._root: Any = None

    def build(self) -> Any:
        """The document's value, None for an empty one. Raises DocumentError."""
        try:
            self._read()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = error.problem or error.context or "cannot be read"
            raise DocumentError(f"is not YAML: {reason}", self._line + mark.line if mark else 0) from None
        except yaml.YAMLError as error:
            raise DocumentError(f"is not YAML: {str(error).splitlines()[0]}") from None
        finally:
            self._loader.dispose()
        return self._root

    def _read(self) -> None:
        loader = self._loader
        documents = 0
        while True:
            event = loader.get_event()
            if event is None or isinstance(event, yaml.StreamEndEvent):
                return
            if isinstance(event, yaml.ScalarEvent):
                self._put(self._scalar(event), 1, event.anchor, event)
            elif isinstance(event, yaml.MappingStartEvent):
                self._push({}, event)
            elif isinstance(event, yaml.SequenceStartEvent):
                self._push([], event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._pop(event)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self._anchors:
                    raise self._error(
                        f"the alias *{_shown_key(event.anchor)} refers to nothing that ends before it", event
                    )
                value, size = self._anchors[event.anchor]
                self._put(value, size, None, event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error("has text after the document's end; begin a new one with ---", event)

    def _error(self, reason: str, event: Any) -> DocumentError:
        path = ""
        for node in self._stack:
            if isinstance(node.values, list):
                path += f"[{len(node.values)}]"
            elif node.has_key:
                path += f".{_shown_key(node.key)}"
        return DocumentError(reason, self._line + event.start_mark.line, path.lstrip("."))

    def _push(self, values: Any, event: Any) -> None:
        if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise self._error(f"the tag {_shown_key(event.tag)} is not allowed", event)
        if len(self._stack) == MAX_DEPTH:
            raise self._error(f"is nested deeper than {MAX_DEPTH} levels", event)
        node = self._stack[-1] if self._stack else None
        if node is not None and isinstance(node.values, dict) and not node.has_key:
            raise self._error("a list or an object cannot be a key", event)
        self._stack.append(_OpenNode(values, event.anchor))

    def _pop(self, event: Any) -> None:
        node = self._stack.pop()
        values = node.values
        # The object's own keys win over merged ones, and keys that were merged earlier over later ones.
        for merged in node.merged:
            for key, value in merged.items():
                values.setdefault(key, value)
        self._put(values, node.size, node.anchor, event, counted=True)

    def _put(self, value: Any, size: int, anchor: str | None, event: Any, *, counted: bool = False) -> None:
        """Add a finished value to the list or object that contains it."""
        if not counted:
            self._allowance.left -= size
            if self._allowance.left < 0:
                raise self._error("its aliases expand to more values than a manifest may have", event)
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._stack:
            self._root = value
            return
        node = self._stack[-1]
        node.size += size
        if isinstance(node.values, list):
            node.values.append(value)
        elif node.has_key:
            if node.key is _MERGE_KEY:
                node.merged.extend(self._merged(value, event))
            else:
                node.values[node.key] = value
            node.has_key = False
        else:
            if isinstance(value, (dict, list)):
                raise self._error("a list or an object cannot be a key", event)
            if value is not _MERGE_KEY and value in node.values:
                node.key, node.has_key = value, True
                raise self._error("the key is in one object twice", event)
            node.key, node.has_key = value, True
            if not isinstance(value, str) and value is not _MERGE_KEY:
                node.non_text_keys += 1
                if node.non_text_keys > MAX_NON_TEXT_KEYS:
                    raise self._error(f"has more than {MAX_NON_TEXT_KEYS} keys that are not text; quote them", event)

    def _merged(self, value: Any, event: Any) -> list[dict[Any, Any]]:
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, dict) for one in values):
            raise self._error("<< merges objects only", event)
        return values

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag is None or event.tag == "!":
            if event.tag == "!" or not event.implicit[0] or text[:1] not in self._loader.yaml_implicit_resolvers:
                return text
            tag = self._resolve(yaml.ScalarNode, text, event.implicit)
        else:
            tag = event.tag
        if tag == _STR:
            return text
        if tag == _MERGE and self._stack and isinstance(self._stack[-1].values, dict) and not self._stack[-1].has_key:
            return _MERGE_KEY
        if tag in (_MERGE, "tag:yaml.org,2002:value"):
            return text  # a lone << or = is text
        if tag in _SCALAR_TAGS and len(text) > MAX_SCALAR_LENGTH:
            reason = f"{_shown_key(text)!r} cannot be read as {tag.rpartition(':')[2]}: it is too long; quote it"
            raise self._error(reason, event)
        if tag not in _SCALAR_TAGS:
            raise self._error(f"the tag {_shown_key(tag)} is not allowed", event)
        construct: Callable[[Any], Any] = self._loader.construct_object
        try:
            return construct(yaml.ScalarNode(tag, text, event.start_mark, event.end_mark))
        except (ValueError, LookupError, AttributeError, ArithmeticError):
            # What PyYAML's constructors raise for `!!int`, `!!bool x`, `!!timestamp x` or month 13.
            raise self._error(f"{text[:40]!r} cannot be read as {tag.rpartition(':')[2]}", event) from None
