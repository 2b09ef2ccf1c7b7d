"""Every dependency is pinned, and a built package holds all that the installed command reads."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.paths import ROOT

PACKAGES = ("flows", "controller", "topology", "bench", "node")
PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    found = [PIN.fullmatch(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def declared() -> list[Requirement]:
    return [Requirement(text) for text in metadata.requires("headgate") or []]


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    outside = [
        str(requirement)
        for requirement in declared()
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ]
    assert outside == []


def test_what_is_installed_is_what_was_pinned() -> None:
    pinned = pins()
    names = [canonicalize_name(requirement.name) for requirement in declared()]
    assert {name: metadata.version(name) for name in names} == {name: pinned[name] for name in names}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a package is built from."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in a wheel, built without the network and with the build tool that is installed."""
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(target)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    return set(zipfile.ZipFile(next(target.glob("*.whl"))).namelist())


@pytest.mark.process
def test_a_wheel_holds_every_file_of_the_packages(source: Path, wheel: set[str]) -> None:
    files = [path for name in PACKAGES for path in (source / name).rglob("*") if path.is_file()]
    assert {str(path.relative_to(source)) for path in files} - wheel == set()


@pytest.mark.process
def test_a_wheel_holds_nothing_else(wheel: set[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {*PACKAGES, "headgate"}
