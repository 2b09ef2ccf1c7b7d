"""Objects of the original policy API on their way from files to snapshots: in any order, beside v1 of the same name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

import pytest
import yaml

from controller.reconcile.events import ClusterChanged
from controller.sources.folder.manifest import read_manifest
from controller.sources.store import Store
from controller.sources.unit import SourceUnit
from flows.cluster.model import Key, Policy
from tests.controller.sources.test_store import Feed
from tests.helpers.paths import ROOT

EXAMPLES = ROOT / "docs" / "examples" / "10-original-api" / "manifests"
ANNOTATIONS = {
    "net.alpha.kubernetes.io/network-isolation": "on",
    "net.beta.kubernetes.io/network-policy": '{"ingress": {"isolation": "DefaultDeny"}}',
}


def unit(name: str) -> SourceUnit:
    path = EXAMPLES / name
    found = read_manifest(path.read_bytes(), name, path.suffix == ".json").unit
    assert found.problems == ()
    return found


def tenant(annotations: dict[str, str]) -> SourceUnit:
    raw = yaml.safe_load((EXAMPLES / "tenant-a.yaml").read_text(encoding="utf-8"))
    raw["metadata"]["annotations"] = annotations
    return read_manifest(json.dumps(raw).encode(), "tenant-a.yaml", True).unit


ISOLATED, OPEN = tenant(ANNOTATIONS), tenant({})
CHANGES = (
    ("ns", ISOLATED),
    ("alpha", unit("pol1-alpha.json")),
    ("beta", unit("pol1-beta.yaml")),
    ("v1", unit("pol1-v1.yaml")),
)


def snapshots(*steps: Iterable[tuple[str, SourceUnit | None]]) -> list[dict[Key, Policy]]:
    """The policies after each step, whose changes come one by one."""
    posted: list[ClusterChanged] = []
    store = Store(posted.append, delay=60)
    feed = Feed(store)
    store.synced(feed)
    found = []
    for step in steps:
        for name, change in step:
            store.apply(feed, {name: change}, now=True)
        assert posted[-1].problems == ()
        found.append(dict(posted[-1].cluster.policies))
    return found


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_any_order_gives_the_same_policies(order: tuple[int, ...]) -> None:
    (found,) = snapshots([CHANGES[place] for place in order])
    assert found == snapshots(CHANGES)[0]
    names = ("alpha:pol1", "beta:pol1", "isolation", "isolation:alpha", "isolation:beta", "pol1")
    assert sorted(found) == [Key("tenant-a", name) for name in names]
    assert all(policy.isolates for policy in found.values())


def test_off_and_gone() -> None:
    """Without the annotations the policies stay to be seen, without force; gone objects leave nothing."""
    _, idle, left, nothing = snapshots(
        CHANGES, [("ns", OPEN)], [("alpha", None), ("v1", None)], [("beta", None), ("ns", None)]
    )
    assert {key.name for key, policy in idle.items() if policy.isolates} == {"isolation", "pol1"}
    assert {key.name for key in idle} == {"isolation", "pol1", "alpha:pol1", "beta:pol1"}
    assert {key.name for key in left} == {"beta:pol1"}
    assert nothing == {}
