"""Making text from outside safe to show: names come from manifests, switches and servers, and end on terminals and in
logs.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with control characters escaped, so that it can neither steer a terminal nor fake a line of a log."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
