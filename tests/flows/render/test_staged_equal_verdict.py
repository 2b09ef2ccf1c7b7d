"""What staged policies would change is counted as the verdict says, before and after promotion, and changes nothing.

That nothing leaks into what is in force is also tested wherever worlds are generated: every fifth policy is staged.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.bridge.routing import NetworkMode
from flows.cluster.model import Cluster, Tier
from flows.cluster.staging import promoted
from flows.interpret.conntrack import Datapath
from flows.interpret.interpreter import Interpreter
from flows.interpret.packet import Packet
from flows.openflow.flow import Flow
from flows.openflow.group import Group
from flows.pipeline import tables
from flows.pipeline.cookies import CookieKind, read_cookie
from flows.policy.probe import Probe
from flows.policy.verdict import verdict
from tests.helpers.cluster.generated_clusters import NODES, ROUTED_NODES, Nodes, clusters, probes
from tests.helpers.cluster.generated_tiers import tiered_clusters
from tests.helpers.datapath.node_networks import NODES as NAMES
from tests.helpers.datapath.two_nodes import TwoNodes, first_packet, settled

TABLES = tuple(table.number for table in tables.TABLES)
PROBES = 40
STAGED = {
    CookieKind.STAGED_DENY_EGRESS, CookieKind.STAGED_DENY_INGRESS,
    CookieKind.STAGED_ALLOW_EGRESS, CookieKind.STAGED_ALLOW_INGRESS,
}  # fmt: skip


class CountingSwitch:
    """An interpreter that notes the counters of staged policies that packets hit."""

    def __init__(self, datapath: Datapath, chance: random.Random) -> None:
        self._interpreter = Interpreter((), datapath, TABLES, choose=chance.choice)
        self.counted: list[CookieKind] = []

    def replace_flows(self, flows: Sequence[Flow], groups: Sequence[Group] = ()) -> None:
        self._interpreter.replace_flows(flows, groups)

    def send(self, in_port: int, packet: Packet) -> list[tuple[int, Packet]]:
        result = self._interpreter.receive(in_port, packet)
        for _, flow in result.hits:
            kind = read_cookie(flow.cookie) if flow is not None else None
            if kind is not None and kind[0] in STAGED:
                self.counted.append(kind[0])
        return list(result.outputs)

    def forget_connections(self) -> None:
        self._interpreter.tracker.flush()


def expected(cluster: Cluster, probe: Probe, same_node: bool) -> list[CookieKind]:
    """What the first packet of a connection is to be counted as, by the verdicts before and after promotion.

    A switch knows the policy of its own pods only: towards a pod of another node the packet passes here.
    """
    now, then = verdict(cluster, probe), verdict(promoted(cluster), probe)
    found = []
    if not now.egress.allowed:
        return [CookieKind.STAGED_ALLOW_EGRESS] if then.egress.allowed else []
    if not then.egress.allowed and (now.ingress.allowed or not same_node):
        found.append(CookieKind.STAGED_DENY_EGRESS)
    if now.ingress.allowed and not then.ingress.allowed:
        found.append(CookieKind.STAGED_DENY_INGRESS)
    if not now.ingress.allowed and then.ingress.allowed:
        found.append(CookieKind.STAGED_ALLOW_INGRESS)
    return found


def check(cluster: Cluster, mode: NetworkMode, datapath: Datapath, seed: int, allowed_only: bool) -> int:
    """Send the first packet of some probes; returns how many were counted as anything."""
    chance = random.Random(seed)
    cluster = settled(cluster)
    switches = {node: CountingSwitch(datapath, chance) for node in NAMES}
    network = TwoNodes(cluster, switches, datapath is Datapath.USERSPACE, mode)
    counted = 0
    for number, probe in enumerate(probes(cluster, PROBES)):
        ends = probe.source, probe.destination
        if not network.decidable(probe) or not all(map(network.reachable, ends)):
            continue
        if allowed_only and (not verdict(cluster, probe).allowed or _left_to_baseline(cluster, probe)):
            continue
        homes = network.homes(*ends)
        packet = network.addressed(first_packet(probe, number), *ends)
        for switch in switches.values():
            switch.counted.clear()
        network.send(probe.source, packet)
        got = sorted(kind for switch in switches.values() for kind in switch.counted)
        wanted = sorted(expected(cluster, probe, homes[0] == homes[1]))
        assert got == wanted, f"{probe}: {got}, not {wanted}"
        counted += bool(wanted)
    return counted


def _left_to_baseline(cluster: Cluster, probe: Probe) -> bool:
    """Whether tier Baseline decides after promotion, of which the switch says nothing."""
    found = verdict(promoted(cluster), probe)
    deciding = [end.decided_by for end in (found.egress, found.ingress)]
    return any(step is not None and step.tier is Tier.BASELINE for step in deciding)


MODES = st.sampled_from([(NetworkMode.FLAT, NODES), (NetworkMode.ROUTED, ROUTED_NODES)])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), MODES, st.sampled_from(Datapath), st.integers(0, 1 << 16))
def test_packets_are_counted_as_promotion_would_change_them(
    data: st.DataObject, mode: tuple[NetworkMode, Nodes], datapath: Datapath, seed: int
) -> None:
    check(data.draw(clusters(mode[1])), mode[0], datapath, seed, allowed_only=False)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(tiered_clusters(NODES), st.sampled_from(Datapath), st.integers(0, 1 << 16))
def test_what_the_tiers_accept_is_counted_only_where_promotion_would_deny_it(
    cluster: Cluster, datapath: Datapath, seed: int
) -> None:
    check(cluster, NetworkMode.FLAT, datapath, seed, allowed_only=True)
