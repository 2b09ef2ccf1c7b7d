"""What the page about clusters says of Services is what the code has: limits, and what is not supported."""

from __future__ import annotations

import re

from flows.pipeline.affinity import MOST_OF_POOL, MOST_SECONDS, POOLS
from flows.services import limits
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text()


def test_the_limits_of_services_are_those_of_the_code() -> None:
    (said,) = re.findall(r"- \*Limits\*:(.*?)\n\n", PAGE, re.DOTALL)
    numbers = {int(text.replace(",", "")) for text in re.findall(r"\d[\d,]*", said)}
    assert numbers == {
        limits.MAX_BACKENDS,
        limits.MAX_SERVICE_BACKENDS,
        limits.MAX_SLICES,
        limits.MAX_MERGED,
        limits.MAX_SERVICE_FLOWS,
        limits.MAX_COST,
        limits.MAX_COST_OF_NEW,
    }


def test_the_limits_of_session_affinity_are_those_of_the_code() -> None:
    (said,) = re.findall(r"- \*Session affinity\*(.*?)\n- ", PAGE, re.DOTALL)
    assert {f"{POOLS * MOST_OF_POOL:,}", f"{MOST_OF_POOL:,}", f"{MOST_SECONDS:,}"} <= set(re.findall(r"\d[\d,]+", said))


def test_nothing_that_is_served_stands_among_what_is_not() -> None:
    """Each of these has a paragraph under Services, or a test on packets."""
    table = PAGE.partition("## What is not supported")[2]
    assert not {"sessionAffinity", "healthCheckNodePort", "trafficDistribution"} & set(re.findall(r"\w+", table))
    for field in ("sessionAffinity", "healthCheckNodePort", "trafficDistribution", "hostPort"):
        assert field in PAGE.partition("## Services")[2].partition("\n## ")[0]
