"""The commands of `headgate lab`, run as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.lab.conftest import SMALL, MakeLab, open_switches
from topology.lab import Lab
from topology.process import python_path

pytestmark = pytest.mark.lab
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def headgate(base: Path, make_lab: MakeLab) -> Iterator[Run]:
    """Runs `headgate lab` with labs under `base`; the labs demo and t are taken down afterwards."""

    def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "controller", "lab", *arguments],
            env={**os.environ, **python_path(), "HEADGATE_LAB_DIR": str(base)},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    make_lab(name="demo")
    make_lab(name="t")
    yield run


def test_a_round_of_all_commands(headgate: Run, base: Path, tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "name": "t"}), encoding="utf-8")
    up = headgate("up", "-f", str(file), "--no-controller")
    assert (up.returncode, up.stdout) == (0, "lab t is up: 2 pods on 2 nodes, userspace datapath\n")
    assert "was up already" in headgate("up", "-f", str(file), "--no-controller").stdout
    lab = Lab.load("t", base)

    status = json.loads(headgate("status", "-o", "json").stdout)
    assert [pod["name"] for pod in status["pods"]] == ["x/a", "x/b"]
    assert "x/a" in headgate("status").stdout

    first = json.loads(headgate("probe", "-o", "json", "-p", "80", "--family", "4").stdout)
    assert first["count"] == {"allowed": 3, "closed": 0, "denied": 6, "wrong": 0}
    open_switches(lab)
    second = headgate("probe", "-p", "80", "--family", "4", "--changes")
    assert "changed since the last time: 6 probes" in second.stdout

    manifest = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {new: 'yes'}}}"
    assert headgate("apply", "-f", "-", text=manifest).stdout == "pod x/a changed\n"
    assert any(item["metadata"].get("labels") == {"new": "yes"} for item in lab.manifests.objects())
    assert headgate("delete", "-f", "-", text=manifest).stdout == "pod x/a deleted\n"

    done = headgate(
        "exec", "x/a", "--", sys.executable, "-c", "import sys; print(sys.stdin.read()); sys.exit(7)", text="in"
    )
    assert (done.returncode, done.stdout) == (7, "in\n")

    assert headgate("down").stdout == "lab t is down\n"
    assert headgate("down").returncode == 0


def test_what_goes_wrong_is_one_line(headgate: Run, tmp_path: Path) -> None:
    nothing = headgate("probe")
    assert nothing.returncode == 1
    assert nothing.stderr.startswith("headgate: no lab demo is up")
    broken = tmp_path / "broken.yaml"
    broken.write_text("nodes: []", encoding="utf-8")
    refused = headgate("up", "-f", str(broken))
    assert refused.returncode == 1
    assert f"{broken}: nodes: " in refused.stderr
    assert headgate("up", "--datapath", "fast").returncode == 2


def test_wrong_names_inside_a_lab(headgate: Run) -> None:
    assert headgate("up", "--no-controller").returncode == 0
    assert "has no endpoint x/y" in headgate("exec", "x/y", "--", "true").stderr
    assert headgate("exec", "tenant-a/frontend", "--", "no-such-program").returncode == 127
    assert headgate("probe", "-p", "http").returncode == 2
    assert "No such file" in headgate("apply", "-f", "/nonexistent.yaml").stderr
    assert "metadata.name is missing" in headgate("apply", "-f", "-", text="kind: Pod").stderr


def test_scenarios_are_listed_and_one_holds(headgate: Run, base: Path) -> None:
    listed = headgate("scenario").stdout
    assert ["recipe-02a", "Allow", "all"] in [line.split()[:3] for line in listed.splitlines()]
    assert "there is no scenario 'recipe-99'" in headgate("scenario", "recipe-99").stderr
    done = headgate("scenario", "tenant")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓ pol1 opens the backend to the frontend") == 1
    assert done.stdout.endswith("1 of 1 scenarios hold\n")
    assert not base.exists() or not list(base.iterdir())
