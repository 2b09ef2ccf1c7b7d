"""Rendered flows agree with the verdict: random worlds on two nodes, both kinds of conntrack, every mode of the
network, packet by packet."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flows.bridge.routing import NetworkMode
from flows.cluster.model import Cluster, Key
from flows.interpret.conntrack import Datapath
from flows.interpret.interpreter import Interpreter
from flows.interpret.packet import Packet
from flows.openflow.flow import Flow
from flows.openflow.group import Group
from flows.pipeline import tables
from flows.pipeline.pod_limits import Limit
from tests.helpers.cluster.generated_clusters import NODES as NODES_OF_A_LINK
from tests.helpers.cluster.generated_clusters import ROUTED_NODES, Nodes, clusters, probes
from tests.helpers.cluster.generated_tiers import tiered_clusters
from tests.helpers.datapath.conversation import converse
from tests.helpers.datapath.node_networks import NODES
from tests.helpers.datapath.two_nodes import TwoNodes, settled

TABLES = tuple(table.number for table in tables.TABLES)
PROBES = 30
# The message of a mismatch names packet and verdict; to shrink such histories takes minutes.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)


class InterpretedSwitch:
    """A node's switch that is an interpreter; which of several complete conjunctions acts is left to chance."""

    def __init__(self, datapath: Datapath, chance: random.Random) -> None:
        hashed = chance.randrange(1 << 16)
        self._interpreter = Interpreter(
            (), datapath, TABLES, choose=chance.choice, hashed=lambda packet: hash((hashed, packet.sport))
        )

    def replace_flows(self, flows: Sequence[Flow], groups: Sequence[Group] = ()) -> None:
        self._interpreter.replace_flows(flows, groups)

    def send(self, in_port: int, packet: Packet) -> list[tuple[int, Packet]]:
        return list(self._interpreter.receive(in_port, packet).outputs)

    def forget_connections(self) -> None:
        self._interpreter.tracker.flush()


@st.composite
def histories(draw: st.DrawFn, nodes: Nodes = NODES_OF_A_LINK, tiers: bool = False) -> tuple[Cluster, Cluster, Cluster]:
    """A world, the same pods under other policies and labels, and the first world again."""
    worlds = tiered_clusters(nodes) if tiers else clusters(nodes)
    before, other = settled(draw(worlds)), draw(worlds)
    every = {**before.policies, **{Key(key.namespace, f"new-{key.name}"): one for key, one in other.policies.items()}}
    kept = draw(st.sets(st.sampled_from(sorted(every)), max_size=len(every)))
    policies = {key: every[key]._replace(key=key) for key in kept}
    pods = dict(before.pods)
    for key in draw(st.sets(st.sampled_from(sorted(pods)), max_size=2)):
        pods[key] = pods[key]._replace(labels=draw(st.sampled_from([pod.labels for pod in other.pods.values()])))
    after = replace(
        before,
        policies=MappingProxyType(policies),
        pods=MappingProxyType(pods),
        cluster_policies=other.cluster_policies,
    )
    return before, after, before


def play(mode: NetworkMode, datapath: Datapath, history: tuple[Cluster, Cluster, Cluster], seed: int) -> int:
    """Play probes of a history; returns how many."""
    before, *changes = history
    chance = random.Random(seed)
    userspace = datapath is Datapath.USERSPACE
    switches = {node: InterpretedSwitch(datapath, chance) for node in NODES}
    network = TwoNodes(before, switches, userspace, mode, metered=(Limit.COPIES,))
    asked = probes(before)
    return converse(network, chance.sample(asked, min(PROBES, len(asked))), changes, userspace)


@pytest.mark.parametrize("datapath", Datapath, ids=lambda one: one.value)
@settings(
    max_examples=25,
    deadline=None,
    phases=UNSHRUNK,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(history=histories(), seed=st.integers(0, 1 << 16))
def test_every_packet_passes_as_the_verdict_says(
    datapath: Datapath, history: tuple[Cluster, Cluster, Cluster], seed: int
) -> None:
    play(NetworkMode.FLAT, datapath, history, seed)


@pytest.mark.parametrize("mode", [NetworkMode.ROUTED, NetworkMode.OVERLAY])
@pytest.mark.parametrize("datapath", Datapath, ids=lambda one: one.value)
@settings(
    max_examples=15,
    deadline=None,
    phases=UNSHRUNK,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(history=histories(ROUTED_NODES), seed=st.integers(0, 1 << 16))
def test_every_packet_passes_so_where_switches_route(
    datapath: Datapath, mode: NetworkMode, history: tuple[Cluster, Cluster, Cluster], seed: int
) -> None:
    play(mode, datapath, history, seed)


@pytest.mark.parametrize("mode", [NetworkMode.FLAT, NetworkMode.OVERLAY])
@pytest.mark.parametrize("datapath", Datapath, ids=lambda one: one.value)
@settings(
    max_examples=25,
    deadline=None,
    phases=UNSHRUNK,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data(), seed=st.integers(0, 1 << 16))
def test_every_packet_passes_so_with_tiers(
    datapath: Datapath, mode: NetworkMode, data: st.DataObject, seed: int
) -> None:
    nodes = NODES_OF_A_LINK if mode is NetworkMode.FLAT else ROUTED_NODES
    play(mode, datapath, data.draw(histories(nodes, True)), seed)
