"""The flows and groups of all Services on a node's bridge, from nothing."""

from __future__ import annotations

from collections.abc import Iterable

from flows.cluster.model import Cluster
from flows.openflow.flow import Flow
from flows.openflow.group import Group
from flows.render.flow_set import FlowSet
from flows.render.service_ports import PortNumbers, render_service_port
from flows.render.services import look_up_address
from flows.services.reference import serve_all


def with_services(flows: Iterable[Flow], cluster: Cluster, node: str, overlay: bool) -> tuple[list[Flow], list[Group]]:
    """The flows and those of the cluster's Services, and their groups. Of two with one match the earlier counts."""
    found = {(flow.table, flow.priority, flow.match): flow for flow in flows}
    groups: list[Group] = []
    addresses = {name: one.addresses for name, one in cluster.nodes.items()}
    served = [port for _, ports in sorted(serve_all(cluster, addresses, overlay).items()) for port in ports]
    for number, one in enumerate(served):
        piece = FlowSet()
        choice = one.choose(node, cluster.nodes[node].zone)
        groups += render_service_port(piece, one, choice, PortNumbers(2 * number, 2 * number + 1))
        for net in one.external_addresses:
            look_up_address(piece, net)
        for flow in piece.flows():
            found.setdefault((flow.table, flow.priority, flow.match), flow)
    return list(found.values()), groups
