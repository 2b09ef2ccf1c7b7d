"""From a cluster to the answer of `headgate matrix`."""

from __future__ import annotations

from flows.cluster.model import Cluster, Protocol
from flows.policy.service_ranges import MAX_PORT, ServiceRange
from flows.reach.bits import numbers_of
from flows.reach.decision import Decision
from flows.reach.ends import Ends
from flows.reach.matrix import Group, Level, Matrix
from flows.reach.model import BlockView, GroupView, MatrixView, ports_view
from flows.reach.ports import Ports, some_ports

NO_PODS = "no pod of the cluster has an address on the pods' network"


class PortError(ValueError):
    """A text that is no port. The message says what is one."""


def parse_port(text: str) -> Ports:
    """`80`, `80/TCP`, `8000-8080/UDP`, `TCP` or `other`, which is every protocol without ports. Raises PortError."""
    if text.lower() in ("other", "icmp"):
        return Ports(True, ())
    number, slash, name = text.partition("/")
    if number.upper() in Protocol.__members__ and not slash:
        number, name = f"0-{MAX_PORT}", number
    first, dash, last = number.partition("-")
    protocol = Protocol.__members__.get((name or "TCP").upper())
    wrong = protocol is None or not first.isdecimal() or (dash and not last.isdecimal())
    if protocol is None or wrong or not int(first) <= int(last or first) <= MAX_PORT:
        raise PortError(f"{text!r} is not a port like 80, 53/UDP, 8000-8080/TCP, TCP or other")
    return some_ports([ServiceRange(protocol, int(first), int(last or first))])


def matrix_view(cluster: Cluster, level: Level, port: str = "") -> MatrixView:
    """Who reaches whom at a level. Raises PortError."""
    asked = parse_port(port) if port else None
    decision = Decision(cluster)
    matrix = Matrix(decision, level)
    groups = tuple(_group_view(one, level, decision.ends) for one in matrix.groups)
    blocks = tuple(
        BlockView(
            tuple(numbers_of(one.sources)), tuple(numbers_of(one.destinations)), ports_view(one.ports), one.complete
        )
        for one in matrix.blocks(asked)
    )
    return MatrixView(level.value, port, groups, blocks, tuple(_notes(cluster, decision.ends)))


def _group_view(group: Group, level: Level, ends: Ends) -> GroupView:
    if not group.pods:
        return GroupView(group.name, "outside")
    return GroupView(group.name, level.value, ends.addresses[group.first][0].namespace, group.pods)


def _notes(cluster: Cluster, ends: Ends) -> list[str]:
    """What the matrix does not show."""
    found = [] if ends.addresses else [NO_PODS]
    node_pods = sum(pod.host_network and not pod.finished for pod in cluster.pods.values())
    without = sum(pod.networked and not pod.addresses for pod in cluster.pods.values())
    if node_pods:
        found.append(f"{node_pods} pods on the host's network are left out: they are part of their nodes")
    if without:
        found.append(f"{without} pods have no address yet: nothing reaches them")
    return found
