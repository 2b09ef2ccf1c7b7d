"""What /status says, read off the reconciler: plain values, no input or output, no clock but the one passed in.

Each piece can be read by itself, so that whoever keeps a status (`board`) reads again only what changed, a few at a
time. The functions that say all of one kind are the reference for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from itertools import chain, islice
from typing import NamedTuple

from controller.reconcile.events import Problem
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.switch import Switch
from controller.status.foreign_flows import describe_foreign
from controller.status.invalid_packets import invalid_reason_text
from controller.status.model import PodView, PolicyView, PortView, ProblemView, SwitchView
from flows.bridge.binding import NO_NODE
from flows.bridge.claim_contest import BridgeName
from flows.bridge.external_ids import parse_node_addresses
from flows.bridge.state import BindingResult, BridgeState, InterfaceState, PodBinding
from flows.cluster.model import Cluster, Direction, Key, Policy
from flows.pipeline.pod_limits import METERED, meter_number
from flows.pipeline.tables import TABLE_NAMES

MAX_NODES_NAMED = 10  # named as those that hold up a policy
MAX_MISSING_LINES = 1000  # of what is missing
MAX_FOREIGN_PROBLEMS = 3  # foreign flows of a switch that are problems each; `headgate flows --foreign` has more
FOREIGN_FLOW = "a flow that Headgate did not make stands in its tables, delete it if nobody needs it"


class UnboundPorts(NamedTuple):
    """What a switch's view says of its ports: the uplink's name, and those that carry no pod."""

    uplink: str
    unbound: tuple[PortView, ...]


def _directions(found: frozenset[Direction]) -> tuple[str, ...]:
    return tuple(sorted(direction.value for direction in found))


# -- switches ----------------------------------------------------------------------------------------------------------


def switch_views(core: Reconciler, now: float) -> tuple[SwitchView, ...]:
    """Every bridge of ours, by node and name."""
    world = core.world
    views = [switch_view(core, name, ports_of(world.bridges[name], world.binding(name)), now) for name in world.bridges]
    return tuple(sorted(views, key=lambda view: (view.node, view.bridge)))


def ports_of(bridge: BridgeState, reading: BindingResult) -> UnboundPorts:
    """The ports of a bridge that are no pod's."""
    uplink = next((i.name for i in bridge.interfaces if i.ofport and i.ofport == reading.binding.uplink), "")
    ofports = {interface.name: interface.ofport for interface in bridge.interfaces}
    return UnboundPorts(
        uplink, tuple(PortView(p.interface, ofports.get(p.interface), p.reason) for p in reading.problems)
    )


def switch_view(core: Reconciler, name: BridgeName, ports: UnboundPorts, now: float) -> SwitchView:
    """One bridge; costs the same whatever is on it."""
    bridge = core.world.bridges[name]
    switch = core.switch_of(name)
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
        uplink=ports.uplink,
        desired_flows=len(switch.desired) if switch else 0,
        actual_flows=switch.actual_count if switch else None,
        foreign_flows=switch.foreign if switch else 0,
        in_sync=switch is not None and switch.realized,
        error=switch_error(core, name),
        commit_age=now - committed if committed is not None else None,
        unbound_ports=ports.unbound,
        limits=switch.meters.problem if switch else "",
        answered=tuple(map(str, bridge.confirmed_if_probed or ())),
    )


def switch_error(core: Reconciler, name: BridgeName) -> str:
    """Why a bridge does not have what it shall have, or is not served at all; empty where nothing is in the way."""
    bridge = core.world.bridges[name]
    if refusal := core.world.owners.refusal(name):
        return refusal
    if failure := core.world.failures.get(name):
        return failure.reason
    switch, plan = core.switch_of(name), core.world.plan_of(name)
    unnamed = core.world.nodes.why_no_node(bridge) if bridge.node else NO_NODE
    said = parse_node_addresses(bridge.node_addresses_text)[1]
    return (plan.error if plan else "") or (switch.error if switch else "") or unnamed or said


# -- pods --------------------------------------------------------------------------------------------------------------


def pod_views(core: Reconciler) -> tuple[PodView, ...]:
    """Every pod with a port, then those whose node has a switch but which have no port there."""
    cluster = core.world.cluster
    if cluster is None:
        return ()
    found: dict[Key, PodView] = {}
    for name in core.world.bridges:
        pod_bindings = core.world.binding(name).binding.pods
        found.update(pods_on(core, name, pod_bindings))
    nodes = {bridge.node for bridge in core.world.bridges.values()}
    found.update(pods_without_port(cluster, nodes, found, cluster.pods))
    return tuple(found[key] for key in sorted(found))


def pods_on(core: Reconciler, name: BridgeName, pod_bindings: Iterable[PodBinding]) -> dict[Key, PodView]:
    """These pods of one bridge."""
    bridge = core.world.bridges[name]
    interfaces = {interface.name: interface for interface in bridge.interfaces}
    return {
        a.pod: _pod_view(core, bridge, interfaces[a.interface], a) for a in pod_bindings if a.interface in interfaces
    }


def _pod_view(core: Reconciler, bridge: BridgeState, interface: InterfaceState, pod_binding: PodBinding) -> PodView:
    mac = f"{pod_binding.mac:012x}" if pod_binding.mac is not None else ""
    switch = core.switch_of((bridge.ovsdb, bridge.name))
    return PodView(
        key=str(pod_binding.pod),
        node=bridge.node,
        port=pod_binding.interface,
        ofport=pod_binding.ofport,
        addresses=tuple(map(str, pod_binding.addresses)),
        mac=":".join(mac[i : i + 2] for i in range(0, 12, 2)) if mac else "",
        isolated=_directions(core.world.isolation(pod_binding.pod)),
        installed=interface.external_ids.get("headgate-installed") == "true",
        programmed_after=core.ports.realized_after.get((bridge.ovsdb, interface.uuid)),
        reason=_pod_reason(switch, bridge, pod_binding),
        limited=_limited(switch, pod_binding.ofport),
        invalid=switch.invalid.total(pod_binding.ofport).invalid if switch else 0,
    )


def _pod_reason(switch: Switch | None, bridge: BridgeState, pod_binding: PodBinding) -> str:
    if not pod_binding.addresses:
        return "no address is known for it yet: nothing passes"
    told = switch.invalid.finding(pod_binding.ofport) if switch else None
    return invalid_reason_text(told, bridge, pod_binding.interface) if told is not None else ""


def _limited(switch: Switch | None, ofport: int) -> int:
    dropped = switch.meters.dropped if switch else {}
    meters = (meter_number(limit, ofport) for limit in METERED)
    return sum(dropped[number].packets for number in meters if number in dropped)


def pods_without_port(
    cluster: Cluster, nodes: Collection[str], found: Collection[Key], keys: Iterable[Key]
) -> dict[Key, PodView]:
    """Those of these pods that have no port (are not in `found`), though their node is one of `nodes`."""
    views = {}
    for key in keys:
        pod = cluster.pods[key]
        if key not in found and pod.networked and pod.node in nodes:
            addresses = tuple(map(str, pod.addresses))
            views[key] = PodView(str(key), pod.node, addresses=addresses, reason="no port on its node names this pod")
    return views


# -- policies ----------------------------------------------------------------------------------------------------------


def policy_views(core: Reconciler) -> tuple[PolicyView, ...]:
    """Every policy with what keeps it from being wholly in force."""
    cluster = core.world.cluster
    if cluster is None:
        return ()
    behind, out = pods_on_unrealized_bridges(core), core.world.left_out()
    return tuple(policy_view(core, cluster.policies[key], behind, out) for key in sorted(cluster.policies))


def policy_view(
    core: Reconciler, policy: Policy, behind: Mapping[int, str], out: Mapping[str, Set[BridgeName]]
) -> PolicyView:
    """One policy; `behind` is what `pods_behind` says, `out` what the world says it leaves out."""
    members = core.world.selected_pods(policy.key.namespace, policy.subjects)
    reasons = [*policy.errors, *_left_out(core, policy.key, out)]
    reasons += [f"not yet in force on {node}" for node in _waiting_for(members, behind)]
    notes = core.world.notes_on_policy(policy)
    isolates = _directions(policy.isolates)
    return PolicyView(str(policy.key), not reasons, "; ".join(reasons), isolates, len(members), notes)


def _left_out(core: Reconciler, key: Key, out: Mapping[str, Set[BridgeName]]) -> list[str]:
    """Where a policy's rules may be left out, because its namespace asks for too much."""
    there = out.get(key.namespace)
    found = core.world.bridges_with_subjects_of(key) & there if there else ()
    if not found:
        return []
    nodes = sorted({core.world.bridges[name].node or name[0] for name in found})
    more = [f"{len(nodes) - MAX_NODES_NAMED} more nodes"] if len(nodes) > MAX_NODES_NAMED else []
    where = ", ".join(nodes[:MAX_NODES_NAMED] + more)
    return [f"its namespace's rules are too many flows on {where}: some allow nothing there"]


def _waiting_for(members: Collection[int], behind: Mapping[int, str]) -> list[str]:
    """The nodes that hold up a policy for these pods, the first few by name; whichever set is smaller is gone
    through."""
    if not behind:
        return []
    both = (n for n in behind if n in members) if len(behind) < len(members) else (n for n in members if n in behind)
    nodes = sorted({behind[n] for n in both})
    more = [f"{len(nodes) - MAX_NODES_NAMED} more nodes"] if len(nodes) > MAX_NODES_NAMED else []
    return nodes[:MAX_NODES_NAMED] + more


def pods_on_unrealized_bridges(core: Reconciler) -> dict[int, str]:
    """The numbers of pods on switches that do not have all their flows yet, and the switch's node."""
    number = core.world.pod_numbers
    found: dict[int, str] = {}
    for name in unrealized_bridges(core):
        node = core.world.bridges[name].node
        pods = (number.get(a.pod) for a in core.world.binding(name).binding.pods)
        found.update((n, node) for n in pods if n is not None)
    return found


def unrealized_bridges(core: Reconciler) -> list[BridgeName]:
    """The bridges whose switch does not have all its flows yet."""
    found = []
    for name, _bridge in core.world.bridges.items():
        switch, plan = core.switch_of(name), core.world.plan_of(name)
        if switch is None or not switch.realized or (plan is not None and plan.error):
            found.append(name)
    return found


# -- problems ----------------------------------------------------------------------------------------------------------


def problem_views(core: Reconciler) -> tuple[ProblemView, ...]:
    """What the sources could not take as it stood, and switches that nobody can tell the ports of."""
    found = chain(core.problems, core.contained_problems(), core.without_bridge())
    return (
        *(ProblemView(p.where, p.key, p.field, p.reason) for p in found),
        *unknown_switches(core),
        *foreign_flow_problems(core),
    )


def unknown_switches(core: Reconciler) -> tuple[ProblemView, ...]:
    """Switches that are connected and that no OVSDB knows."""
    claimed = {bridge.dpid for bridge in core.world.bridges.values()}
    strange = [dpid for dpid, switch in core.switches.items() if switch.session and dpid not in claimed]
    reason = "its OpenFlow connection is up, but no OVSDB that is reached has a bridge of ours with this datapath id"
    return tuple(ProblemView(f"switch {dpid:016x}", "", "", f"{reason}; it gets no flows") for dpid in sorted(strange))


def foreign_flow_problems(core: Reconciler) -> tuple[ProblemView, ...]:
    """Flows in tables of ours that Headgate did not make: what policy says may not hold beside them."""
    found = []
    for name, bridge in core.world.bridges.items():
        switch = core.switch_of(name)
        flows = switch.foreign_flows if switch is not None else ()
        where = f"{bridge.node or bridge.ovsdb} ({bridge.name})"
        for flow, _ in flows[:MAX_FOREIGN_PROBLEMS]:
            match, actions = describe_foreign(flow)
            place = f"table={TABLE_NAMES[flow.table]}, priority={flow.priority}"
            text = f"{place}{',' if match else ''}{match} actions={actions or 'drop'}"
            found.append(ProblemView(where, "", "", f"{FOREIGN_FLOW}: {text}"))
        if len(flows) > MAX_FOREIGN_PROBLEMS:
            found.append(
                ProblemView(where, "", "", f"{FOREIGN_FLOW}: {len(flows) - MAX_FOREIGN_PROBLEMS} more or many more")
            )
    return tuple(sorted(found, key=lambda one: (one.where, one.reason)))


# -- waiting -----------------------------------------------------------------------------------------------------------


def unrealized(core: Reconciler, revision: int) -> Iterator[str]:
    """What of the world at `revision` is not realized, a line each. Nothing when all of it is."""
    yield from unrealized_switches(core, revision)
    if core.world.cluster is not None:
        yield from source_problem_lines(core.problems, policy_problems(core))


def unrealized_switches(core: Reconciler, revision: int) -> Iterator[str]:
    """The part of it that time can mend."""
    if core.world.cluster is None:
        yield "the sources have not been read completely yet"
        return
    yield from (f"{problem.where}: {problem.reason}" for problem in core.without_bridge())
    unwritten = core.ports.unwritten()
    for name, bridge in sorted(core.world.bridges.items()):
        where = f"{bridge.node or bridge.ovsdb} ({bridge.name})"
        switch = core.switch_of(name)
        error = switch_error(core, name)
        if error:
            yield f"{where}: {error}"
        if core.world.owners.refusal(name):
            continue
        if switch is None or switch.session is None:
            yield f"{where}: the switch has no OpenFlow connection to this controller"
        elif not switch.realized and switch.realized_revision < revision:
            yield f"{where}: its flows are not yet what they shall be"
        elif switch.foreign_flows:
            yield f"{where}: flows that Headgate did not make stand in its tables; see headgate flows --foreign"
        elif unwritten.get(bridge.ovsdb):
            yield f"{where}: ports are not yet marked as installed"


def policy_problems(core: Reconciler) -> dict[Key, str]:
    """Policies that cannot be realized, or only in part, as they stand, and why."""
    policies = core.world.cluster.policies.values() if core.world.cluster else ()
    found = {policy.key: "; ".join(policy.errors) for policy in policies if policy.errors}
    for key, reason in left_out_problems(core).items():
        found[key] = f"{found[key]}; {reason}" if key in found else reason
    return found


def left_out_problems(core: Reconciler) -> dict[Key, str]:
    """Policies with rules that bridges leave out, for their namespaces ask for too much."""
    out = core.world.left_out()
    policies = core.world.cluster.policies if core.world.cluster and out else ()
    found = ((key, _left_out(core, key, out)) for key in policies if key.namespace in out)
    return {key: reasons[0] for key, reasons in found if reasons}


def source_problem_lines(problems: Iterable[Problem], faults: Mapping[Key, str]) -> list[str]:
    """What the sources say that cannot be realized as it stands; only a change of the sources can mend it."""
    lines = []
    for problem in problems:
        object_and_field = " ".join(filter(None, (problem.key, problem.field)))
        lines.append(": ".join(filter(None, (problem.where, object_and_field, problem.reason))))
    return [*lines, *(f"policy {key}: {reason}" for key, reason in faults.items())]


def first_lines(lines: Iterable[str]) -> list[str]:
    """The first lines, and how many more there are."""
    lines = iter(lines)
    found = list(islice(lines, MAX_MISSING_LINES))
    more = sum(1 for _ in lines)
    return [*found, f"and {more} more"] if more else found
