"""Immutable mappings: a new version shares what did not change, so it costs its changes, not its size.

Nothing here may depend on what the values are.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")
_MAX_OVERLAY = 256  # changes kept over the base; with more of them a new base is made
_DELETED = object()


class Snapshot(Mapping[K, V]):
    """A base dict that is never changed, and an overlay of the keys that differ from it."""

    __slots__ = ("_base", "_overlay", "_size")

    def __init__(self, base: dict[K, V] | None = None) -> None:
        self._base: dict[K, V] = {} if base is None else base
        self._overlay: dict[K, Any] = {}  # values, or _DELETED
        self._size = len(self._base)

    def updated(self, changes: Mapping[K, V | None]) -> Snapshot[K, V]:
        """A new mapping with these values; None deletes a key."""
        made: Snapshot[K, V] = Snapshot()
        overlay = {**self._overlay, **{key: _DELETED if value is None else value for key, value in changes.items()}}
        if len(overlay) <= _MAX_OVERLAY:
            made._base, made._overlay = self._base, overlay
            made._size = self._size + sum((value is not None) - (key in self) for key, value in changes.items())
            return made
        base = dict(self._base)
        for key, value in overlay.items():
            if value is _DELETED:
                base.pop(key, None)
            else:
                base[key] = value
        made._base, made._size = base, len(base)
        return made

    def __getitem__(self, key: K) -> V:
        found = self._overlay.get(key) if self._overlay else None
        if found is None:
            return self._base[key]
        if found is _DELETED:
            raise KeyError(key)
        value: V = found
        return value

    def get(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]  # the default is a V or None
        """The value of a key, or `default`."""
        found = self._overlay.get(key) if self._overlay else None
        if found is None:
            return self._base.get(key, default)
        return default if found is _DELETED else found

    def __contains__(self, key: object) -> bool:
        found = self._overlay.get(key) if self._overlay else None  # type: ignore[arg-type]  # any object may be tested
        return key in self._base if found is None else found is not _DELETED

    def __iter__(self) -> Iterator[K]:
        if not self._overlay:
            return iter(self._base)
        return self._merged()

    def _merged(self) -> Iterator[K]:
        overlay = self._overlay
        for key in self._base:
            if key not in overlay:
                yield key
        for key, value in overlay.items():
            if value is not _DELETED:
                yield key

    # Very many objects are gone through by these; those of `Mapping` look each key up.

    def values(self) -> ValuesView[V]:
        """All values."""
        return super().values() if self._overlay else self._base.values()

    def items(self) -> ItemsView[K, V]:
        """All keys and their values."""
        return super().items() if self._overlay else self._base.items()

    def __len__(self) -> int:
        return self._size
