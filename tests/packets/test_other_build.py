"""A rolling update by a version that wants other flows: each takeover rewrites the switch once, in one bundle, and no
packet is lost or leaked. The other version is this one with rules numbered otherwise, so that the flows of all rules
are others.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.helpers.controller.replicas import Replica, logs, until_divided
from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.traffic import Record, flows, go_on, sends
from tests.helpers.lab.truth_lab import NODES
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until
from tests.packets.test_replicas import lab, others
from tests.packets.test_restart import Watched, under_traffic
from topology.lab.lab import Lab

__all__ = ["lab", "others"]  # fixtures
pytestmark = [pytest.mark.lab, pytest.mark.slow]
NUMBERED = "blake2b(identity, digest_size=8, "
BUNDLE = "changing flows"
RULE_ON_THE_OTHER_NODE = policies(
    {"x/more": {"podSelector": pods("b"), "ingress": [{"from": [{"podSelector": pods("c")}], "ports": [port(81)]}]}}
)


@pytest.fixture(scope="module")
def other_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a Headgate that numbers rules otherwise."""
    root = tmp_path_factory.mktemp("build")
    for package in ("controller", "flows"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    numbers = root / "flows/policy/rule_numbers.py"
    text = numbers.read_text()
    assert NUMBERED in text
    numbers.write_text(text.replace(NUMBERED, NUMBERED + 'person=b"other", '))
    return root


class Fleet:
    """The replicas, and how many bundles they have sent beyond one for each switch that came to another build."""

    def __init__(self, replicas: Sequence[Replica], watched: Watched) -> None:
        self._replicas, self._watched = replicas, watched
        self._there = self._builds(replicas)
        self._bundles = self._count()
        self.rewrites = 0

    def replace(self, one: Replica, root: Path) -> None:
        """End a replica, and start it as another build, as a rolling update does."""
        rest = [other for other in self._replicas if other is not one]
        self._step(one.end, rest)
        one.root = root
        self._step(one.start, self._replicas)

    def _step(self, change: Callable[[], object], left: Sequence[Replica]) -> None:
        change()
        until(lambda: all(one.ready() for one in left), lambda: logs(self._replicas))
        until_divided(left, set(NODES))
        sends(self._watched.traffic, 20)
        before, self._there = self._there, self._builds(left)
        rewritten = sum(self._there[node] != before[node] for node in NODES)
        bundles, self._bundles = self._count() - self._bundles, self._count()
        assert bundles == rewritten, logs(self._replicas)
        self.rewrites += rewritten

    def _builds(self, left: Sequence[Replica]) -> dict[str, Path]:
        """The build of each switch's owner."""
        return {node: one.root for one in left for node in one.primary()}

    def _count(self) -> int:
        return sum(one.log.read_text().count(BUNDLE) for one in self._replicas)


def test_a_rolling_update_by_a_version_with_other_flows_and_back(
    lab: Lab, others: list[Replica], other_build: Path, record_property: Record
) -> None:
    with under_traffic(lab) as watched:
        lab.apply(RULE_ON_THE_OTHER_NODE)
        lab.product.stop(signal.SIGTERM)  # the two that are left serve both switches
        until_divided(others, set(NODES))
        before = {node: flows(lab, node) for node in NODES}
        fleet = Fleet(others, watched)
        for one in others:
            fleet.replace(one, other_build)
        updated = {node: flows(lab, node) for node in NODES}
        assert all(updated[node] != before[node] for node in NODES)
        for one in others:
            fleet.replace(one, ROOT)
        assert {node: flows(lab, node) for node in NODES} == before
        go_on(watched.lived)
        watched.settle()
        record_property("counted", f"{fleet.rewrites} switches rewritten by another build: {watched.account()}")
        assert fleet.rewrites >= 2 * len(NODES)
        assert (watched.lost_by_switches(), watched.leaked()) == (0, 0), watched.account()
        lab.product.start()
        lab.delete(RULE_ON_THE_OTHER_NODE)
