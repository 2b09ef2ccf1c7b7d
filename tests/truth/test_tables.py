"""Every truth table against the reference semantics: all pairs, ports and families of every step, from manifests on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flows.cluster.model import Cluster, Key, Protocol
from flows.cluster.net import parse_address
from flows.policy.probe import ICMP, ICMPV6, Endpoint, Probe
from flows.policy.verdict import verdict
from tests.helpers.truth.cases import CASES, Case, CaseError, Check, load
from tests.helpers.truth.layout import PODS, TruthLayout, paper_world
from tests.helpers.truth.paper_cluster import PaperCluster

WORLD = paper_world()


def endpoint(world: TruthLayout, end: str, family: int) -> Endpoint:
    text = world.address(end, family)
    assert text is not None
    address = parse_address(text)
    if end in world.pods:
        return Endpoint(address, pod=Key(*end.split("/")))
    return Endpoint(address, node=world.placement[end[1:]]) if end.startswith("@") else Endpoint(address)


def wrong(cluster: Cluster, world: TruthLayout, check: Check) -> list[str]:
    """The verdicts that differ from the table, explained."""
    found = []
    for family in check.families:
        protocol = {4: ICMP, 6: ICMPV6}[family] if check.protocol == "ICMP" else Protocol[check.protocol]
        for (source, destination), expected in check.matrix(world).items():
            ends = endpoint(world, source, family), endpoint(world, destination, family)
            answer = verdict(cluster, Probe(*ends, protocol, check.port))
            if answer.allowed is not expected:
                found.append("\n".join(answer.explain()))
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_table(case: Case) -> None:
    cluster = PaperCluster(WORLD.manifests())
    before = cluster.snapshot()
    for step in (*case.steps(WORLD), case.cleanup(WORLD)):
        for manifest in step.delete:
            cluster.delete_policy(manifest)
        for manifest in step.apply:
            cluster.apply(manifest)
        for check in step.checks:
            assert wrong(cluster.snapshot(), WORLD, check) == [], f"{step.why} {check}"
    assert cluster.snapshot() == before


def test_tables_say_something() -> None:
    """Every case checks something, and something in it is denied, but for those that are about allowing all."""
    about_allowing = {"netpol-allow-all", "groups-target-nobody", "groups-empty-lists-of-peers-and-ports"}
    for case in CASES:
        checks = [check for step in case.steps(WORLD) for check in step.checks]
        assert checks, case
        all_allowed = all(all(check.matrix(WORLD).values()) for check in checks)
        assert all_allowed == (str(case) in about_allowing), case


def test_names_are_unique_and_the_public_suites_are_there() -> None:
    names = [str(case) for case in CASES]
    assert len(set(names)) == len(names)
    suites = {suite: sum(case.suite == suite for case in CASES) for suite in {case.suite for case in CASES}}
    assert suites["netpol"] + suites["netpol_more"] >= 49
    assert suites["recipes"] == 14


def test_the_matrix_has_all_pairs_of_pods_and_the_last_word_counts() -> None:
    check = Check("TCP", 80, (4, 6), ("deny * > x/*", "allow y/b,@x/a > x/a", "deny outside > x/a"))
    matrix = check.matrix(WORLD)
    assert len(matrix) == 81 + 2
    assert matrix["y/b", "x/a"]
    assert matrix["x/b", "x/b"]
    assert matrix["@x/a", "x/a"]
    assert not matrix["y/b", "x/b"]
    assert not matrix["outside", "x/a"]
    indoors = dataclasses.replace(WORLD, outside={})
    assert set(check.matrix(indoors)) == set(matrix) - {("outside", "x/a")}


@pytest.mark.parametrize("line", ["forbid * > *", "deny * x/a >", "deny w/* > *", "deny x/d > *", "deny @ > *"])
def test_lines_that_say_nothing_are_refused(line: str) -> None:
    with pytest.raises(CaseError):
        Check("TCP", 80, (4,), (line,)).matrix(WORLD)


def test_a_misspelt_step_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("one: [{polices: {}}]\n")
    (case,) = load(file)
    with pytest.raises(CaseError, match="polices"):
        list(case.steps(WORLD))


def test_a_world_must_cross_nodes_and_its_words_are_filled() -> None:
    with pytest.raises(ValueError, match="different nodes"):
        dataclasses.replace(WORLD, placement=dict.fromkeys(PODS, "one"))
    assert WORLD.fill({"a": ["{ip4 x/a}/32", "{ip6 @x/b}", "{pods4}", 5]}) == {
        "a": ["10.10.1.2/32", "fd00:10:2::1", "10.10.0.0/22", 5]
    }
    with pytest.raises(KeyError):
        WORLD.fill("{ip5 x/a}")
