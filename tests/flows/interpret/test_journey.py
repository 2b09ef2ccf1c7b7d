"""The way of a first packet over two nodes ends where the verdict says, in every mode of the network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from flows.bridge.routing import NetworkMode
from flows.interpret.conntrack import Datapath
from flows.interpret.interpreter import Interpreter
from flows.interpret.journey import Site, travel
from flows.policy.reference import compile_policy
from flows.policy.verdict import verdict
from flows.render.reference import render
from tests.helpers.cluster.generated_clusters import NODES as NODES_OF_A_LINK
from tests.helpers.cluster.generated_clusters import ROUTED_NODES, clusters, probes
from tests.helpers.datapath.node_networks import NODES
from tests.helpers.datapath.two_nodes import TwoNodes, settled, view


class _Silent:
    """A switch that nothing is sent to: only the placement of pods is wanted."""

    def replace_flows(self, flows: object, groups: object = ()) -> None:
        """Nothing."""

    def send(self, in_port: int, packet: object) -> list[object]:
        return []

    def forget_connections(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("mode", NetworkMode, ids=lambda one: one.value)
def test_the_way_ends_where_the_verdict_says(mode: NetworkMode) -> None:
    nodes = NODES_OF_A_LINK if mode is NetworkMode.FLAT else ROUTED_NODES

    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    @given(clusters(nodes))
    def holds(drawn: object) -> None:
        cluster = settled(drawn)  # type: ignore[arg-type]
        network = TwoNodes(cluster, {node: _Silent() for node in NODES}, True, mode)  # type: ignore[misc]
        sites = []
        for node in NODES:
            binding = view(cluster, network.plan, node, True)
            flows = render(binding, compile_policy(cluster, [one.pod for one in binding.pods]))
            interpreter = Interpreter(flows, Datapath.USERSPACE, tables=range(255))
            sites.append(Site(("db", node), node, binding, interpreter))
        for probe in probes(cluster, 40):
            if not network.decidable(probe):
                continue
            for site in sites:
                site.interpreter.tracker.flush()
            found = travel(sites, probe)
            ends = (probe.source, probe.destination)
            expected = verdict(cluster, probe).allowed and all(map(network.reachable, ends))
            assert found.delivered == expected, (probe, found.reason, found.arrived)
            assert bool(found.reason) != found.delivered

    holds()


def test_a_pod_without_a_port_sends_nothing() -> None:
    from flows.policy.probe import probe_between
    from tests.helpers.cluster.model_objects import cluster, pod, probe_end

    world = cluster([pod("x/a", 2), pod("x/b", 3)], [], {"x": {}})
    probe = probe_between(world, probe_end("x/a"), probe_end("x/b"), 6, 80)
    found = travel([], probe)
    assert not found.delivered and found.reason == "no known bridge has an end of the connection"
    assert replace(probe, port=81) != probe
