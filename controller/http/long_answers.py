"""Encodes long HTTP answers in chunks, so that other threads run in between.

With eventlet one green thread runs at a time, and an encoder holds the interpreter while it works: 10 000 pods at once
would delay OpenFlow echo replies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any, Generic, TypeVar, get_type_hints

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from pydantic import TypeAdapter

from controller.status.model import StatusView

T = TypeVar("T")
VALUES_PER_CHUNK = 250  # that are encoded in one call
_LONG = (
    "policies",
    "pods",
    "problems",
)  # grow with the cluster; the same tuples until they change


class ListEncoder(Generic[T]):
    """Encodes a tuple as a JSON list; remembers the last one, so that an unchanged tuple is not encoded again."""

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._adapter = adapter
        self._last: tuple[Sequence[T], bytes] = ((), b"[]")

    def encode(self, values: Sequence[T]) -> bytes:
        """The JSON list."""
        last, text = self._last
        if last is not values:
            text = b"".join(encoded_list(self._adapter, values))
            self._last = (values, text)
        return text


def encoded_list(adapter: TypeAdapter[Any], values: Iterable[Any]) -> Iterator[bytes]:
    """A JSON list in parts; the values are asked for as it goes. `adapter` encodes a sequence of them."""
    left, start = iter(values), b"["
    while chunk := tuple(islice(left, VALUES_PER_CHUNK)):
        yield start + adapter.dump_json(chunk)[1:-1]
        start = b","
        time.sleep(0)
    yield b"[]" if start == b"[" else b"]"


class StatusEncoder:
    """Encodes a StatusView as a JSON object, its fields in their order."""

    def __init__(self) -> None:
        # An adapter for each field encodes it as pydantic does in the whole.
        hints = {name: TypeAdapter(hint) for name, hint in get_type_hints(StatusView).items()}
        self._lists: dict[str, ListEncoder[Any]] = {name: ListEncoder(hints[name]) for name in _LONG}
        self._short: dict[str, Callable[[Any], bytes]] = {
            name: adapter.dump_json for name, adapter in hints.items() if name not in _LONG
        }

    def encode(self, view: StatusView) -> list[bytes]:
        """The JSON object in parts; the long ones are shared by all answers of which they are a part."""
        parts, start = [], b'{"'
        for field in fields(StatusView):
            value = getattr(view, field.name)
            encoder = self._lists.get(field.name)
            text = encoder.encode(value) if encoder else self._short[field.name](value)
            parts += [start + field.name.encode() + b'":', text]
            start = b',"'
        return [*parts, b"}"]


class _OneMetric:
    """A registry of one metric, for the encoder of the client library."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        """The metric."""
        return [self._metric]


def exposition(registry: CollectorRegistry, encode: Callable[[Any], bytes]) -> bytes:
    """All metrics of a registry in the format of `encode`; the headers of each come once, before its samples."""
    parts: list[bytes] = []
    for metric in registry.collect():
        samples, metric.samples = metric.samples, []
        for start in range(0, max(len(samples), 1), VALUES_PER_CHUNK):
            metric.samples = samples[start : start + VALUES_PER_CHUNK]
            text = encode(_OneMetric(metric))
            if start:
                text = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))
            parts.append(text)
            time.sleep(0)
    return b"".join(parts)
