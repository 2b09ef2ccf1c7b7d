"""The store: one world from all sources, posted when it is complete and when it changes."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pytest

from controller.reconcile.events import ClusterChanged
from controller.reconcile.problem import Problem
from controller.sources.source import SourceError, SourceState
from controller.sources.store import Store
from controller.sources.unit import SourceUnit
from flows.cluster.model import Cluster, Key, Namespace, Pod
from flows.parse.objects import ParsedObject


class Feed:
    """A source that does nothing by itself."""

    def __init__(self, store: Store, fails: bool = False) -> None:
        self.running = False
        self.reread_calls = 0
        self.fails = fails
        self.silent = False
        store.add(self)

    def start(self) -> None:
        if self.fails:
            raise SourceError("not there")
        self.running = True

    def stop(self) -> None:
        self.running = False

    def reread(self, timeout: float) -> None:
        self.reread_calls += 1
        if self.silent:
            raise TimeoutError("silent")

    def state(self) -> SourceState:
        return SourceState("feed", "test", self.running, None, 0, "")


def pod(name: str, uid: str = "") -> ParsedObject:
    key = Key("default", name)
    return ParsedObject("Pod", key, Pod(key, uid=uid), ())


def unit(*objects: ParsedObject, problems: tuple[Problem, ...] = ()) -> SourceUnit:
    return SourceUnit(objects, problems)


class World:
    """A started store with two sources and what it posted."""

    def __init__(self) -> None:
        self.posted: queue.Queue[ClusterChanged] = queue.Queue()
        self.store = Store(self.posted.put, delay=0.001)
        self.first, self.second = Feed(self.store), Feed(self.store)
        self.store.start()

    def sync(self) -> ClusterChanged:
        self.store.synced(self.first)
        self.store.synced(self.second)
        return self.posted.get(timeout=10)

    def uids(self) -> dict[str, str]:
        """Apply what is waiting and say which pod counts."""
        self.store.flush()
        latest = None
        while not self.posted.empty():
            latest = self.posted.get_nowait()
        assert latest is not None
        self.problems = latest.problems
        return {key.name: found.uid for key, found in latest.cluster.pods.items()}


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    yield one
    one.store.stop()


def test_nothing_is_posted_before_every_source_has_synced(world: World) -> None:
    world.store.apply(world.first, {"a": unit(pod("p"))}, now=True)
    world.store.synced(world.first)
    world.store.flush()
    with pytest.raises(TimeoutError):
        world.store.reread(1)
    assert world.posted.empty()
    world.store.synced(world.second)
    first = world.posted.get(timeout=10)
    assert (list(first.cluster.pods), first.generation) == ([Key("default", "p")], 1)


def test_an_empty_world_is_posted_too(world: World) -> None:
    assert world.sync() == ClusterChanged(Cluster(), (), 1)


def test_changes_are_posted_by_themselves(world: World) -> None:
    world.sync()
    world.store.apply(world.first, {"a": unit(pod("p"))})
    assert world.posted.get(timeout=10).generation == 2


def test_what_changes_nothing_posts_nothing(world: World) -> None:
    world.sync()
    world.store.apply(world.first, {"a": unit(pod("p", "1"))}, now=True)
    world.posted.get_nowait()
    world.store.apply(world.first, {"a": unit(pod("p", "1"))}, now=True)
    world.store.apply(world.first, {"a": None, "b": unit(pod("p", "1"))}, now=True)
    assert world.store.reread(1) == 2
    assert world.posted.empty()


def test_there_and_back_within_a_burst_posts_nothing(world: World) -> None:
    world.store.apply(world.first, {"a": unit(pod("p", "1"))})
    world.sync()
    with world.store._lock:  # the poster waits meanwhile
        world.store._replace((0, "a"), unit(pod("p", "2")))
        world.store._replace((0, "a"), unit(pod("p", "1")))
    world.store.flush()
    assert world.posted.empty()


def test_snapshots_never_change(world: World) -> None:
    world.store.apply(world.first, {"a": unit(pod("p"))})
    before = world.sync().cluster
    world.store.apply(world.first, {"a": unit(pod("q"))}, now=True)
    after = world.posted.get_nowait().cluster
    assert [key.name for key in before.pods] == ["p"]
    assert [key.name for key in after.pods] == ["q"]
    assert after.nodes is before.nodes  # kinds that did not change are shared
    with pytest.raises(TypeError):
        after.pods[Key("x", "y")] = Pod(Key("x", "y"))  # type: ignore[index]


def test_the_same_object_in_two_files_is_no_problem_until_they_differ(world: World) -> None:
    world.sync()
    world.store.apply(world.first, {"a": unit(pod("p", "1")), "b": unit(pod("p", "1"))})
    assert world.uids() == {"p": "1"}
    assert not world.problems
    world.store.apply(world.first, {"a": unit(pod("p", "2"))})
    assert world.uids() == {"p": "1"}
    assert len(world.problems) == 1


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_the_later_name_wins_in_any_order_of_arrival(world: World, order: tuple[str, str]) -> None:
    world.sync()
    for name in order:
        world.store.apply(world.first, {name: unit(pod("p", name))})
    assert world.uids() == {"p": "b"}
    assert world.problems == (Problem("a", "Pod default/p", "", "is also in b, which takes precedence"),)
    world.store.apply(world.first, {"b": None})
    assert world.uids() == {"p": "a"}
    assert not world.problems


def test_a_later_source_wins(world: World) -> None:
    world.sync()
    world.store.apply(world.second, {"a": unit(pod("p", "second"))})
    world.store.apply(world.first, {"z": unit(pod("p", "first"))})
    assert world.uids() == {"p": "second"}
    world.store.apply(world.second, {"a": unit()})
    assert world.uids() == {"p": "first"}


def test_problems_alone_are_posted(world: World) -> None:
    world.sync()
    problem = Problem("a", "", "", "broken")
    world.store.apply(world.first, {"a": unit(problems=(problem,))}, now=True)
    assert world.posted.get_nowait().problems == (problem,)
    world.store.apply(world.first, {"a": unit()}, now=True)
    assert world.posted.get_nowait().problems == ()


def test_reread_returns_the_generation_that_has_it(world: World) -> None:
    world.sync()
    world.store.apply(world.first, {"a": unit(pod("p"))})
    generation = world.store.reread(1)
    assert generation == 2
    assert world.posted.get_nowait().generation == generation
    assert world.first.reread_calls == world.second.reread_calls == 1
    world.second.silent = True
    with pytest.raises(TimeoutError):
        world.store.reread(1)


def test_kinds_are_told_apart(world: World) -> None:
    world.store.apply(world.first, {"a": unit(ParsedObject("Namespace", "n", Namespace("n"), ()), pod("n"))})
    cluster = world.sync().cluster
    assert (list(cluster.namespaces), list(cluster.pods), len(cluster.nodes)) == (["n"], [Key("default", "n")], 0)


def test_a_source_that_cannot_start_stops_the_others() -> None:
    store = Store(lambda event: None)
    good, bad = Feed(store), Feed(store, fails=True)
    with pytest.raises(SourceError):
        store.start()
    assert not good.running
    assert not bad.running
