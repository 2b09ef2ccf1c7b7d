"""`make release` refuses a commit that is not ready, and tries what it built. A small project stands for Headgate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.process

SETUP = """from setuptools import setup

setup(
    name="headgate",
    version="1.2.3",
    py_modules=["small"],
    entry_points={"console_scripts": ["headgate = small:main"]},
)
"""
SMALL = """import sys


def main():
    print("headgate 1.2.3" if sys.argv[1:] == ["--version"] else "Usage: headgate")
"""
CHANGELOG = """# Changes

## Unreleased

## 1.2.3 - 2026-11-29

### Added

- A thing.

## 1.2.2 - 2026-11-01

- Another.
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "requirements").mkdir(parents=True)
    files = {"setup.py": SETUP, "small.py": SMALL, "CHANGELOG.md": CHANGELOG, ".gitignore": "dist/\n"}
    for name, text in {**files, "requirements/constraints.txt": ""}.items():
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "change")


def release(folder: Path, version: str = "1.2.3") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "release.py"), version, "--root", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused(folder: Path, version: str = "1.2.3") -> str:
    done = release(folder, version)
    assert done.returncode == 1, done.stdout
    assert not (folder / "dist").exists()
    return done.stderr


def test_a_tree_with_changes_is_refused(project: Path) -> None:
    (project / "new.txt").write_text("", encoding="utf-8")
    assert "the tree is not clean" in refused(project)
    assert "new.txt" in refused(project)


@pytest.mark.parametrize(("version", "message"), [("1.2.4", 'set it to "1.2.4"'), ("v1.2.3", "not a version")])
def test_another_version_than_that_of_setup_is_refused(project: Path, version: str, message: str) -> None:
    assert message in refused(project, version)


def test_a_version_without_a_section_is_refused(project: Path) -> None:
    (project / "CHANGELOG.md").write_text(CHANGELOG.replace("1.2.3", "1.2.1"), encoding="utf-8")
    commit(project)
    assert "CHANGELOG.md has no entries for 1.2.3" in refused(project)


def test_entries_that_are_unreleased_are_refused(project: Path) -> None:
    (project / "CHANGELOG.md").write_text(CHANGELOG.replace("## Unreleased", "## Unreleased\n\n- More."), "utf-8")
    commit(project)
    assert "has entries under Unreleased" in refused(project)


@pytest.mark.slow  # makes empty environments
def test_both_archives_are_built_and_tried(project: Path) -> None:
    done = release(project)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (project / "dist").iterdir()}
    assert names == {"headgate-1.2.3.tar.gz", "headgate-1.2.3-py3-none-any.whl", "headgate-1.2.3.md"}
    assert (project / "dist" / "headgate-1.2.3.md").read_text("utf-8") == "### Added\n\n- A thing.\n"
    assert "git tag --annotate v1.2.3 --file dist/headgate-1.2.3.md" in done.stdout


@pytest.mark.slow  # makes empty environments
def test_a_package_that_does_not_work_is_refused(project: Path) -> None:
    (project / "small.py").write_text(SMALL.replace("headgate 1.2.3", "headgate 0"), encoding="utf-8")
    commit(project)
    done = release(project)
    assert done.returncode == 1
    assert "the installed command says 'headgate 0', not headgate 1.2.3" in done.stderr
