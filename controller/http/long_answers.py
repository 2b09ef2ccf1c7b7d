"""Long answers of HTTP, put together a little at a time, so that no other thread waits for a long one.

Under eventlet one green thread runs at a time, and both encoders keep the interpreter while they work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Generic, TypeVar, get_type_hints

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from pydantic import TypeAdapter

from controller.status.model import StatusView

T = TypeVar("T")
VALUES_PER_CHUNK = 250  # values that are encoded in one go
_LONG = ("policies", "pods", "problems")  # fields of a status that grow with the world, and are kept as they are


class ListEncoder(Generic[T]):
    """A tuple as JSON. The last one is remembered: one that did not change is not encoded again."""

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._adapter = adapter
        self._last: tuple[Sequence[T], bytes] = ((), b"[]")

    def encode(self, values: Sequence[T]) -> bytes:
        """The list."""
        known, text = self._last
        if known is not values:
            text = b"[" + b",".join(self._parts(values)) + b"]"
            self._last = (values, text)
        return text

    def _parts(self, values: Sequence[T]) -> Iterator[bytes]:
        for start in range(0, len(values), VALUES_PER_CHUNK):
            yield self._adapter.dump_json(values[start : start + VALUES_PER_CHUNK])[1:-1]
            time.sleep(0)


class StatusEncoder:
    """A StatusView as JSON: its fields in their order."""

    def __init__(self) -> None:
        # As pydantic reads the schema of the whole, so that every field looks as it would there.
        hints = {name: TypeAdapter(hint) for name, hint in get_type_hints(StatusView).items()}
        self._lists: dict[str, ListEncoder[Any]] = {name: ListEncoder(hints[name]) for name in _LONG}
        self._short: dict[str, Callable[[Any], bytes]] = {
            name: adapter.dump_json for name, adapter in hints.items() if name not in _LONG
        }

    def encode(self, view: StatusView) -> bytes:
        """The whole."""
        parts = []
        for field in fields(StatusView):
            value = getattr(view, field.name)
            encoder = self._lists.get(field.name)
            text = encoder.encode(value) if encoder else self._short[field.name](value)
            parts.append(b'"' + field.name.encode() + b'":' + text)
        return b"{" + b",".join(parts) + b"}"


class _Part:
    """A registry of one metric, for the client library's encoder."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        """It alone."""
        return [self._metric]


def exposition(registry: CollectorRegistry, encode: Callable[[Any], bytes]) -> bytes:
    """What `encode` makes of all metrics of a registry; its headers come first and once for each."""
    parts: list[bytes] = []
    for metric in registry.collect():
        samples, metric.samples = metric.samples, []
        for start in range(0, max(len(samples), 1), VALUES_PER_CHUNK):
            metric.samples = samples[start : start + VALUES_PER_CHUNK]
            text = encode(_Part(metric))
            if start:
                text = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))
            parts.append(text)
            time.sleep(0)
    return b"".join(parts)
