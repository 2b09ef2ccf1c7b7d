"""The history of pods for the page: what is noted, and that it is bounded."""

from __future__ import annotations

from dataclasses import replace

from controller.runtime.page_history import MAX_ENTRIES, MAX_PODS, PodHistory
from controller.status.model import PodView

POD = PodView("shop/web", "n1", "veth1", 1, ("10.0.0.2",))


def test_the_way_to_realization() -> None:
    history = PodHistory()
    history.note(None, POD, 1.0)
    ready = replace(POD, installed=True, programmed_after=0.25, isolated=("ingress",))
    history.note(POD, ready, 2.0)
    history.note(ready, replace(ready, reason="it has no known address yet"), 3.0)
    history.note(ready, None, 4.0)
    found = history.of("shop/web", 5.0)
    assert [one.text for one in found] == [
        "port veth1 on n1",
        "isolated for ingress",
        "realized, 0.25 s after its port appeared",
        "it has no known address yet",
        "its port veth1 on n1 is gone",
    ]
    assert [one.ago for one in found] == [4.0, 3.0, 3.0, 2.0, 1.0]
    assert [one.realized for one in found] == [False, True, True, True, False]


def test_counters_are_no_history() -> None:
    history = PodHistory()
    history.note(POD, replace(POD, limited=3, invalid=4), 1.0)
    assert history.of("shop/web", 2.0) == ()


def test_it_is_bounded_in_entries_and_pods() -> None:
    history = PodHistory()
    for n in range(MAX_ENTRIES * 2):
        history.note(replace(POD, node=f"n{n}"), replace(POD, node=f"n{n + 1}"), float(n))
    assert len(history.of("shop/web", 100.0)) == MAX_ENTRIES
    for n in range(MAX_PODS):
        history.note(None, replace(POD, key=f"shop/{n}"), 50.0)
    assert history.of("shop/web", 100.0) == ()
    assert history.of(f"shop/{MAX_PODS - 1}", 100.0)
