"""A Snapshot equals the dict with the same changes, and the store reports exactly the objects that differ."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.events import ClusterChanged
from controller.sources.source import SourceState
from controller.sources.store import Store
from controller.sources.unit import SourceUnit
from flows.cluster import snapshot
from flows.cluster.original_api import ORIGINAL_KINDS, OriginalPolicy, all_policies
from flows.cluster.snapshot import Snapshot
from flows.parse.objects import parse_object

CHANGES = st.lists(st.dictionaries(st.integers(0, 20), st.none() | st.integers(), max_size=8), max_size=12)


@given(CHANGES, st.integers(0, 5))
def test_a_snapshot_equals_a_dict(changes: list[dict[int, int | None]], most: int) -> None:
    plain: dict[int, int] = {}
    now: Snapshot[int, int] = Snapshot()
    kept = [(now, dict(plain))]
    before, snapshot._MAX_OVERLAY = snapshot._MAX_OVERLAY, most
    try:
        for change in changes:
            now = now.updated(change)
            plain.update({key: value for key, value in change.items() if value is not None})
            for key in [key for key, value in change.items() if value is None]:
                plain.pop(key, None)
            kept.append((now, dict(plain)))
    finally:
        snapshot._MAX_OVERLAY = before
    for made, expected in kept:
        assert dict(made) == expected
        assert len(made) == len(expected)
        assert {key: made.get(key) for key in range(-1, 22)} == {key: expected.get(key) for key in range(-1, 22)}
        assert {key for key in range(-1, 22) if key in made} == expected.keys()


class PassiveSource:
    """A source that reads nothing; the test passes its objects to the store."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def reread(self, timeout: float) -> None: ...

    def state(self) -> SourceState:
        raise NotImplementedError


def _objects() -> st.SearchStrategy[tuple[str, dict[str, object] | None]]:
    names, spaces = st.sampled_from(("a", "b")), st.sampled_from(("x", "y"))
    alpha, beta = "net.alpha.kubernetes.io/network-isolation", "net.beta.kubernetes.io/network-policy"
    notes = st.sampled_from(({}, {alpha: "on"}, {beta: '{"ingress": {"isolation": "DefaultDeny"}}'}))
    versions = st.sampled_from(("networking.k8s.io/v1", "net.alpha.kubernetes.io/v1alpha1", "extensions/v1beta1"))
    labels = st.sampled_from(({}, {"app": "one"}))

    def space(name: str, note: dict[str, str]) -> tuple[str, dict[str, object] | None]:
        raw: dict[str, object] = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "annotations": note},
        }
        return f"namespace {name}", raw

    def policy(where: str, name: str, version: str, wanted: dict[str, str]) -> tuple[str, dict[str, object] | None]:
        selector: object = wanted if "alpha" in version else {"matchLabels": wanted}
        metadata = {"namespace": where, "name": name}
        spec = {"podSelector": selector}
        return f"{version} {where}/{name}", {
            "apiVersion": version,
            "kind": "NetworkPolicy",
            "metadata": metadata,
            "spec": spec,
        }

    there = st.builds(space, spaces, notes) | st.builds(policy, spaces, names, versions, labels)
    gone = there.map(lambda one: (one[0], None))
    return there | there | gone


@given(st.lists(st.lists(_objects(), min_size=1, max_size=4), max_size=8))
def test_the_store_reports_what_differs_also_for_the_original_api(
    steps: list[list[tuple[str, dict[str, object] | None]]],
) -> None:
    posted: list[ClusterChanged] = []
    store, source = Store(posted.append), PassiveSource()
    store.add(source)
    store.synced(source)
    for step in steps:
        found = {name: None if raw is None else parse_object(raw) for name, raw in step}
        before = posted[-1].cluster if posted else None
        count = len(posted)
        store.apply(source, {name: SourceUnit((one,)) if one else None for name, one in found.items()}, now=True)
        values = store._values
        original = [
            one for kind in ORIGINAL_KINDS.values() for one in values[kind].values() if isinstance(one, OriginalPolicy)
        ]
        expected = all_policies(values["NetworkPolicy"], original, values["Namespace"].values())  # type: ignore[arg-type]
        if len(posted) == count:
            assert not posted or dict(posted[-1].cluster.policies) == dict(expected)
            continue
        now = posted[-1]
        assert dict(now.cluster.policies) == dict(expected)
        if before is None or now.changed is None:
            continue
        sections = (("NetworkPolicy", "policies"), ("Namespace", "namespaces"))
        differs = {
            (kind, key)
            for kind, section in sections
            for key in getattr(before, section).keys() | getattr(now.cluster, section).keys()
            if getattr(before, section).get(key) != getattr(now.cluster, section).get(key)
        }
        assert set(now.changed) == differs
