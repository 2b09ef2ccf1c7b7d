"""What turns the flows that a switch has into those it shall have.

Works on anything with a key, so that flows can be compared as the bytes the switch dumps, without decoding them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def differ(desired: Mapping[K, V], actual: Mapping[K, V]) -> tuple[list[K], list[K], list[K]]:
    """Keys that are missing from `actual`, that have another value there, and that `desired` does not have."""
    missing = [key for key in desired if key not in actual]
    different = [key for key, value in desired.items() if key in actual and actual[key] != value]
    superfluous = [key for key in actual if key not in desired]
    return missing, different, superfluous
