"""What is wrong, read off a status: one finding a thing, the gravest kinds first. How it is drawn is `status`'s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from controller.status.model import PodView, PolicyView, StatusView, SwitchView

SOURCE, OVSDB, SWITCH, POLICY, POD, PORT, OBJECT, TLS = (
    "source", "ovsdb", "switch", "policy", "pod", "port", "object", "tls",
)  # fmt: skip
BRIDGE_PREFIX = "bridge "  # how problems of a bridge begin; its switch says the same


class Finding(NamedTuple):
    """Something that is not as it should be: a kind, the thing's name, its node where it has one, and the reason."""

    kind: str
    name: str
    reason: str
    node: str = ""


def findings(view: StatusView) -> Iterator[Finding]:
    """All that is wrong."""
    for source in view.sources:
        if not source.synced:
            yield Finding(SOURCE, source.name, source.reason or "not read yet")
    for one in view.ovsdb:
        if not (one.connected and one.synced):
            name = f"{one.remote} (listening)" if one.listening else one.remote
            yield Finding(OVSDB, name, one.reason or ("not read yet" if one.connected else "not connected"))
    for switch in view.switches:
        if reason := switch_reason(switch):
            yield Finding(SWITCH, f"{switch.node or switch.ovsdb} {switch.bridge}", reason, switch.node)
    yield from (Finding(POLICY, one.key, policy_reason(one)) for one in view.policies if not one.realized)
    yield from (Finding(POD, one.key, pod_reason(one), one.node) for one in view.pods if pod_reason(one))
    for switch in view.switches:
        for port in switch.unbound_ports:
            name = f"{port.name} of {switch.node or switch.ovsdb} {switch.bridge}"
            yield Finding(PORT, name, port.reason, switch.node)
    told = {switch.error for switch in view.switches}
    for problem in view.problems:
        if problem.where.startswith(BRIDGE_PREFIX) and problem.reason in told:
            continue
        name = ": ".join(filter(None, (problem.where, problem.key)))
        yield Finding(OBJECT, name, ": ".join(filter(None, (problem.field, problem.reason))))
    yield from _tls(view)


def switch_reason(one: SwitchView) -> str:
    """Why a switch is not as it should be; empty when it is. Foreign flows stand among the problems, one by one."""
    return "; ".join(filter(None, (_state(one), one.limits)))


def _state(one: SwitchView) -> str:
    if one.error:
        return one.error
    away = [name for name, there in (("OVSDB", one.ovsdb_connected), ("OpenFlow", one.openflow_connected)) if not there]
    if away:
        return f"{' and '.join(away)} away"
    return "" if one.in_sync else "not in sync: its flows are not yet what they shall be"


def policy_reason(one: PolicyView) -> str:
    """Why a policy is not realized, or what is worth a note."""
    return one.reason or ("" if one.realized else "not realized")


def pod_reason(one: PodView) -> str:
    """Why a pod is not as it should be; empty when it is."""
    return one.reason or ("" if one.installed else "the policy of its port is not yet in force")


def dropped_by_limits(one: PodView) -> str:
    """What its limits have dropped of a pod, no fault of anybody else's; empty when nothing."""
    return f"its limits dropped {one.limited:,} packets" if one.limited else ""


def _tls(view: StatusView) -> Iterator[Finding]:
    for address in view.plain:
        yield Finding(TLS, address, "in plain text over the network")
    if view.tls is not None and view.tls.problem:
        yield Finding(TLS, view.tls.certificate, view.tls.problem)
    if view.tls is not None and view.tls.refused:
        yield Finding(TLS, f"{view.tls.refused} connections refused", f"the last: {view.tls.last_refused}")
