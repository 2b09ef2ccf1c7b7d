"""The flows of a bridge with their pods, policies and rules, found by cookies, ports and conjunction ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from controller.reconcile.group_state import GroupState
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.switch import Switch
from controller.status.details import DENY_KINDS, STAGED_KINDS, isolating_policies
from controller.status.foreign_flows import describe_foreign
from controller.status.model import FlowView
from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import BridgeState, PodBinding
from flows.cluster.model import Direction
from flows.cluster.net import address_text
from flows.openflow.actions import Conjunction, ToGroup
from flows.openflow.flow import Flow
from flows.openflow.match_fields import IN_PORT, REGISTERS
from flows.pipeline.cookies import COOKIE_NUMBER_MASK, CookieKind, cookie, read_cookie
from flows.pipeline.registers import SOURCE_OFPORT
from flows.pipeline.tables import TABLE_NAMES
from flows.policy.tracked_sets import TrackedRule
from flows.wire import text
from flows.wire.actions import may_use_group
from flows.wire.codec import decode_flow
from flows.wire.errors import CodecError
from flows.wire.groups import nat_targets, nat_targets_of_flow
from flows.wire.values import Body, FlowCounters, FlowKey, ForeignFlow, WireFlow, WireGroup, wire_flow

_OF_PORTS = (CookieKind.PORT, CookieKind.DENY_EGRESS, CookieKind.DENY_INGRESS, CookieKind.SENT, CookieKind.INVALID,
             CookieKind.BROKEN, *STAGED_KINDS)  # fmt: skip


MAX_ENDPOINTS_SHOWN = 10  # of a group


def flow_views(reconciler: Reconciler, name: BridgeName) -> list[FlowView]:
    """The flows of one bridge as last dumped, by table, highest priority first."""
    switch = reconciler.switch_of(name)
    if switch is None:
        return []
    bridge = reconciler.world.bridges[name]
    views = list(_views(reconciler, name, switch, switch.actual_flows() or ()).values())
    ports = _port_names(bridge)
    views += [_foreign_view(bridge.node, bridge.name, one, ports) for one in switch.foreign_flows]
    return sorted(views, key=lambda view: (view.table, -view.priority, view.match))


def flow_views_of(reconciler: Reconciler, name: BridgeName, flows: Mapping[FlowKey, Body]) -> dict[FlowKey, FlowView]:
    """The views of some flows of one bridge, with counters as last dumped. Foreign flows have none, nor has anything
    on a bridge without a switch."""
    switch = reconciler.switch_of(name)
    ours = [(key, body) for key, body in flows.items() if read_cookie(body.cookie) is not None]
    return {} if switch is None else _views(reconciler, name, switch, ours)


def _views(
    reconciler: Reconciler, name: BridgeName, switch: Switch, flows: Iterable[tuple[FlowKey, Body]]
) -> dict[FlowKey, FlowView]:
    bridge = reconciler.world.bridges[name]
    plan = reconciler.world.plan_of(name)
    rules = plan.rules_by_number() if plan else {}
    pod_bindings = plan.binding.pods if plan else ()
    pods = {a.ofport: str(a.pod) for a in pod_bindings}
    ports = _port_names(bridge)
    deniers = _deniers(reconciler, pod_bindings)
    nothing = FlowCounters(0, 0, 0)
    names = plan.groups.names if plan else {}
    found = {}
    for key, body in flows:
        wire = wire_flow(key, body)
        counters = switch.counters.get(key, nothing)
        view = _flow_view(bridge.node, bridge.name, wire, counters, rules, pods, ports)
        found[key] = _with_groups(_isolated(view, deniers), wire, switch.groups, names)
    return found


def _port_names(bridge: BridgeState) -> dict[int, str]:
    return {one.ofport: one.name for one in bridge.interfaces if one.ofport is not None}


def _foreign_view(node: str, bridge: str, found: ForeignFlow, ports: Mapping[int, str]) -> FlowView:
    """A flow that Headgate did not make."""
    match, actions = describe_foreign(found.flow, ports)
    return FlowView(
        node=node,
        bridge=bridge,
        table=found.flow.table,
        table_name=TABLE_NAMES.get(found.flow.table, str(found.flow.table)),
        priority=found.flow.priority,
        match=match,
        actions=actions,
        cookie=found.flow.cookie,
        kind="foreign",
        packets=found.counters.packets,
        bytes=found.counters.bytes,
        duration=found.counters.duration,
        note="not made by Headgate",
    )


def _deniers(reconciler: Reconciler, pod_bindings: Collection[PodBinding]) -> dict[int, tuple[str, ...]]:
    """The policies that isolate each pod in each direction, by the cookie of the flow that drops its packets; and the
    staged ones that select it, by the cookies of the flows that count what they would change."""
    ofports = {pod_binding.pod: pod_binding.ofport for pod_binding in pod_bindings}
    found = isolating_policies(reconciler, ofports)
    deniers = {cookie(DENY_KINDS[direction], ofports[pod]): names for (pod, direction), names in found.items()}
    staged = reconciler.world.engine.staged_policies
    for pod, ofport in ofports.items():
        for direction in Direction:
            if names := staged(pod, direction):
                kinds = [kind for kind, (of, _) in STAGED_KINDS.items() if of == direction.value]
                deniers.update((cookie(kind, ofport), names) for kind in kinds)
    return deniers


def _with_groups(view: FlowView, wire: WireFlow, groups: GroupState, names: Mapping[int, str]) -> FlowView:
    """The view with the name and endpoints of the groups that the flow sends to."""
    if view.kind == CookieKind.ENDPOINT.name.lower() and not view.note:
        return replace(view, note=_describe_endpoint(wire, names))
    if not may_use_group(wire.instructions) or view.note:
        return view
    actions = decode_flow(wire).actions
    notes = [_describe_group(action.number, groups, names) for action in actions if isinstance(action, ToGroup)]
    return replace(view, note="; ".join(notes))


def _describe_endpoint(wire: WireFlow, names: Mapping[int, str]) -> str:
    number = wire.cookie & COOKIE_NUMBER_MASK
    name = names.get(number, f"port {number:#x} of a Service")
    texts = [_endpoint_text(*target[1:]) for target in nat_targets_of_flow(wire.instructions)]
    return f"{name}: {', '.join(texts) or 'any endpoint'}"


def _describe_group(number: int, groups: GroupState, names: Mapping[int, str]) -> str:
    name = names.get(number, f"group {number}")
    body = groups.actual_of(number)
    if body is None:
        return f"{name}: not on the switch"
    targets = sorted(nat_targets(WireGroup(number, body)))
    texts = [_endpoint_text(*target[1:]) for target in targets[:MAX_ENDPOINTS_SHOWN]]
    more = len(targets) - len(texts)
    return f"{name}: {', '.join(texts) or 'no endpoint'}{f' and {more} more' if more else ''}"


def _endpoint_text(version: int, address: int, port: int) -> str:
    text = address_text(version, address)
    return f"[{text}]:{port}" if version == 6 else f"{text}:{port}"


def _isolated(view: FlowView, deniers: Mapping[int, tuple[str, ...]]) -> FlowView:
    return replace(view, policies=deniers[view.cookie]) if view.cookie in deniers else view


def _flow_view(
    node: str,
    bridge: str,
    wire: WireFlow,
    counters: FlowCounters,
    rules: dict[int, TrackedRule],
    pods: dict[int, str],
    ports: dict[int, str],
) -> FlowView:
    kind, number = read_cookie(wire.cookie) or (CookieKind.PIPELINE, 0)
    try:
        flow = decode_flow(wire)
    except CodecError as error:
        match, actions, concerned, of_rules = wire.match.hex(), wire.instructions.hex(), set[str](), []
        note = f"cannot be decoded: {error}"
    else:
        match = text.format_match(flow.match, ports)
        actions = text.format_actions(flow.actions, flow.goto, TABLE_NAMES, ports)
        concerned = set(_pods_of(flow, kind, number, pods))
        of_rules = list(_rules_of(flow, kind, number, rules))
        note = ""
    owners = [owner for rule in of_rules for owner in rule.owners]
    return FlowView(
        node=node,
        bridge=bridge,
        table=wire.table,
        table_name=TABLE_NAMES.get(wire.table, str(wire.table)),
        priority=wire.priority,
        match=match,
        actions=actions,
        cookie=wire.cookie,
        kind=kind.name.lower(),
        packets=counters.packets,
        bytes=counters.bytes,
        duration=counters.duration,
        pods=tuple(sorted(concerned)),
        policies=tuple(sorted({str(owner.policy) for owner in owners})),
        rules=tuple(sorted(map(str, owners))),
        note=note,
    )


def _rules_of(flow: Flow, kind: CookieKind, number: int, rules: dict[int, TrackedRule]) -> Iterator[TrackedRule]:
    """The rule that a flow allows, or the rules that it is a clause of."""
    numbers: Iterable[int] = [number] if kind is CookieKind.RULE else []
    if kind is CookieKind.CLAUSE:
        numbers = [action.conj_id for action in flow.actions if isinstance(action, Conjunction)]
    return (rules[one] for one in numbers if one in rules)


def _pods_of(flow: Flow, kind: CookieKind, number: int, pods: dict[int, str]) -> Iterator[str]:
    """The pods whose port is in a flow's cookie or match."""
    if kind in _OF_PORTS and number in pods:
        yield pods[number]
    for term in flow.match:
        is_port = term.field is IN_PORT or (term.field in REGISTERS[:4] and term.mask == SOURCE_OFPORT.mask)
        if is_port and term.value in pods:
            yield pods[term.value]
