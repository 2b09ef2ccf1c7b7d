"""The commands of `headgate lab`, run as a user runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from controller.cli import main
from tests.helpers.json_forms import fits
from tests.helpers.paths import ROOT
from tests.topology.conftest import SMALL, MakeLab, close_switches, open_switches
from topology.host.process import python_path
from topology.lab.lab import Lab

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

    status = fits("lab-status", headgate("status", "-o", "json").stdout)
    assert [pod["name"] for pod in status["pods"]] == ["x/a", "x/b"]
    assert "x/a" in headgate("status").stdout

    first = fits("lab-probe", headgate("probe", "-o", "json", "-p", "80", "--family", "4").stdout)
    assert first["count"] == {"allowed": 3, "closed": 0, "denied": 6, "wrong": 0}
    open_switches(lab)
    second = headgate("probe", "-p", "80", "--family", "4", "--changes")
    assert "6 changes since the probe of" in second.stdout
    assert "  x/a -> b TCP 80 IPv4  ✗ -> ✓\n" in second.stdout
    one = headgate("probe", "--from", "x/a", "--to", "x/b", "-p", "80", "--changes")
    assert one.stdout.splitlines()[0] == "x/a -> b TCP 80  ✓ allowed"
    assert "no changes since" in one.stdout
    assert "1 of these 2 probes were in it" in one.stdout
    close_switches(lab)
    told = fits(
        "lab-probe", headgate("probe", "--from", "x/a", "--to", "x/b", "-p", "80", "--changes", "-o", "json").stdout
    )
    assert told["compared_with"]["probes"] == 2
    assert [(one["family"], one["before"], one["after"]) for one in told["changes"]] == [
        (4, "allowed", "denied"),
        (6, "allowed", "denied"),
    ]
    new = headgate("probe", "--to", "x/b", "-p", "79", "--family", "6", "--changes")
    assert "no earlier probe of these" in new.stdout
    assert json.loads(headgate("probe", "-o", "json", "-p", "78", "--changes").stdout)["compared_with"] is None
    assert "has no endpoint x/z" in headgate("probe", "--to", "x/z").stderr

    manifest = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {new: 'yes'}}}"
    assert headgate("apply", "-f", "-", text=manifest).stdout == "pod x/a configured\n"
    assert any(item["metadata"].get("labels") == {"new": "yes"} for item in lab.manifests.objects())

    done = headgate(
        "exec", "x/a", "--", sys.executable, "-c", "import sys; print(sys.stdin.read()); sys.exit(7)", text="in"
    )
    assert (done.returncode, done.stdout) == (7, "in\n")

    alone = headgate("exec", "x/a", text="ip -o -4 addr show dev eth0; exit 8\n")
    assert alone.returncode == 8
    assert lab.endpoints["x/a"].addresses[4] in alone.stdout
    on_node = headgate("exec", "node:two", "--", "ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids:hostname")
    assert on_node.stdout.strip() == "two"
    assert "table_id=" in headgate("exec", "node:two", "--", "ovs-appctl", "bridge/dump-flows", "br-int").stdout

    assert headgate("delete", "-f", "-", text=manifest).stdout == "pod x/a deleted\n"
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
    assert "metadata: is required" in headgate("apply", "-f", "-", text="kind: Pod\napiVersion: v1").stderr


def test_scenarios_are_listed_and_one_holds(headgate: Run, base: Path) -> None:
    listed = headgate("scenario").stdout
    assert ["recipe-02a", "Allow", "all"] in [line.split()[:3] for line in listed.splitlines()]
    assert "there is no scenario 'recipe-99'" in headgate("scenario", "recipe-99").stderr
    done = headgate("scenario", "tenant")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓ pol1 opens the backend to the frontend") == 1
    assert done.stdout.endswith("1 of 1 scenarios came out as expected\n")
    assert not base.exists() or not list(base.iterdir())


def test_of_several_labs_one_must_be_named(headgate: Run, base: Path, tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    for name in ("demo", "t"):
        assert headgate("--name", name, "up", "-f", str(file), "--no-controller").returncode == 0
    for command in (["status"], ["probe"], ["down"], ["exec", "x/a", "--", "true"], ["apply", "-f", "-"]):
        done = headgate(*command, text="")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "headgate: there are several labs: demo, t; choose one: headgate lab --name NAME ...\n"
    assert headgate("--name", "t", "status").returncode == 0
    assert main(["--lab", "t", "lab", "--run-dir", str(base), "status"]) == 0  # before the subcommand, too
    assert headgate("--name", "t", "down").returncode == 0
    assert headgate("status").returncode == 0


def test_the_session_of_the_readme(headgate: Run) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^# \.venv/bin/headgate lab (.*?)(?: +# .*)?$", text, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["up", "probe", "apply", "probe", "exec", "down"]
    said = {}
    for line in lines:
        done = headgate(*line.replace("docs/", f"{ROOT}/docs/").split(), text="exit 0\n")
        assert done.returncode == 0, f"{line}: {done.stderr}"
        said[line] = done.stdout
    policy = "docs/examples/08-ingress-meets-egress/manifests/policy.yaml"
    assert "networkpolicy tenant-a/backend-ingress created" in said[f"apply -f {policy}"]
    assert "  tenant-a/batch -> backend TCP 80  ✓ -> ✗\n" in said["probe --changes"]
    assert "tenant-a/frontend -> backend TCP 80 " not in said["probe --changes"]
