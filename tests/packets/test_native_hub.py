"""The other hub, plain threads: a few tables and a restart, as proof that nothing leans on the default one."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.helpers.lab.traffic import flows, total
from tests.helpers.lab.truth_lab import NODES, world_lab
from tests.helpers.lab.truth_table_run import play
from tests.helpers.truth.cases import CASES, Case
from topology.lab.lab import Lab

pytestmark = pytest.mark.lab

FEW = ("netpol-default-deny-all", "groups-policy-created-updated-deleted", "recipes-07-some-pods-in-another-namespace")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab whose controller runs on the native hub."""
    with world_lab(hub="native") as made:
        yield made


def test_it_is_the_native_one(lab: Lab) -> None:
    assert total(lab, "headgate_build_info") == 1
    assert "hub=native" in lab.product.log.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", [case for case in CASES if str(case) in FEW], ids=str)
def test_table(case: Case, lab: Lab) -> None:
    for step, _, wrong in play(lab, case):
        assert wrong == [], f"{case}, {step.why}:\n" + "\n".join(wrong)


def test_the_few_are_there() -> None:
    assert {str(case) for case in CASES} >= set(FEW)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_changes_nothing(lab: Lab, how: signal.Signals) -> None:
    lab.wait()  # for what the last table's end took away
    before = {node: flows(lab, node) for node in NODES}
    lab.product.stop(how)
    lab.product.start()
    lab.wait()
    assert total(lab, "headgate_flow_mods_total") == 0
    assert {node: flows(lab, node) for node in NODES} == before
