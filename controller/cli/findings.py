"""What is wrong according to a status: a list of findings, the gravest kinds first. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from controller.status.model import NO_CONNECTION, PodView, PolicyView, ReplicaView, StatusView, SwitchView


class FindingKind(StrEnum):
    """What a finding is about, as tables show it."""

    SOURCE = "source"
    OVSDB = "ovsdb"
    REPLICA = "replica"
    SWITCH = "switch"
    NODE = "node"
    POLICY = "policy"
    POD = "pod"
    PORT = "port"
    OBJECT = "object"
    TLS = "tls"


BRIDGE_PREFIX = "bridge "  # of a problem's place; the finding of its switch has the same reason


class Finding(NamedTuple):
    """Something that is wrong: its kind and name, the reason, and its node, "" if it has none."""

    kind: FindingKind
    name: str
    reason: str
    node: str = ""


def findings(view: StatusView) -> Iterator[Finding]:
    """All findings of a status."""
    for source in view.sources:
        if not source.synced:
            yield Finding(FindingKind.SOURCE, source.name, source.reason or "not read yet")
    for one in view.ovsdb:
        if not (one.connected and one.synced):
            name = f"{one.remote} (listening)" if one.listening else one.remote
            yield Finding(FindingKind.OVSDB, name, one.reason or ("not read yet" if one.connected else "not connected"))
    for replica in view.replicas:
        if reason := replica_reason(replica):
            yield Finding(FindingKind.REPLICA, replica.name, reason)
    for switch in view.switches:
        if reason := switch_reason(switch):
            yield Finding(FindingKind.SWITCH, f"{switch.node or switch.ovsdb} {switch.bridge}", reason, switch.node)
    for node in view.nodes:
        words = "; ".join(one for one in node.missing if one != NO_CONNECTION)  # the switch has a finding of its own
        if words:
            yield Finding(FindingKind.NODE, node.node, words, node.node)
    yield from (Finding(FindingKind.POLICY, one.key, policy_reason(one)) for one in view.policies if not one.realized)
    yield from (Finding(FindingKind.POD, one.key, pod_reason(one), one.node) for one in view.pods if pod_reason(one))
    for switch in view.switches:
        for port in switch.unbound_ports:
            name = f"{port.name} of {switch.node or switch.ovsdb} {switch.bridge}"
            yield Finding(FindingKind.PORT, name, port.reason, switch.node)
    shown = {switch.error for switch in view.switches}
    for problem in view.problems:
        if problem.where.startswith(BRIDGE_PREFIX) and problem.reason in shown:
            continue
        name = ": ".join(filter(None, (problem.where, problem.key)))
        yield Finding(FindingKind.OBJECT, name, ": ".join(filter(None, (problem.field, problem.reason))))
    yield from _tls(view)


def replica_reason(one: ReplicaView) -> str:
    """What is wrong with a replica, "" if nothing."""
    if one.reason:
        return f"it does not answer: {one.reason}"
    if not one.alive:
        return "its Lease is not renewed" + ("" if one.member else "; the others have taken over from it")
    return "" if one.member else "it is no member yet, so it owns no switch"


def switch_reason(one: SwitchView) -> str:
    """What is wrong with a switch, "" if nothing. Foreign flows are not in it: each is a problem of its own."""
    return "; ".join(filter(None, (_state(one), one.limits)))


def _state(one: SwitchView) -> str:
    if one.error:
        return one.error
    away = [name for name, there in (("OVSDB", one.ovsdb_connected), ("OpenFlow", one.openflow_connected)) if not there]
    if away:
        return f"{' and '.join(away)} away"
    return "" if one.in_sync else "not realized: its flows are not the desired ones yet"


def policy_reason(one: PolicyView) -> str:
    """Why a policy is not realized, or another reason that the status gives; "" if none."""
    return one.reason or ("" if one.realized else "not realized")


def pod_reason(one: PodView) -> str:
    """What is wrong with a pod, "" if nothing."""
    return one.reason or ("" if one.installed else "the flows of its port are not realized yet")


def dropped_by_limits(one: PodView) -> str:
    """What the limits of a pod have dropped of its packets, "" if nothing. That is no problem of the cluster."""
    return f"its limits dropped {one.limited:,} packets" if one.limited else ""


def _tls(view: StatusView) -> Iterator[Finding]:
    for address in view.plain:
        yield Finding(FindingKind.TLS, address, "in plain text over the network")
    if view.tls is not None and view.tls.problem:
        yield Finding(FindingKind.TLS, view.tls.certificate, view.tls.problem)
    if view.tls is not None and view.tls.refused:
        yield Finding(FindingKind.TLS, f"{view.tls.refused} connections refused", f"the last: {view.tls.last_refused}")
