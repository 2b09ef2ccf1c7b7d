"""Comments that silence findings, on the line, on the line before, or in the file:

# headgate: ignore HG101, HG102
# headgate: ignore-file HG108
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_COMMENT = re.compile(r"#\s*headgate:\s*(ignore|ignore-file)\s+(\w+(?:\s*,\s*\w+)*)")


@dataclass(frozen=True, slots=True)
class Silenced:
    """The codes that a file's comments silence: everywhere, or by line. `named` are all of them, with their lines."""

    everywhere: frozenset[str]
    by_line: Mapping[int, frozenset[str]]
    named: tuple[tuple[int, str], ...]

    def covers(self, code: str, line: int) -> bool:
        """Whether a finding of this code on this line is silenced."""
        there = self.by_line.get(line, frozenset()) | self.by_line.get(line - 1, frozenset())
        return code in self.everywhere or code in there


def silenced_in(text: str) -> Silenced:
    """The comments of a manifest. A comment may name several codes, separated by commas."""
    everywhere: set[str] = set()
    by_line: dict[int, frozenset[str]] = {}
    named = []
    if "headgate:" in text:
        for number, line in enumerate(text.split("\n"), 1):
            found = _COMMENT.search(line)
            if found is None:
                continue
            codes = [code.strip() for code in found[2].split(",")]
            named += [(number, code) for code in codes]
            if found[1] == "ignore-file":
                everywhere.update(codes)
            else:
                by_line[number] = frozenset(codes)
    return Silenced(frozenset(everywhere), by_line, tuple(named))
