"""One bridge as `/status` shows it, and why it is not realized, read from the reconciler. The time is passed in."""

from __future__ import annotations

from typing import NamedTuple

from controller.reconcile.reconciler import Reconciler
from controller.status.model import PortView, SwitchView
from flows.bridge.binding import NO_NODE
from flows.bridge.claim_contest import BridgeName
from flows.bridge.external_ids import parse_node_addresses
from flows.bridge.state import BindingResult, BridgeState


class UnboundPorts(NamedTuple):
    """The ports of a bridge without a pod: the uplink's name, empty for none, and the others."""

    uplink: str
    unbound: tuple[PortView, ...]


def ports_of(bridge: BridgeState, reading: BindingResult) -> UnboundPorts:
    """The ports of a bridge without a pod."""
    uplink = next((i.name for i in bridge.interfaces if i.ofport and i.ofport == reading.binding.uplink), "")
    ofports = {interface.name: interface.ofport for interface in bridge.interfaces}
    return UnboundPorts(
        uplink, tuple(PortView(p.interface, ofports.get(p.interface), p.reason) for p in reading.problems)
    )


def switch_view(reconciler: Reconciler, name: BridgeName, ports: UnboundPorts, now: float) -> SwitchView:
    """One bridge, at a cost that does not depend on its ports and flows. `now` is a monotonic clock."""
    bridge = reconciler.world.bridges[name]
    switch = reconciler.switch_of(name)
    committed = switch.committed_at if switch else None
    compared = switch.compared_at if switch and switch.session is not None else None
    role = reconciler.roles.session_of(name)
    return SwitchView(
        node=bridge.node,
        bridge=bridge.name,
        dpid=f"{bridge.dpid:016x}" if bridge.dpid else "",
        ovsdb=bridge.ovsdb,
        ovsdb_connected=reconciler.is_synced(bridge.ovsdb),
        openflow_connected=switch is not None and switch.session is not None,
        datapath_type=bridge.datapath_type or "system",
        ovs_version=bridge.ovs_version,
        uplink=ports.uplink,
        desired_flows=len(switch.desired) if switch else 0,
        actual_flows=switch.actual_count if switch else None,
        foreign_flows=switch.foreign if switch else 0,
        in_sync=switch is not None and switch.realized,
        error=switch_error(reconciler, name),
        commit_age=now - committed if committed is not None else None,
        unbound_ports=ports.unbound,
        limits=switch.meters.problem if switch else "",
        answered=tuple(map(str, bridge.confirmed_if_probed or ())),
        owner=reconciler.roles.owner(name),
        primary=role is not None and role.primary,
        generation=f"{role.generation:016x}" if role is not None and role.primary else "",
        owned_for=now - role.since if role is not None and role.primary else None,
        compare_age=now - compared if compared is not None else None,
    )


def switch_error(reconciler: Reconciler, name: BridgeName) -> str:
    """Why a bridge cannot have all desired flows, or gets none at all; empty where nothing prevents it."""
    bridge = reconciler.world.bridges[name]
    if refusal := reconciler.world.refusal(name):
        return refusal
    if failure := reconciler.world.failures.get(name):
        return failure.reason
    switch, plan = reconciler.switch_of(name), reconciler.world.plan_of(name)
    unnamed = reconciler.world.why_no_node(bridge) if bridge.node else NO_NODE
    address_error = parse_node_addresses(bridge.node_addresses_text)[1]
    return (plan.error if plan else "") or (switch.error if switch else "") or unnamed or address_error


def unrealized_bridges(reconciler: Reconciler) -> list[BridgeName]:
    """The bridges that do not have all desired flows yet, apart from those that another replica answers for."""
    found = []
    for name, _bridge in reconciler.world.bridges.items():
        if not reconciler.roles.owns(name):
            continue
        switch, plan = reconciler.switch_of(name), reconciler.world.plan_of(name)
        if switch is None or not switch.realized or (plan is not None and plan.error):
            found.append(name)
    return found
