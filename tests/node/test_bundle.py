"""The bundle is one file that any Python from 3.9 runs, and that writes itself, compiled, where it shall be."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from node.bundle import SCRIPTS, BundleError, install, pack, read_sources, write_file
from tests.helpers.paths import ROOT

MODULES = sorted((ROOT / "node").glob("*.py"))
OLDEST = (3, 9)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "headgate-node"
    write_file(path, pack(read_sources()))
    return path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_oldest_python_understands_every_module(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=OLDEST)


def test_it_holds_every_module_and_the_scripts_of_deploy(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        expected = {f"node/{path.name}" for path in MODULES} | {f"node/scripts/{name}" for name in SCRIPTS}
        assert set(archive.namelist()) == expected | {"__main__.py"}
        for name in SCRIPTS:
            path = next((ROOT / "deploy").rglob(name))
            assert archive.read(f"node/scripts/{name}") == path.read_bytes()


def test_the_same_sources_give_the_same_bytes() -> None:
    assert pack(read_sources()) == pack(read_sources())


@pytest.mark.process
def test_it_runs_without_anything_beside_it(bundle: Path) -> None:
    done = run(bundle, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "headgate-node setup" in done.stdout


@pytest.mark.process
def test_it_writes_itself_compiled_and_only_when_that_changes_anything(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "sbin" / "headgate-node"
    assert run(bundle, "install", target).returncode == 0
    with zipfile.ZipFile(target) as archive:
        assert "node/bundle.pyc" in archive.namelist()
    said = run(sys.executable, "-v", target, "--help")
    assert "code object from" not in "".join(line for line in said.stderr.splitlines() if str(target) in line)
    first = target.stat()
    assert run(target, "install", target).returncode == 0
    assert target.stat().st_ino == first.st_ino


@pytest.mark.process
@pytest.mark.parametrize("script", ["setup", "undo"])
def test_it_runs_the_scripts_of_deploy(bundle: Path, script: str) -> None:
    done = run(bundle, script, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Sets this machine up" if script == "setup" else "Undoes what")


@pytest.mark.process
def test_the_oldest_python_runs_it(bundle: Path) -> None:
    found = os.environ.get("HEADGATE_OLDEST_PYTHON") or shutil.which("python3.9")
    if not found or run(found, "--version").returncode:
        pytest.skip("python3.9 is not installed")
    assert run(found, bundle, "--help").returncode == 0


def test_what_cannot_be_written_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be written"):
        write_file(tmp_path / "file" / "headgate-node", b"")
    install([tmp_path / "one"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "one"]
