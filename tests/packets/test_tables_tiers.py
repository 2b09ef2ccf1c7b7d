"""The truth tables of ClusterNetworkPolicies on real packets. A file a suite, so that they run beside each other."""

from __future__ import annotations

import pytest

from tests.helpers.lab.truth_table_run import play
from tests.helpers.truth.cases import CASES, Case
from topology.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.mark.parametrize("case", [case for case in CASES if case.suite == "tiers"], ids=str)
def test_table(case: Case, lab: Lab) -> None:
    probes = 0
    for step, count, wrong in play(lab, case):
        probes += count
        assert wrong == [], f"{case}, {step.why}:\n" + "\n".join(wrong)
    assert probes > 0
