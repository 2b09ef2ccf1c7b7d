"""What tests compare of a switch's flows as text."""

from __future__ import annotations

from collections.abc import Iterable

from flows.pipeline.priorities import CACHE_MARK


def without_cache_mark(lines: Iterable[str]) -> list[str]:
    """The flows of a dump, sorted, without the cache mark, which moves with every change (docs/adr/0015)."""
    return sorted(line for line in lines if f"priority={CACHE_MARK}," not in line)
