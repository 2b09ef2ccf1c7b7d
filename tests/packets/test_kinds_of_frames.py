"""Every kind of frame that a pod may make up, to every kind of place: while policy allows nothing, nothing arrives.

A table of kinds by destinations, made here and sent by one pod that nothing is allowed to or from.
"""

from __future__ import annotations

import random

import pytest

from tests.helpers.lab.kinds_of_frames import Ends, Made, layer_2, layer_3, pieces
from tests.helpers.lab.policies import policies
from tests.helpers.lab.raw_frames import FrameListener, mac, neighbours_of, number, put
from topology.lab.lab import Lab

pytestmark = pytest.mark.lab

SENDER, OUTSIDE = "x/a", "external:outside"
# On the same node, on the other one, and outside; what goes to the sender's own node is never asked about.
RECEIVERS = ("x/c", "y/b", OUTSIDE)
NOTHING = policies({f"{namespace}/nothing": {"policyTypes": ["Ingress", "Egress"]} for namespace in "xyz"})


def table(lab: Lab) -> list[Made]:
    """Every kind to every receiver, each with a marker of its own."""
    chance = random.Random(11)
    found: list[Made] = []
    for receiver in RECEIVERS:
        four, six = (
            (number(lab.endpoints[SENDER].addresses[v]), number(lab.endpoints[receiver].addresses[v])) for v in (4, 6)
        )
        # Outside is behind the node.
        next_hop = "node:one" if receiver == OUTSIDE else receiver
        ends = Ends(mac(lab, SENDER), mac(lab, next_hop), four, six)
        for make in (layer_2, layer_3, pieces):
            mark = chance.randbytes(8)
            found += [Made(f"{what} to {receiver}", frame, mark) for what, frame in make(ends, mark)]
    return found


def test_nothing_arrives_of_any_kind(lab: Lab) -> None:
    try:
        lab.apply(NOTHING)
        made = table(lab)
        assert len(made) > 600
        # The sender's own node hears what is for it or goes through it; of what is no IP it hears nothing either.
        hearers = [one for one in neighbours_of(SENDER) if one != "node:one"]
        with FrameListener(lab, hearers) as ears:
            for start in range(0, len(made), 50):
                put(lab, SENDER, [one.frame for one in made[start : start + 50]])
                ears.fence(SENDER)
            arrived = [(one.what, where) for one in made if (where := ears.heard(one.frame[14:54]))]
            assert arrived == []
            marks = {one.marker for one in made}
            assert [mark for mark in marks if ears.heard(mark)] == []
    finally:
        lab.reset()
