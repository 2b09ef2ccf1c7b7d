"""A packet that a switch reported, as it was matched, and what policy says of its connection now.

The switch decides which end dropped it, and why (`Audited`); the verdict names the policies and rules. The two differ
only where policy changed since. Must not live here: bytes of messages; see `controller.openflow.audit_copies`.
"""

from __future__ import annotations

from typing import NamedTuple

from flows.cluster.model import Cluster, Direction, Protocol
from flows.cluster.net import Net
from flows.cluster.staging import promoted
from flows.pipeline.registers import Audited
from flows.policy.explanation import EndVerdict
from flows.policy.probe import Endpoint, Probe
from flows.policy.verdict import verdict

DENIED = {
    Audited.DENIED_EGRESS: Direction.EGRESS,
    Audited.DENIED_INGRESS: Direction.INGRESS,
    Audited.WOULD_DENY_EGRESS: Direction.EGRESS,
    Audited.WOULD_DENY_INGRESS: Direction.INGRESS,
}

WOULD_DENY = frozenset({Audited.WOULD_DENY_EGRESS, Audited.WOULD_DENY_INGRESS})


class AuditedPacket(NamedTuple):
    """`port` is the ofport that it came in by; `source_port`, `destination_port`, `initiator` and `responder` are the
    values of these registers, 0 where the pipeline had not found them yet.

    Addresses and ports are those of the packet that opened its connection, as far as conntrack knows, else the
    packet's own. Service ports are None where the protocol has none. `tcp_flags` are the packet's own; None for
    another protocol. None for `source`: it is not IP, or cut short, and `ether_type` says what it is.
    """

    reason: Audited
    port: int
    source_port: int = 0
    destination_port: int = 0
    initiator: int = 0
    responder: int = 0
    source: Net | None = None
    destination: Net | None = None
    protocol: int = 0
    sport: int | None = None
    dport: int | None = None
    tcp_flags: int | None = None
    ether_type: int = 0


class Reasons(NamedTuple):
    """Why policy decides as it does: the policies that isolate or decide, the rules that do, and a sentence."""

    policies: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    text: str = ""


def probe_of(packet: AuditedPacket, source: Endpoint, destination: Endpoint) -> Probe:
    """The connection that a packet belongs to. Raises ProbeError where there can be none."""
    port = packet.dport if packet.protocol in Protocol.__members__.values() else None
    return Probe(source, destination, packet.protocol, port)


def reasons(cluster: Cluster, packet: AuditedPacket, probe: Probe) -> Reasons:
    """What policy says: of the end that denied, or of both where the connection is allowed. What staged policies would
    deny is asked of policy as it is once they are promoted. Raises ProbeError."""
    staged = packet.reason in WOULD_DENY
    found = verdict(promoted(cluster) if staged else cluster, probe)
    direction = DENIED.get(packet.reason)
    if direction is None:
        return _joined([_allowed(end) for end in (found.egress, found.ingress)])
    reason = _denied(found.egress if direction is Direction.EGRESS else found.ingress)
    return reason._replace(text=f"once staged policies are promoted: {reason.text}") if staged else reason


def _denied(end: EndVerdict) -> Reasons:
    decided = end.decided_by
    if end.allowed:
        return Reasons(text="policy allows it now: it changed since, or the packet was of a connection in its middle")
    if decided is not None:
        return Reasons((str(decided.policy),), (str(decided),), f"denied by {decided}")
    policies = tuple(map(str, end.isolated_by))
    return Reasons(policies, (), f"{end.direction.value} is isolated by {', '.join(policies)}, and no rule allows it")


def _allowed(end: EndVerdict) -> Reasons:
    decided = end.decided_by
    if decided is not None:
        return Reasons((str(decided.policy),), (str(decided),), f"accepted by {decided}")
    rules = tuple(map(str, end.allowed_by))
    policies = tuple(dict.fromkeys(str(one.policy) for one in end.allowed_by))
    return Reasons(policies, rules, f"allowed by {', '.join(rules)}" if rules else "")


def _joined(some: list[Reasons]) -> Reasons:
    texts = [one.text for one in some if one.text]
    return Reasons(
        tuple(dict.fromkeys(policy for one in some for policy in one.policies)),
        tuple(rule for one in some for rule in one.rules),
        "; ".join(texts) or "no policy isolates either end",
    )
