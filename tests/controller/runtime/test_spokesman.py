"""One replica speaks for all: it asks the others, and takes back what it has said when it speaks no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from controller.reconcile.events import ClusterChanged
from controller.runtime import spokesman
from controller.runtime.spokesman import Conditions, Spokesman
from controller.status.detail_model import ConditionsPart, PolicyPart
from controller.status.policy_conditions import PolicyConditions
from flows.cluster.model import Cluster, ClusterPolicy, Key, Tier
from tests.helpers.controller.status_driver import StatusDriver
from tests.helpers.waiting import until

KEY = Key("", "deny")
POLICY = ClusterPolicy(KEY, "ClusterNetworkPolicy", Tier.ADMIN, 0, generation=3)


NOTHING: dict[Key, str] = {}


class Others:
    """What a Fleet is asked for. `said` has the generation that another replica has read, None while it is silent."""

    name = "a"

    def __init__(self) -> None:
        self.speaks = False
        self.said: int | None = 3

    def conditions(self) -> dict[str, ConditionsPart]:
        if self.said is None:
            return {}
        return {"b": ConditionsPart("b", (), {KEY.name: PolicyPart(self.said)})}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spokesman, "LOOK_SECONDS", 0.01)


@contextmanager
def speaking(others: Others | None, written: list[Conditions]) -> Iterator[Spokesman]:
    core = StatusDriver()
    core.send(ClusterChanged(Cluster({}, {}, cluster_policies={KEY: POLICY}), (), 1))
    made = Spokesman(cast("Any", others), cast("Any", core), written.append)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_one_that_is_alone_speaks() -> None:
    written: list[Conditions] = []
    with speaking(None, written):
        until(lambda: written == [{KEY: PolicyConditions("", "", 3)}])


def test_what_it_writes_is_what_all_say_and_is_taken_back() -> None:
    written: list[Conditions] = []
    others = Others()
    with speaking(others, written) as one:
        reported: list[dict[Key, str]] = []
        report = one.reporting(reported.append, NOTHING)
        report({KEY: "spec.tier: is required"})
        assert (written, reported) == ([], []), "another one speaks"
        others.speaks = True
        until(lambda: written == [{KEY: PolicyConditions("", "", 3)}])
        until(lambda: reported == [{KEY: "spec.tier: is required"}])
        others.said = 2
        until(lambda: written[-1] == {KEY: PolicyConditions("", "the replica b has not read it yet", 3)})
        others.speaks = False
        until(lambda: written[-1] == {} and reported[-1] == {})
