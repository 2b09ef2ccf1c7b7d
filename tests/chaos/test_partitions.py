"""Every partition of ADR 25, one after the other, with real packets: what the oracle says must hold in each.

Who owns which switch is found out first: R owns S, the others are O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pytest

from tests.chaos.run import run_schedule
from tests.chaos.schedule import LEASE_SECONDS, Kind, Schedule, Step
from tests.chaos.stage import Stage, stage
from tests.chaos.world import MIN_PODS, REPLICAS
from tests.helpers.api_server.assets import skipped

pytestmark = [pytest.mark.api, pytest.mark.lab, pytest.mark.process, pytest.mark.switch, pytest.mark.slow]
LONG = LEASE_SECONDS + 3.0  # a lease, and the takeover after it


class Ends(NamedTuple):
    """R, S and O."""

    owner: str
    switch: str
    others: Sequence[str]


def cut(kind: Kind, replica: str, node: str = "", at: float = 1.0, seconds: float = LONG) -> Step:
    return Step(at, kind.value, f"{replica}/{node}" if node else replica, seconds)


PARTITIONS: dict[str, Callable[[Ends], list[Step]]] = {
    "R and the API server": lambda ends: [cut(Kind.CUT_API, ends.owner)],
    "all replicas and the API server": lambda ends: [cut(Kind.CUT_API, one) for one in REPLICAS],
    "R and S": lambda ends: [cut(Kind.CUT_SWITCH, ends.owner, ends.switch)],
    "R and S, OpenFlow alone": lambda ends: [cut(Kind.CUT_OPENFLOW, ends.owner, ends.switch)],
    "R and S, OVSDB alone": lambda ends: [cut(Kind.CUT_OVSDB, ends.owner, ends.switch)],
    "S and all": lambda ends: [cut(Kind.CUT_SWITCH, one, ends.switch) for one in REPLICAS],
    "R and the API server, S and O": lambda ends: [
        cut(Kind.CUT_API, ends.owner), *(cut(Kind.CUT_SWITCH, one, ends.switch) for one in ends.others)
    ],
    "R is stopped and comes back": lambda ends: [cut(Kind.STOP, ends.owner)],
    "R is stopped, S restarts, R comes back cut off from the API server": lambda ends: [
        cut(Kind.STOP, ends.owner),
        Step(3.0, Kind.SWITCH.value, ends.switch, 0.2),
        cut(Kind.CUT_API, ends.owner, at=LONG),
    ],
}  # fmt: skip
CHANGES = (
    Step(1.5, Kind.POLICY.value, "y/closed"),
    Step(3.5, Kind.RELABEL.value, "x/p0"),
    Step(LONG + 0.5, Kind.POLICY.value, "x/also-z"),
)


@pytest.fixture(scope="module")
def ready() -> Iterator[Stage]:
    if reason := skipped():
        pytest.skip(reason)
    with stage(MIN_PODS) as made:
        yield made


@pytest.mark.parametrize("cut_between", PARTITIONS)
def test_a_partition(ready: Stage, cut_between: str, record_property: Callable[[str, object], None]) -> None:
    owners = {node: name for name, one in ready.replicas.items() for node in one.primary()}
    switch, owner = min(owners.items())
    ends = Ends(owner, switch, [one for one in REPLICAS if one != owner])
    steps = sorted([*PARTITIONS[cut_between](ends), *CHANGES])
    report = run_schedule(ready, Schedule(0, LONG + 2.0, MIN_PODS, tuple(steps)))
    record_property("counted", f"{cut_between}: {report}")
    assert not report.problems, "\n".join([str(report), *report.problems])
    assert report.outcomes["allowed"] and report.outcomes["denied"]
