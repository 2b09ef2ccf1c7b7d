"""Links and commands of hand-written pages exist. See `make check-docs` for the generated pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / ".github").rglob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
TYPED = re.compile(r"(?:^|`)(?:# )?make ([a-z-]+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link for link, _ in LINK.findall(page.read_text()) if "://" not in link]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_names_only_targets_that_are_there() -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    typed = set(TYPED.findall((ROOT / "README.md").read_text()))
    assert {"demo", "test", "install"} <= typed
    assert typed <= targets


def test_each_decision_has_a_number_of_its_own() -> None:
    numbers = [int(page.name[:4]) for page in (ROOT / "docs" / "adr").glob("*.md")]
    assert len(set(numbers)) == len(numbers)


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [page for page in (ROOT / "docs").glob("*.md") if page.name != "README.md"]
    assert [page.name for page in pages if f"]({page.name})" not in index] == []
    for page in sorted((ROOT / "docs" / "adr").glob("*.md")):
        title = page.read_text().splitlines()[0].split(". ", 1)[1]
        assert f"| [{int(page.name[:4])}](adr/{page.name}) | {title} |" in index
