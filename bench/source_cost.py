"""Measures the store: reading world A into it, and one changed object afterwards."""

from __future__ import annotations

import gc
from collections.abc import Callable

from bench.result import Result, cpu, memory, quantile
from bench.worlds import ApiObject, world
from controller.reconcile.events import ClusterChanged
from controller.sources.source import Source, SourceState
from controller.sources.store import Store
from controller.sources.unit import SourceUnit
from flows.parse.objects import parse_object


class _Silent(Source):
    """A source without threads; `measure_store` applies its units."""

    def start(self) -> None:
        """Nothing runs."""

    def stop(self) -> None:
        """Nothing runs."""

    def reread(self, timeout: float) -> None:
        """There is nothing to read."""

    def state(self) -> SourceState:
        """Never asked."""
        raise NotImplementedError


def _unit(body: ApiObject) -> tuple[str, SourceUnit]:
    found = parse_object(body)
    return (str(found), SourceUnit((found,))) if found else ("", SourceUnit())


def measure_store(scale: float) -> list[Result]:
    """World A into a store, one unit for each object as an API source has them; then pods change one by one."""
    posted: list[ClusterChanged] = []
    store = Store(posted.append)
    source = _Silent()
    store.add(source)
    objects = world("A", scale)
    pods = [raw for raw in objects if raw["kind"] == "Pod"]
    before = memory()
    gc.disable()

    def load() -> None:
        store.apply(source, dict(map(_unit, objects)))
        store.synced(source)
        store.flush()

    _, seconds, _ = cpu(load)
    megabytes = memory() - before
    gc.collect()
    gc.freeze()
    gc.enable()
    times = [_change(store, source, pods[n % len(pods)], n) for n in range(200)]
    changed = len(posted[-1].changed or ())
    return [
        Result("world A: raw objects → snapshot, through the store", seconds, "s CPU", more={"MB": megabytes}),
        Result(
            "one changed pod → snapshot, p50",
            quantile(times, 0.5),
            "ms CPU",
            more={"objects named as touched": changed},
        ),
        Result("one changed pod → snapshot, p99", quantile(times, 0.99), "ms CPU"),
    ]


def _change(store: Store, source: Source, raw: ApiObject, number: int) -> float:
    changed = {**raw, "metadata": {**raw["metadata"], "labels": {"app-1": f"other-{number}"}}}
    work: Callable[[], None] = lambda: store.apply(source, dict([_unit(changed)]), now=True)  # noqa: E731 - timed as one
    _, seconds, _ = cpu(work)
    return seconds * 1e3
