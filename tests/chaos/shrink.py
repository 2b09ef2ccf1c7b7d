"""Makes a failing schedule smaller: fewer steps that still fail. Pure; whether one fails is asked for.

Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (ddmin).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(items: Sequence[T], fails: Callable[[Sequence[T]], bool], runs: int) -> list[T]:
    """A smallest part of `items` that was found to fail with at most `runs` questions. `items` itself is known to fail.

    With questions enough, no single item can be left out of the result.
    """
    kept = list(items)
    parts = 2
    while kept and runs > 0:
        size = -(-len(kept) // parts)
        for start in range(0, len(kept), size):
            rest = kept[:start] + kept[start + size :]
            if runs <= 0:
                break
            runs -= 1
            if fails(rest):
                kept, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(kept), 2 * parts)
    return kept
