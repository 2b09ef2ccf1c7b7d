"""Names that a person may have meant, for messages about one that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

MAX_COMPARED = 20_000  # names; more would keep the answer waiting


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """`; did you mean X?` where a known name is near, else ""."""
    near = difflib.get_close_matches(text, list(islice(known, MAX_COMPARED)), 1, 0.7)
    return f"; did you mean {near[0]}?" if near else ""
