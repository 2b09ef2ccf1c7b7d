"""The flows of a bridge with their pods, policies and rules, found by cookies, ports and conjunction ids.

Under the lock only references are copied (`flow_parts`); the views are made of them outside of it, one by one: a switch
may have a million flows, and a view is larger than a flow.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter

from controller.reconcile.reconciler import Reconciler
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
from flows.policy.rule import RuleRef
from flows.wire import text
from flows.wire.actions import may_use_group
from flows.wire.codec import decode_flow
from flows.wire.errors import CodecError
from flows.wire.groups import nat_targets, nat_targets_of_flow
from flows.wire.values import (
    KEY_PREFIX,
    Body,
    FlowCounters,
    FlowKey,
    ForeignFlow,
    GroupBody,
    WireFlow,
    WireGroup,
    wire_flow,
)

_OF_PORTS = (CookieKind.PORT, CookieKind.DENY_EGRESS, CookieKind.DENY_INGRESS, CookieKind.SENT, CookieKind.INVALID,
             CookieKind.BROKEN, *STAGED_KINDS)  # fmt: skip

_NO_COUNTERS = FlowCounters(0, 0, 0)
MAX_ENDPOINTS_SHOWN = 10  # of a group


@dataclass(frozen=True, slots=True)
class FlowParts:
    """What the views of one bridge's flows are made of: references, copied under the lock by `flow_parts`."""

    node: str
    bridge: str
    flows: list[tuple[FlowKey, Body]]
    foreign: tuple[ForeignFlow, ...]
    counters: Mapping[FlowKey, FlowCounters]
    owners: Mapping[int, tuple[RuleRef, ...]]  # of the rules on this bridge, by conjunction id
    pods: Mapping[int, str]  # by ofport
    ports: Mapping[int, str]  # names by ofport
    deniers: Mapping[int, tuple[str, ...]]  # policies by the cookie of the flow that drops or counts for them
    groups: Mapping[int, GroupBody]
    group_names: Mapping[int, str]


def flow_parts(
    reconciler: Reconciler, name: BridgeName, flows: Iterable[tuple[FlowKey, Body]] | None = None
) -> FlowParts:
    """Copy what is needed for all flows of a bridge as last dumped, or for `flows` of it; call it under the lock."""
    bridge = reconciler.world.bridges[name]
    switch = reconciler.switch_of(name)
    plan = reconciler.world.plan_of(name)
    pod_bindings = plan.binding.pods if plan else ()
    found = flows
    if found is None and switch is not None:
        found = switch.actual_flows()
    return FlowParts(
        bridge.node,
        bridge.name,
        list(found or ()),
        tuple(switch.foreign_flows) if switch is not None and flows is None else (),
        switch.counters if switch is not None else {},
        {number: tuple(rule.owners) for number, rule in plan.rules_by_number().items()} if plan else {},
        {one.ofport: str(one.pod) for one in pod_bindings},
        _port_names(bridge),
        _deniers(reconciler, pod_bindings),
        dict(switch.groups.actual() or ()) if switch is not None else {},
        dict(plan.groups.names) if plan else {},
    )


def flow_views(parts: FlowParts) -> Iterator[FlowView]:
    """The flows of one bridge by table, highest priority first; each is made when it is asked for, outside of the
    lock."""
    ours = [(_order(key), key, body) for key, body in parts.flows]
    foreign = [(_order(one.flow.key), one) for one in parts.foreign]
    ours.sort(key=itemgetter(0))
    foreign.sort(key=itemgetter(0))
    return map(
        itemgetter(1),
        heapq.merge(
            ((order, _view(parts, key, body)) for order, key, body in ours),
            ((order, _foreign_view(parts, one)) for order, one in foreign),
            key=itemgetter(0),
        ),
    )


def flow_views_of(reconciler: Reconciler, name: BridgeName, flows: Mapping[FlowKey, Body]) -> dict[FlowKey, FlowView]:
    """The views of some flows of one bridge, with counters as last dumped. Foreign flows have none, nor has anything
    on a bridge without a switch."""
    if reconciler.switch_of(name) is None:
        return {}
    ours = [(key, body) for key, body in flows.items() if read_cookie(body.cookie) is not None]
    parts = flow_parts(reconciler, name, ours)
    return {key: _view(parts, key, body) for key, body in ours}


def _order(key: FlowKey) -> tuple[int, int, bytes]:
    table, priority = KEY_PREFIX.unpack_from(key)
    return table, -priority, key[KEY_PREFIX.size :]


def _view(parts: FlowParts, key: FlowKey, body: Body) -> FlowView:
    wire = wire_flow(key, body)
    view = _flow_view(parts, wire, parts.counters.get(key, _NO_COUNTERS))
    return _with_groups(_isolated(view, parts.deniers), wire, parts.groups, parts.group_names)


def _port_names(bridge: BridgeState) -> dict[int, str]:
    return {one.ofport: one.name for one in bridge.interfaces if one.ofport is not None}


def _foreign_view(parts: FlowParts, found: ForeignFlow) -> FlowView:
    """A flow that Headgate did not make."""
    match, actions = describe_foreign(found.flow, parts.ports)
    return FlowView(
        node=parts.node,
        bridge=parts.bridge,
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


def _with_groups(view: FlowView, wire: WireFlow, groups: Mapping[int, GroupBody], names: Mapping[int, str]) -> FlowView:
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


def _describe_group(number: int, groups: Mapping[int, GroupBody], names: Mapping[int, str]) -> str:
    name = names.get(number, f"group {number}")
    body = groups.get(number)
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


def _flow_view(parts: FlowParts, wire: WireFlow, counters: FlowCounters) -> FlowView:
    kind, number = read_cookie(wire.cookie) or (CookieKind.PIPELINE, 0)
    try:
        flow = decode_flow(wire)
    except CodecError as error:
        match, actions = wire.match.hex(), wire.instructions.hex()
        concerned, owners = set[str](), list[RuleRef]()
        note = f"cannot be decoded: {error}"
    else:
        match = text.format_match(flow.match, parts.ports)
        actions = text.format_actions(flow.actions, flow.goto, TABLE_NAMES, parts.ports)
        concerned = set(_pods_of(flow, kind, number, parts.pods))
        owners = list(_owners_of(flow, kind, number, parts.owners))
        note = ""
    return FlowView(
        node=parts.node,
        bridge=parts.bridge,
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


def _owners_of(
    flow: Flow, kind: CookieKind, number: int, owners: Mapping[int, tuple[RuleRef, ...]]
) -> Iterator[RuleRef]:
    """The entries of policies behind the rule that a flow allows, or the rules that it is a clause of."""
    numbers: Iterable[int] = [number] if kind is CookieKind.RULE else []
    if kind is CookieKind.CLAUSE:
        numbers = [action.conj_id for action in flow.actions if isinstance(action, Conjunction)]
    for one in numbers:
        yield from owners.get(one, ())


def _pods_of(flow: Flow, kind: CookieKind, number: int, pods: Mapping[int, str]) -> Iterator[str]:
    """The pods whose port is in a flow's cookie or match."""
    if kind in _OF_PORTS and number in pods:
        yield pods[number]
    for term in flow.match:
        is_port = term.field is IN_PORT or (term.field in REGISTERS[:4] and term.mask == SOURCE_OFPORT.mask)
        if is_port and term.value in pods:
            yield pods[term.value]
