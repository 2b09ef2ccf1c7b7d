"""Pytest leaves out folders by their names, without a word: no folder of tests may have one of those."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from tests.helpers.paths import ROOT


def test_every_file_of_tests_is_in_a_folder_that_pytest_looks_into(pytestconfig: pytest.Config) -> None:
    patterns = pytestconfig.getini("norecursedirs")
    folders = {folder for path in (ROOT / "tests").rglob("test_*.py") for folder in path.relative_to(ROOT).parts[:-1]}
    assert "packaging" in folders
    assert [folder for folder in sorted(folders) if any(fnmatch(folder, pattern) for pattern in patterns)] == []
