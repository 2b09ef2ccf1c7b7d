"""Rendered flows on real switches: fixed random worlds, real packets by the thousand, each as the verdict says."""

from __future__ import annotations

import random
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster
from tests.flows.render.test_flows_equal_verdict import histories
from tests.helpers.cluster.generated_clusters import probes
from tests.helpers.datapath.conversation import converse
from tests.helpers.datapath.node_networks import NODES
from tests.helpers.datapath.real_node_switch import RealNodeSwitch
from tests.helpers.datapath.two_nodes import TwoNodes, place_pods
from tests.helpers.ovs.open_vswitch import open_vswitch

pytestmark = pytest.mark.switch


WORLDS = 5
PROBES = 60


@pytest.mark.parametrize("number", range(4))
def test_every_packet_passes_as_the_verdict_says(number: int) -> None:
    frames = 0

    @seed(number)
    @settings(
        max_examples=WORLDS, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(history=histories(tiers=bool(number % 2)), chance=st.randoms(use_true_random=False))
    def play(history: tuple[Cluster, Cluster, Cluster], chance: random.Random) -> None:
        nonlocal frames
        before, *changes = history
        placed = place_pods(before)
        with ExitStack() as stack:
            switches = {
                node: RealNodeSwitch(stack.enter_context(open_vswitch(hostname=node)), placed.interfaces[node])
                for node in NODES
            }
            asked = probes(before)
            converse(TwoNodes(before, switches, True), chance.sample(asked, min(PROBES, len(asked))), changes, True)
            frames += sum(switch.frames for switch in switches.values())

    play()
    assert frames > 1000
