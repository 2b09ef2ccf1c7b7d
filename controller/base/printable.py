"""Makes untrusted text safe for terminals and logs: names come from manifests, switches and servers."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with control characters escaped, so that it can neither control a terminal nor fake a log line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
