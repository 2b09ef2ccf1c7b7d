"""One status of all replicas: each switch as the replica says that serves it, and what is missing of a silent one."""

from __future__ import annotations

from dataclasses import replace

from controller.status.merged import merge_status, merge_waits
from controller.status.model import (
    PodView,
    PolicyView,
    ProblemView,
    ReplicaView,
    StatusView,
    SwitchView,
    WaitResult,
)


def switch(node: str, owner: str, generation: str = "") -> SwitchView:
    shown = SwitchView(node, "br-int", f"dpid-{node}", f"unix:{node}", True, True, owner=owner, generation=generation)
    return replace(shown, primary=bool(generation), in_sync=bool(generation))


def status(name: str, *switches: SwitchView, policy: str = "", pods: tuple[PodView, ...] = ()) -> StatusView:
    return StatusView(
        "1", 1.0, switches=switches, replica=name, epoch=2, pods=pods,
        policies=(PolicyView("x/p", not policy, policy, pods=1),), problems=(ProblemView("file", "", "", "wrong"),),
        replicas=tuple(ReplicaView(one, True, True) for one in ("a", "b")),
    )  # fmt: skip


def test_each_switch_is_as_the_replica_says_that_serves_it() -> None:
    a = status("a", switch("n1", "a", "0001"), switch("n2", "b"))
    b = status("b", switch("n1", "a"), switch("n2", "b", "0002"))
    for own, other in ((a, b), (b, a)):
        found = merge_status(own, {other.replica: other})
        assert [(one.node, one.owner, one.primary, one.in_sync, one.generation) for one in found.switches] == [
            ("n1", "a", True, True, "0001"), ("n2", "b", True, True, "0002"),
        ]  # fmt: skip
        assert [(one.name, one.owned, one.primary) for one in found.replicas] == [("a", 1, 1), ("b", 1, 1)]
        assert found.problems == a.problems, "a problem that all see is one"


def test_of_two_that_say_so_the_newer_generation_counts() -> None:
    a, b = status("a", switch("n1", "b", "0001")), status("b", switch("n1", "b", "0002"))
    assert merge_status(a, {"b": b}).switches[0].generation == "0002"
    assert merge_status(b, {"a": a}).switches[0].generation == "0002"


def test_the_switches_of_a_silent_replica_are_not_realized() -> None:
    found = merge_status(status("a", switch("n1", "a", "0001"), switch("n2", "b")), {"b": "connection refused"})
    assert [one.in_sync for one in found.switches] == [True, False]
    assert found.switches[1].error == "its replica b does not answer: connection refused"
    assert not found.policies[0].realized
    assert found.replicas[1].reason == "connection refused"


def test_a_switch_that_nobody_serves_says_so() -> None:
    a, b = status("a", switch("n1", "b")), status("b", switch("n1", "b"))
    assert merge_status(a, {"b": b}).switches[0].error == "no replica serves it yet"


def test_a_policy_is_realized_where_all_say_so() -> None:
    a = status("a", switch("n1", "a", "0001"), switch("n2", "b"))
    b = status("b", switch("n1", "a"), switch("n2", "b", "0002"), policy="not yet realized on n2")
    found = merge_status(a, {"b": b}).policies[0]
    assert (found.realized, found.reason) == (False, "not yet realized on n2")


def test_pods_are_as_the_replica_says_that_serves_their_node() -> None:
    mine, told = PodView("x/p", "n2"), PodView("x/p", "n2", limited=7)
    a = status("a", switch("n2", "b"), pods=(mine,))
    b = status("b", switch("n2", "b", "0002"), pods=(told,))
    assert merge_status(a, {"b": b}).pods == (told,)


def test_waits_of_all_are_joined() -> None:
    own, done = WaitResult(True), WaitResult(True)
    assert merge_waits(own, {"b": done}) == WaitResult(True)
    assert merge_waits(own, {"b": WaitResult(False, ("n2: away",))}) == WaitResult(False, ("replica b: n2: away",))
    assert not merge_waits(own, {"b": "no answer in time"}).realized
