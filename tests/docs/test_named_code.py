"""Every file and every name of the code that a page written by hand mentions exists."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.helpers.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
PATHS = sorted(set(re.findall(r"`((?:flows|controller|topology|bench|tests|deploy|scripts)/[\w./-]*)(?=[`:])", TEXT)))
NAMES = sorted(set(re.findall(r"`([\w/]+\.py): (\w+)(?:\.(\w+))?`", TEXT)))


@cache
def _names(path: str) -> dict[str, set[str]]:
    """The top-level names of a file, and of each class its methods."""
    found: dict[str, set[str]] = {}
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = set()
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = list(node.targets) if isinstance(node, ast.Assign) else [node.target]
            names = (one for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))
            found.update({one.id: set() for one in names})
    return found


@pytest.mark.parametrize("path", PATHS)
def test_paths_exist(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "name", "member"), NAMES)
def test_names_exist(path: str, name: str, member: str) -> None:
    assert name in _names(path)
    assert not member or member in _names(path)[name]
