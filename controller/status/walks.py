"""What the switches really do with a connection: its first packet, led through the flows that they have.

Under the lock only references are copied (`switch_parts`); the walk is made of them outside of it (`Switches`), and the
flows that it met are named afterwards (`describe_met`). Policy's answer is not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.reconcile.reconciler import Reconciler
from controller.status.flows import flow_views_of
from controller.status.model import FlowView
from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import Binding
from flows.explain.model import Hit, SwitchWalk
from flows.explain.walk import end_name
from flows.interpret.conntrack import Datapath, Tracker
from flows.interpret.flow_lookup import Refused
from flows.interpret.interpreter import Interpreter
from flows.interpret.journey import Journey, Site, travel
from flows.openflow.flow import Flow
from flows.openflow.group import Group
from flows.pipeline.tables import DENY, EGRESS_REFUSED, INGRESS_REFUSED, TABLE_NAMES
from flows.policy.probe import Endpoint, Probe
from flows.wire.codec import decode_flow, encode_flow
from flows.wire.errors import CodecError
from flows.wire.groups import decode_group
from flows.wire.text import format_actions, format_match
from flows.wire.values import Body, FlowKey, ForeignFlow, WireGroup, wire_flow

MAX_WALKED_FLOWS = 100_000  # of one bridge; each is decoded
REFUSED = frozenset({EGRESS_REFUSED.number, INGRESS_REFUSED.number})
TABLES = range(255)  # a flow may lead to a table that has none


@dataclass(frozen=True, slots=True)
class SwitchParts:
    """What a walk needs of one bridge. `flows` is None where the switch's flows are not known."""

    name: BridgeName
    node: str
    binding: Binding
    flows: list[tuple[FlowKey, Body]] | None
    foreign: tuple[ForeignFlow, ...]
    groups: tuple[WireGroup, ...]


class Unwalkable(Exception):
    """The flows of a bridge cannot be walked; the message says why."""


def bridges_of(reconciler: Reconciler, probes: Iterable[Probe]) -> list[BridgeName]:
    """The served bridges that the ends of these connections are on."""
    world = reconciler.world
    found: dict[BridgeName, None] = {}
    for probe in probes:
        for end in (probe.source, probe.destination):
            if end.pod is not None:
                found.update((name, None) for name, _ in world.ports_of(end.pod))
            elif end.node is not None:
                found.update((name, None) for name, bridge in world.bridges.items() if bridge.node == end.node)
    return [name for name in found if not world.refusal(name)]


def switch_parts(reconciler: Reconciler, name: BridgeName) -> SwitchParts:
    """Copy what a walk needs of a bridge; call it under the lock."""
    switch = reconciler.switch_of(name)
    flows = switch.actual_flows() if switch is not None and switch.session is not None else None
    groups = list(switch.groups.actual() or ()) if switch is not None else []
    return SwitchParts(
        name,
        reconciler.world.bridges[name].node,
        reconciler.world.binding(name).binding,
        None if flows is None else list(flows),
        tuple(switch.foreign_flows) if switch is not None else (),
        tuple(WireGroup(number, body) for number, body in groups),
    )


class Switches:
    """Bridges that connections are walked over. Building it decodes all their flows; call it outside of the lock.

    Raises Unwalkable.
    """

    def __init__(self, parts: Sequence[SwitchParts]) -> None:
        self.note = ""
        self._flows: dict[BridgeName, list[Flow]] = {}
        self._groups: dict[BridgeName, list[Group]] = {}
        self._parts = parts
        self._interpreters: dict[BridgeName, Interpreter] = {}
        for part in parts:
            self._flows[part.name], self._groups[part.name] = self._decoded(part)

    def _decoded(self, part: SwitchParts) -> tuple[list[Flow], list[Group]]:
        where = f"{part.name[1]} of {part.node or part.name[0]}"
        if part.flows is None:
            raise Unwalkable(f"the flows of {where} are not known: its switch is away")
        if len(part.flows) > MAX_WALKED_FLOWS:
            raise Unwalkable(f"{where} has {len(part.flows):,} flows; at most {MAX_WALKED_FLOWS:,} are walked")
        try:
            flows = [decode_flow(wire_flow(*one)) for one in part.flows]
            groups = [decode_group(one) for one in part.groups]
        except CodecError as error:
            raise Unwalkable(f"{where} has a flow that cannot be read: {error}") from None
        unread = 0
        for one in part.foreign:
            try:
                flows.append(decode_flow(one.flow))
            except CodecError:
                unread += 1
        if unread:
            self.note = f"{unread} foreign flows of {where} cannot be read and are not walked"
        return flows, groups

    def travel(self, probe: Probe) -> Journey:
        """The way of the first packet of a connection, as if no switch had seen it before. Raises Unwalkable."""
        try:
            return travel(self.sites(), probe)
        except Refused as error:
            raise Unwalkable(f"the flows cannot be walked: {error}") from None

    def sites(self) -> list[Site]:
        """The bridges as if they had seen no packet yet."""
        return [self._site(part) for part in self._parts]

    def _site(self, part: SwitchParts) -> Site:
        """The bridge as if it had seen no packet yet."""
        found = self._interpreters.get(part.name)
        datapath = Datapath.USERSPACE if part.binding.userspace else Datapath.KERNEL
        if found is None or found.learned:
            flows, groups = self._flows[part.name], self._groups[part.name]
            found = self._interpreters[part.name] = Interpreter(flows, datapath, tables=TABLES, groups=groups)
        found.tracker = Tracker(datapath)
        return Site(part.name, part.node, part.binding, found)


def met_flows(journey: Journey) -> dict[BridgeName, dict[FlowKey, Body]]:
    """The flows that a packet met, by bridge."""
    found: dict[BridgeName, dict[FlowKey, Body]] = {}
    for leg in journey.legs:
        for _, flow in leg.result.hits if leg.result is not None else ():
            if flow is not None:
                wire = encode_flow(flow)
                found.setdefault(leg.site.name, {})[wire.key] = wire.body
    return found


def describe_met(
    reconciler: Reconciler, met: Mapping[BridgeName, Mapping[FlowKey, Body]]
) -> dict[BridgeName, dict[FlowKey, FlowView]]:
    """The names and counters of flows; call it under the lock."""
    return {name: flow_views_of(reconciler, name, flows) for name, flows in met.items()}


def switch_walk(
    journey: Journey, allowed: bool, views: Mapping[BridgeName, Mapping[FlowKey, FlowView]], note: str
) -> SwitchWalk:
    """A journey as the answer to `headgate explain`; `allowed` is policy's answer."""
    hits = tuple(
        _hit(leg.site, table, flow, views.get(leg.site.name, {}))
        for leg in journey.legs
        for table, flow in (leg.result.hits if leg.result is not None else ())
    )
    arrived = tuple(map(_receiver, journey.arrived))
    return SwitchWalk(journey.delivered, journey.delivered == allowed, hits, arrived, _reason(journey, hits), note)


def _reason(journey: Journey, hits: Sequence[Hit]) -> str:
    """Why it is not delivered: what the interpreter says, the node, and what the flows are for that led to `deny`.

    What a rule of a tier denies goes on to the flow of the pod's isolation, which counts it; the rule is the reason.
    """
    if journey.delivered or not hits:
        return journey.reason
    what, _, more = journey.reason.partition("; ")
    where = f" on {hits[-1].node}" if hits[-1].node else ""
    why = _denied_by(hits)
    return f"{what}{where}{f': {why}' if why else ''}{f'; {more}' if more else ''}"


def _denied_by(hits: Sequence[Hit]) -> str:
    """What the flows before `deny` are for, or that a foreign flow took the packet; "" for anything else."""
    if hits[-1].kind == "foreign":
        return f"a foreign flow, {hits[-1].match or 'any'}"
    denied = next((n for n, one in enumerate(hits) if one.table == DENY.number), 0)
    led = hits[denied - 1] if denied else None
    if led is None or not led.kind.startswith("deny_"):
        return ""
    refused = next((n for n in range(denied, 0, -1) if hits[n].table in REFUSED and hits[n].node == led.node), 0)
    if refused and hits[refused - 1].rules:
        return f"denied by {', '.join(hits[refused - 1].rules)}"
    return f"{led.kind.removeprefix('deny_')} is isolated by {', '.join(led.policies)}" if led.policies else ""


def _receiver(end: Endpoint) -> str:
    return end_name(end) if end.pod is not None or end.node is not None else f"{end.address}, outside"


def _hit(site: Site, table: int, flow: Flow | None, views: Mapping[FlowKey, FlowView]) -> Hit:
    name = TABLE_NAMES.get(table, str(table))
    if flow is None:
        return Hit(site.node, site.name[1], table, name)
    view = views.get(encode_flow(flow).key)
    if view is None:
        match, actions = format_match(flow.match, {}), format_actions(flow.actions, flow.goto, TABLE_NAMES, {})
        return Hit(site.node, site.name[1], table, name, flow.priority, match, actions, kind="foreign")
    return Hit(
        view.node,
        view.bridge,
        table,
        name,
        view.priority,
        view.match,
        view.actions,
        view.kind,
        view.packets,
        view.rules,
        view.policies,
        view.pods,
        view.note,
    )
