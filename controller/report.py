"""What /status says, read off the reconciler: plain values, no input or output, no clock but the one passed in."""

from __future__ import annotations

from collections.abc import Iterator

from controller.reconcile.reconciler import Reconciler
from controller.reconcile.world import BridgeName
from controller.views import PodView, PolicyView, PortView, ProblemView, SwitchView
from flows.attach import Attachment, BridgeState
from flows.model import Direction, Key, Policy


def _directions(found: frozenset[Direction]) -> tuple[str, ...]:
    return tuple(sorted(direction.value for direction in found))


def switch_views(core: Reconciler, now: float) -> tuple[SwitchView, ...]:
    """Every bridge of ours, by node and name."""
    views = [_switch_view(core, name, now) for name in core.world.bridges]
    return tuple(sorted(views, key=lambda view: (view.node, view.bridge)))


def _switch_view(core: Reconciler, name: BridgeName, now: float) -> SwitchView:
    bridge = core.world.bridges[name]
    reading = core.world.reading(name)
    switch = core.switches.get(bridge.dpid)
    uplink = next((i.name for i in bridge.interfaces if i.ofport and i.ofport == reading.view.uplink), "")
    ofports = {interface.name: interface.ofport for interface in bridge.interfaces}
    committed = switch.committed_at if switch else None
    return SwitchView(
        node=bridge.node,
        bridge=bridge.name,
        dpid=f"{bridge.dpid:016x}" if bridge.dpid else "",
        ovsdb=bridge.ovsdb,
        ovsdb_connected=core.is_synced(bridge.ovsdb),
        openflow_connected=switch is not None and switch.session is not None,
        datapath_type=bridge.datapath_type or "system",
        ovs_version=bridge.ovs_version,
        uplink=uplink,
        desired_flows=len(switch.desired) if switch else 0,
        actual_flows=switch.size if switch else None,
        foreign_flows=switch.foreign if switch else 0,
        in_sync=switch is not None and switch.realized,
        error=_error(core, name),
        commit_age=now - committed if committed is not None else None,
        unbound_ports=tuple(PortView(p.interface, ofports.get(p.interface), p.reason) for p in reading.problems),
    )


def _error(core: Reconciler, name: BridgeName) -> str:
    bridge = core.world.bridges[name]
    rivals = core.world.by_dpid.get(bridge.dpid, ())
    if rivals and rivals[0] != name:
        return f"datapath id {bridge.dpid:016x} is used by bridge {rivals[0][1]} at {rivals[0][0]} too; not served"
    switch = core.switches.get(bridge.dpid)
    plan = core.world.planned(name)
    return (plan.error if plan else "") or (switch.error if switch else "")


def pod_views(core: Reconciler) -> tuple[PodView, ...]:
    """Every pod with a port, then those whose node has a switch but which have no port there."""
    cluster = core.world.cluster
    if cluster is None:
        return ()
    found: dict[Key, PodView] = {}
    nodes = {bridge.node for bridge in core.world.bridges.values()}
    for name, bridge in core.world.bridges.items():
        for attachment in core.world.reading(name).view.attachments:
            found[attachment.pod] = _pod_view(core, bridge, attachment)
    for key, pod in cluster.pods.items():
        if key not in found and pod.networked and pod.node in nodes:
            addresses = tuple(map(str, pod.addresses))
            found[key] = PodView(str(key), pod.node, addresses=addresses, reason="no port on its node names this pod")
    return tuple(found[key] for key in sorted(found))


def _pod_view(core: Reconciler, bridge: BridgeState, attachment: Attachment) -> PodView:
    interface = next(i for i in bridge.interfaces if i.name == attachment.interface)
    port = (bridge.ovsdb, interface.uuid)
    mac = f"{attachment.mac:012x}" if attachment.mac is not None else ""
    return PodView(
        key=str(attachment.pod),
        node=bridge.node,
        port=attachment.interface,
        ofport=attachment.ofport,
        addresses=tuple(map(str, attachment.addresses)),
        mac=":".join(mac[i : i + 2] for i in range(0, 12, 2)) if mac else "",
        isolated=_directions(core.world.engine.isolated(attachment.pod)),
        installed=interface.external_ids.get("headgate-installed") == "true",
        programmed_after=core.ports.programmed_after.get(port),
        reason="" if attachment.addresses else "no address is known for it yet: nothing passes",
    )


def policy_views(core: Reconciler) -> tuple[PolicyView, ...]:
    """Every policy with what keeps it from being wholly in force."""
    cluster = core.world.cluster
    if cluster is None:
        return ()
    behind, faults = _unrealized_nodes(core), policy_faults(core)
    return tuple(_policy_view(core, cluster.policies[key], behind, faults) for key in sorted(cluster.policies))


def _policy_view(core: Reconciler, policy: Policy, behind: dict[Key, str], faults: dict[Key, str]) -> PolicyView:
    index = core.world.engine.index
    pods = [index.pods[n].key for n in index.select(policy.key.namespace, policy.subjects)]
    waiting = sorted({behind[pod] for pod in pods if pod in behind})
    reasons = [*filter(None, [faults.get(policy.key)]), *(f"not yet in force on {node}" for node in waiting)]
    return PolicyView(str(policy.key), not reasons, "; ".join(reasons), _directions(policy.isolates), len(pods))


def _unrealized_nodes(core: Reconciler) -> dict[Key, str]:
    """Pods on switches that do not have all their flows yet, and the switch's node."""
    found: dict[Key, str] = {}
    for name, bridge in core.world.bridges.items():
        switch = core.switches.get(bridge.dpid)
        plan = core.world.planned(name)
        if switch is None or not switch.realized or (plan is not None and plan.error):
            found.update((a.pod, bridge.node) for a in core.world.reading(name).view.attachments)
    return found


def problem_views(core: Reconciler) -> tuple[ProblemView, ...]:
    """What the sources could not take as it stood, and switches that nobody can tell the ports of."""
    strange = [dpid for dpid, switch in core.switches.items() if switch.session and dpid not in core.world.by_dpid]
    reason = "its OpenFlow connection is up, but no OVSDB that is reached has a bridge of ours with this datapath id"
    return (
        *(ProblemView(p.where, p.key, p.field, p.reason) for p in core.problems),
        *(ProblemView(f"switch {dpid:016x}", "", "", f"{reason}; it gets no flows") for dpid in sorted(strange)),
    )


def missing(core: Reconciler, revision: int) -> Iterator[str]:
    """What of the world at `revision` is not realized, a line each. Nothing when all of it is."""
    if core.world.cluster is None:
        yield "the sources have not been read completely yet"
        return
    for name, bridge in sorted(core.world.bridges.items()):
        where = f"{bridge.node or bridge.ovsdb} ({bridge.name})"
        switch = core.switches.get(bridge.dpid)
        error = _error(core, name)
        if error:
            yield f"{where}: {error}"
        if switch is None or switch.session is None:
            yield f"{where}: the switch has no OpenFlow connection to this controller"
        elif not switch.realized and switch.realized_revision < revision:
            yield f"{where}: its flows are not yet what they shall be"
        elif core.ports.pending(bridge.ovsdb):
            yield f"{where}: ports are not yet marked as installed"
    yield from source_lines(core)


def policy_faults(core: Reconciler) -> dict[Key, str]:
    """Policies that cannot be realized, or only in part, as they stand, and why."""
    policies = core.world.cluster.policies.values() if core.world.cluster else ()
    found = {policy.key: "; ".join(policy.defects) for policy in policies if policy.defects}
    for key, bridges in core.world.left_out().items():
        where = ", ".join(sorted({core.world.bridges[name].node or name[0] for name in bridges}))
        reason = f"its namespace's rules are too many flows on {where}: some allow nothing there"
        found[key] = f"{found[key]}; {reason}" if key in found else reason
    return found


def source_lines(core: Reconciler) -> Iterator[str]:
    """What the sources say that cannot be realized as it stands; only a change of the sources can mend it."""
    for problem in core.problems:
        yield f"{problem.where}: {' '.join(filter(None, (problem.key, problem.field)))}: {problem.reason}"
    for key, reason in policy_faults(core).items():
        yield f"policy {key}: {reason}"
