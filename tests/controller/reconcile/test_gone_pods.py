"""Pods that are gone: kept with the addresses that they had, bounded, and forgotten when they come back."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from controller.reconcile import gone_pods
from controller.reconcile.gone_pods import GonePods
from flows.cluster.model import Cluster
from flows.explain.past import with_gone
from flows.policy.engine import PolicyEngine
from tests.helpers.cluster.model_objects import cluster, key, node, pod


def _engine(world: Cluster) -> PolicyEngine:
    engine = PolicyEngine()
    engine.load(world)
    return engine


def _without(world: Cluster, *names: str) -> Cluster:
    left = {name: one for name, one in world.pods.items() if str(name) not in names}
    return replace(world, pods=MappingProxyType(left))


WORLD = cluster(
    [pod("x/a", 2), pod("x/b", 3), pod("x/host", 4, host_network=True)], [node("one", "10.0.0.9")], {"x": {}}
)


def test_a_deleted_pod_is_found_by_name_and_address() -> None:
    gone = GonePods()
    gone.note(
        [("Pod", key("x/a")), ("Pod", key("x/host"))], _without(WORLD, "x/a", "x/host"), WORLD, _engine(WORLD), 5.0
    )
    for text in ("x/a", "pod:x/a", "10.0.0.2", "fd00::2"):
        assert [(str(one.pod.key), one.at) for one in gone.named([text, "z/z"])] == [("x/a", 5.0)]
    assert not gone.named(["x/b", "x/host", "10.0.0.4"])
    gone.note([("Pod", key("x/a"))], WORLD, _without(WORLD, "x/a"), _engine(WORLD), 6.0)
    assert not gone.named(["x/a"])


def test_the_oldest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gone_pods, "MAX_GONE", 1)
    gone, engine = GonePods(), _engine(WORLD)
    gone.note([("Pod", key("x/a"))], _without(WORLD, "x/a"), WORLD, engine, 1.0)
    gone.note([("Pod", key("x/b"))], _without(WORLD, "x/a", "x/b"), WORLD, engine, 2.0)
    assert not gone.named(["x/a"]) and gone.named(["x/b"])


def test_only_what_nobody_has_now_comes_back() -> None:
    old, taken = pod("x/old", 7), pod("x/taken", 3)
    at_node = pod("x/node", 9, families=(4,))
    found, back = with_gone(WORLD, [old, taken, at_node, pod("x/a", 8), pod("x/older", 7)])
    assert (
        back == (key("x/old"),) and found.pods[key("x/old")] is old and found.pods[key("x/a")] is WORLD.pods[key("x/a")]
    )
    assert with_gone(WORLD, [taken]) == (WORLD, ())
