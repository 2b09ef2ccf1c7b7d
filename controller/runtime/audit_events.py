"""What an audited packet becomes: an event with the names of its ends, and policy's reasons in words.

Under the lock only references are copied (`place`); the event is made of them outside of it (`audit_event`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from controller.reconcile.reconciler import Reconciler
from controller.status.audit_model import AuditEnd, AuditEvent
from flows.cluster.model import Cluster, Key
from flows.cluster.net import Net
from flows.explain.audited_packet import DENIED, AuditedPacket, Reasons, probe_of, reasons
from flows.openflow.match_fields import IP_PROTO_TCP, IP_PROTO_UDP, TcpFlags
from flows.pipeline.registers import NODE_ITSELF, Audited
from flows.plan.connection_scope import ConnectionScope, scoped_cluster
from flows.policy.probe import Endpoint, ProbeError, protocol_name
from flows.policy.rule import Watch

_VERDICTS = {
    Audited.DENIED_EGRESS: ("denied", "policy"),
    Audited.DENIED_INGRESS: ("denied", "policy"),
    Audited.FORGED: ("dropped", "forged"),
    Audited.INVALID: ("dropped", "invalid"),
    Audited.BROKEN: ("dropped", "invalid"),
    Audited.NOBODY: ("dropped", "nobody"),
    Audited.OPENED: ("allowed", "policy"),
    Audited.WOULD_DENY_EGRESS: ("would-deny", "policy"),
    Audited.WOULD_DENY_INGRESS: ("would-deny", "policy"),
}
_CHECKSUM = "checksum: the packet is broken by itself; a wrong checksum as a rule, where the pod leaves it to hardware"
_MIDSTREAM = "mid-stream: it belongs to no known connection, or to one that has ended"
_SEQUENCE = "sequence: its numbers do not fit what was seen of its connection"


class PlacedPacket(NamedTuple):
    """A packet with what the world knew of its ends when it was read. `source` and `destination` are the pods behind
    the ports of its ends, None for any other port."""

    at: float
    packet: AuditedPacket
    node: str
    source_port: int
    destination_port: int
    source: Key | None
    destination: Key | None
    scope: ConnectionScope


def place(reconciler: Reconciler, dpid: int, at: float, packet: AuditedPacket) -> PlacedPacket | None:
    """Find the pods of a packet; None where the bridge is not served, or nobody wants to know of it."""
    world = reconciler.world
    name = reconciler.bridge_of(dpid)
    bridge = world.bridges.get(name) if name is not None else None
    plan = world.plan_of(name) if name is not None else None
    if name is None or bridge is None or plan is None:
        return None
    source_port = packet.initiator or packet.source_port or packet.port
    destination_port = packet.responder or packet.destination_port
    source, destination = plan.pod_at(source_port), plan.pod_at(destination_port)
    if packet.reason is Audited.NOBODY and (source is None or Watch.DROPS not in world.engine.watched(source)):
        return None
    keys = [key for key in (source, destination) if key is not None]
    addresses = [net for net in (packet.source, packet.destination) if net is not None]
    scope = world.connection_scope(name, keys, addresses)
    return PlacedPacket(at, packet, bridge.node, source_port, destination_port, source, destination, scope)


def audit_event(one: PlacedPacket, nodes: Mapping[Net, str]) -> AuditEvent:
    """The event, without a number. `nodes` are nodes by their addresses."""
    packet = one.packet
    cluster = scoped_cluster(one.scope)
    source = _end(cluster, one.source, one.source_port, packet.source, one.node, nodes)
    destination = _end(cluster, one.destination, one.destination_port, packet.destination, one.node, nodes)
    verdict, cause = _VERDICTS[packet.reason]
    found = _why(one, cluster, source, destination)
    direction = DENIED.get(packet.reason)
    return AuditEvent(
        0,
        timestamp(one.at),
        verdict,
        cause,
        one.node,
        found.text,
        direction.value if direction is not None else "",
        protocol_name(packet.protocol) if packet.source is not None else f"ethertype {packet.ether_type:#06x}",
        _view(cluster, source, packet.source, packet.sport),
        _view(cluster, destination, packet.destination, packet.dport),
        found.policies,
        found.rules,
    )


def timestamp(at: float) -> str:
    """A Unix time as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _End(NamedTuple):
    pod: Key | None
    node: str | None


def _end(
    cluster: Cluster, pod: Key | None, port: int, address: Net | None, node: str, nodes: Mapping[Net, str]
) -> _End:
    """Who is behind a port; behind the uplink, and where no port is known, the only one with the address."""
    if pod is not None:
        return _End(pod, None)
    if port == NODE_ITSELF:
        return _End(None, node)
    owners = [one.key for one in cluster.pods.values() if address is not None and address in one.addresses]
    if len(owners) == 1:
        return _End(owners[0], None)
    return _End(None, nodes.get(address) if address is not None and not owners else None)


def _view(cluster: Cluster, end: _End, address: Net | None, port: int | None) -> AuditEnd:
    text = str(address) if address is not None else ""
    if end.pod is not None:
        pod = cluster.pods.get(end.pod)
        return AuditEnd("pod", str(end.pod), text, port, pod.workload if pod is not None else "")
    return AuditEnd("node" if end.node else "outside", end.node or "", text, port)


def _why(one: PlacedPacket, cluster: Cluster, source: _End, destination: _End) -> Reasons:
    packet = one.packet
    if packet.reason is Audited.FORGED:
        return Reasons(text=_forged(packet, cluster, source))
    if packet.reason in (Audited.INVALID, Audited.BROKEN):
        return Reasons(text=invalid_reason(packet))
    if packet.reason is Audited.NOBODY:
        return Reasons(text=f"nobody has the address {packet.destination}")
    if packet.source is None or packet.destination is None:
        return Reasons(text="the copy of the packet is too short to tell more")
    try:
        probe = probe_of(
            packet,
            Endpoint(packet.source, source.pod, source.node),
            Endpoint(packet.destination, destination.pod, destination.node),
        )
        return reasons(cluster, packet, probe)
    except ProbeError as error:
        return Reasons(text=f"policy cannot be asked about it: {error}")


def _forged(packet: AuditedPacket, cluster: Cluster, source: _End) -> str:
    if packet.source is None:
        return "the frame is neither IP nor what a pod says about its own addresses"
    owners = [one.key for one in cluster.pods.values() if packet.source in one.addresses and one.key != source.pod]
    pod = cluster.pods.get(source.pod) if source.pod is not None else None
    if pod is not None and packet.source in pod.addresses:
        return f"{packet.source} is the pod's address, but the MAC address or what follows is not"
    whose = f"it is that of pod {owners[0]}" if owners else "it is not one of the pod's"
    return f"the source address {packet.source} is forged: {whose}"


def invalid_reason(packet: AuditedPacket) -> str:
    """The likely reason why conntrack calls a packet invalid, the word first."""
    flags = packet.tcp_flags
    if packet.reason is Audited.BROKEN or packet.protocol == IP_PROTO_UDP:
        return _CHECKSUM
    if packet.protocol != IP_PROTO_TCP or flags is None:
        return _MIDSTREAM
    if flags & TcpFlags.SYN:
        return _MIDSTREAM if flags & TcpFlags.ACK else _CHECKSUM
    return _MIDSTREAM if flags & (TcpFlags.RST | TcpFlags.FIN) else _SEQUENCE
