"""Immutable mappings that share what did not change: a new one costs its changes, not the whole of it.

Of what the values are nothing may be known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")
_MOST = 256  # changes kept beside the base; more become a base of their own
_GONE = object()


class Snapshot(Mapping[K, V]):
    """A base that is never changed, and what differs from it."""

    __slots__ = ("_base", "_over", "_size")

    def __init__(self, base: dict[K, V] | None = None) -> None:
        self._base: dict[K, V] = {} if base is None else base
        self._over: dict[K, object] = {}
        self._size = len(self._base)

    def updated(self, changes: Mapping[K, V | None]) -> Snapshot[K, V]:
        """The same with other values; None takes a key away."""
        made: Snapshot[K, V] = Snapshot()
        over = {**self._over, **{key: _GONE if value is None else value for key, value in changes.items()}}
        if len(over) <= _MOST:
            made._base, made._over = self._base, over
            made._size = self._size + sum((value is not None) - (key in self) for key, value in changes.items())
            return made
        base = dict(self._base)
        for key, value in over.items():
            if value is _GONE:
                base.pop(key, None)
            else:
                base[key] = cast("V", value)
        made._base, made._size = base, len(base)
        return made

    def __getitem__(self, key: K) -> V:
        found = self._over.get(key) if self._over else None
        if found is None:
            return self._base[key]
        if found is _GONE:
            raise KeyError(key)
        return cast("V", found)

    def get(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]  # no other default is used
        """The value of a key, or `default`."""
        found = self._over.get(key) if self._over else None
        if found is None:
            return self._base.get(key, default)
        return default if found is _GONE else cast("V", found)

    def __contains__(self, key: object) -> bool:
        found = self._over.get(key) if self._over else None  # type: ignore[arg-type]  # any key may be asked for
        return key in self._base if found is None else found is not _GONE

    def __iter__(self) -> Iterator[K]:
        if not self._over:
            return iter(self._base)
        return self._merged()

    def _merged(self) -> Iterator[K]:
        over = self._over
        for key in self._base:
            if key not in over:
                yield key
        for key, value in over.items():
            if value is not _GONE:
                yield key

    def __len__(self) -> int:
        return self._size
