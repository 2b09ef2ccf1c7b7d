"""Files that are broken, half written, renamed or hidden: what stood in them stays in force, the others go on, and
the operator is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.lab.policies import pods, policies, port
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe

pytestmark = pytest.mark.lab

FAMILIES = (4, 6)
ISOLATION = policies({"x/deny": {"policyTypes": ["Ingress"]}})
SERVE = {"podSelector": pods("a"), "ingress": [{"from": [{"podSelector": pods("b")}], "ports": [port(80)]}]}
NO_BLOCK = {"ipBlock": {"cidr": "10.10.0/16"}}
OTHER = policies({"y/deny": {"policyTypes": ["Ingress"], "podSelector": pods("a")}})


@pytest.fixture
def folder(lab: Lab) -> Iterator[Path]:
    """The watched folder, with x isolated but for x/b to x/a on 80; what a test adds goes afterwards."""
    path = lab.manifests.path
    before = {one.name for one in path.iterdir()}
    replace(path / "policies.yaml", ISOLATION + "---\n" + policies({"x/serve": SERVE}))
    lab.wait()
    yield path
    for one in path.iterdir():
        if one.name not in before:
            one.unlink()
    lab.reset()


def replace(path: Path, text: str) -> None:
    """Put a file in place in one go, as editors and kubelets do."""
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_text(text, encoding="utf-8")
    hidden.rename(path)


def reaches(lab: Lab, source: str, target: str, number: int = 80, expected: bool = False) -> set[bool]:
    """Whether TCP gets through, by either family: one answer if they agree."""
    probes = [LabProbe(source, target, "TCP", number, family) for family in FAMILIES]
    seen = lab.run_probes(probes, (0.5,), lambda probe: expected)
    return {outcome.reachable for outcome in seen.results.values()}


def allows(lab: Lab, source: str, target: str, number: int = 80) -> bool:
    return reaches(lab, source, target, number, True) == {True}


def denies(lab: Lab, source: str, target: str, number: int = 80) -> bool:
    return reaches(lab, source, target, number) == {False}


@pytest.mark.parametrize(
    ("text", "where", "field"),
    [
        (ISOLATION[: len(ISOLATION) // 2] + "\n  ]{", "policies.yaml", ""),
        ("{", "policies.yaml", ""),
        (
            ISOLATION + "---\n" + policies({"x/serve": {**SERVE, "ingress": [{"ports": [port(99999)]}]}}),
            "policies.yaml, document 2",
            "spec.ingress[0].ports[0].port",
        ),
        (
            ISOLATION + "---\n" + policies({"x/serve": {**SERVE, "ingress": [{"from": [NO_BLOCK]}]}}),
            "policies.yaml, document 2",
            "spec.ingress[0].from[0].ipBlock.cidr",
        ),
    ],
    ids=["half-written", "no-yaml", "no-port", "no-block"],
)
def test_the_last_good_objects_stay_in_force(lab: Lab, folder: Path, text: str, where: str, field: str) -> None:
    (folder / "policies.yaml").write_text(text, encoding="utf-8")
    replace(folder / "other.yaml", OTHER)
    waited = lab.product.call(["status", "--wait", "--timeout", "3"])
    assert waited.returncode == 1, waited.stdout + waited.stderr
    assert "policies.yaml" in waited.stdout + waited.stderr
    problem, *_ = lab.product.get("/status")["problems"]
    assert where in problem["where"], problem
    assert problem["field"].startswith(field), problem
    assert problem["reason"], problem
    assert allows(lab, "x/b", "x/a")
    assert denies(lab, "x/b", "x/a", 81)
    assert denies(lab, "y/b", "x/a")
    assert denies(lab, "x/a", "x/b")
    assert denies(lab, "x/b", "y/a"), "another file went into force meanwhile"
    shown = lab.product.call(["status"]).stdout
    assert "policies.yaml" in shown
    replace(folder / "policies.yaml", ISOLATION)
    lab.wait()
    assert lab.product.get("/status")["problems"] == []
    assert denies(lab, "x/b", "x/a")


def test_a_new_policy_that_is_wrong_isolates_and_says_so(lab: Lab, folder: Path) -> None:
    """Nothing good stood there before: its pods are closed in the directions that it names, the others untouched."""
    wrong = {"podSelector": pods("c"), "policyTypes": ["Ingress"], "ingress": [{"ports": [port(99999)]}]}
    replace(folder / "new.yaml", policies({"z/new": wrong}))
    assert lab.product.call(["status", "--wait", "--timeout", "3"]).returncode == 1
    assert denies(lab, "z/a", "z/c")
    assert allows(lab, "z/c", "z/a")
    (shown,) = (one for one in lab.product.get("/status")["policies"] if one["key"] == "z/new")
    assert "port" in shown["reason"], shown


def test_files_renamed_over_and_removed(lab: Lab, folder: Path) -> None:
    replace(folder / "policies.yaml", ISOLATION)
    lab.wait()
    assert denies(lab, "x/b", "x/a")
    (folder / "policies.yaml").rename(folder / "renamed.yaml")
    lab.wait()
    assert denies(lab, "x/b", "x/a")
    (folder / "renamed.yaml").unlink()
    lab.wait()
    assert allows(lab, "x/b", "x/a")


def test_hidden_files_are_not_read(lab: Lab, folder: Path) -> None:
    (folder / ".hidden.yaml").write_text(OTHER, encoding="utf-8")
    (folder / ".broken.yaml").write_text("{", encoding="utf-8")
    lab.wait()
    assert lab.product.get("/status")["problems"] == []
    assert allows(lab, "x/b", "y/a")
    (folder / ".hidden.yaml").rename(folder / "seen.yaml")
    lab.wait()
    assert denies(lab, "x/b", "y/a")


def test_nobody_to_wait_for(lab: Lab) -> None:
    """The exit codes of `status --wait`: 0 is in force, 1 is not, 3 is no answer."""
    assert lab.product.call(["status", "--wait", "--timeout", "20"]).returncode == 0
    lab.product.stop()
    try:
        assert lab.product.call(["status", "--wait", "--timeout", "1"]).returncode == 3
    finally:
        lab.product.start()
        lab.wait()
