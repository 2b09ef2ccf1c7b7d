"""Collects the topics of `headgate help` from the pages: terms of the glossary, and what sections say about policy.

The pages stay the only source. What the command prints is written to controller/cli/help_topics.json by docs.py, since
an installed Headgate has no pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("semantics.md", "tiers.md", "audit.md")  # whose sections are topics
_TERM = re.compile(r"\*\*(.+?)\*\*")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_ITEM = re.compile(r"- \*\*([A-Z].+?)\.?\*\*")
_HEADING = re.compile(r"(#{2,3}) (.+)")


class Topic(NamedTuple):
    """One topic: its name, what it is called in full, its text, and the page that has it."""

    name: str
    title: str
    text: str
    page: str


def help_topics() -> str:
    """All topics as JSON, sorted by name. Of two with one name the glossary's comes first."""
    found: dict[str, Topic] = {}
    for topic in (*_terms(), *(one for page in PAGES for one in _sections(page))):
        found.setdefault(topic.name, topic)
    rows = [topic._asdict() for _, topic in sorted(found.items())]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _terms() -> Iterator[Topic]:
    page = DOCS / "glossary.md"
    for block in page.read_text(encoding="utf-8").split("\n\n"):
        head, separator, text = block.partition("\n: ")
        for term in _TERM.findall(head) if separator else ():
            yield Topic(_slug(term), _plain(head), _plain(" ".join(text.split())), "docs/glossary.md")


def _sections(page: str) -> Iterator[Topic]:
    """Each section with those below it."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    heads = [(number, found) for number, line in enumerate(lines) if (found := _HEADING.fullmatch(line))]
    for place, (number, found) in enumerate(heads):
        later = (other for other, head in heads[place + 1 :] if len(head[1]) <= len(found[1]))
        body = lines[number + 1 : next(later, len(lines))]
        yield Topic(_slug(found[2]), _plain(found[2]), _plain("\n".join(body).strip()), f"docs/{page}")
    yield from _items(lines, page)


def _items(lines: list[str], page: str) -> Iterator[Topic]:
    """The items of lists that begin with a name in bold."""
    for number, line in enumerate(lines):
        if found := _ITEM.match(line):
            more = takewhile(lambda one: one.startswith("  "), lines[number + 1 :])
            text = " ".join([line.removeprefix("- "), *map(str.strip, more)])
            yield Topic(_slug(found[1]), _plain(found[1]), _plain(text), f"docs/{page}")


def _plain(text: str) -> str:
    return _LINK.sub(r"\1", text).replace("**", "").replace("`", "")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", _plain(text).lower()).strip("-")
