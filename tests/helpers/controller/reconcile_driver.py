"""Drives a Reconciler with switches that are values: they refuse what a real one refuses."""

from __future__ import annotations

from collections.abc import Iterable

from controller.reconcile.commands import (
    Command,
    DumpFlows,
    FlushConnections,
    ForgetOvsdb,
    ProbeNode,
    SendBundle,
    ServePeer,
    SetNetwork,
    WriteMarks,
)
from controller.reconcile.events import (
    BridgeChanged,
    BundleDone,
    BundleFailed,
    Event,
    FlowsDumped,
    FlushRefused,
    MarksWritten,
    OvsdbState,
    SwitchUp,
)
from controller.reconcile.reconciler import Reconciler
from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.bridge.state import BridgeState, InterfaceState
from flows.openflow.actions import ToGroup
from flows.openflow.group import NatTarget
from flows.pipeline.group_numbers import is_our_group
from flows.wire.actions import decode_instructions, may_use_group
from flows.wire.values import NO_GROUP_CHANGES, Body, FlowChanges, FlowKey, GroupBody, GroupChanges


class ValueSwitch:
    """The flows and groups of one switch; a bundle is applied wholly or not at all.

    `flushed` are the endpoints whose connections were flushed; with `no_flush` that is refused. `group_dumps` counts.
    """

    def __init__(self, dpid: int) -> None:
        self.dpid = dpid
        self.flows: dict[FlowKey, Body] = {}
        self.groups: dict[int, GroupBody] = {}
        self.flushed: list[NatTarget] = []
        self.no_flush = False
        self.group_dumps = 0
        self.bundles: list[FlowChanges] = []
        self.broken = ""

    def commit(self, changes: FlowChanges, groups: GroupChanges = NO_GROUP_CHANGES) -> str:
        """Apply a bundle; returns why it was refused, or nothing."""
        if self.broken:
            return self.broken
        staged, staged_groups = dict(self.flows), dict(self.groups)
        for number, body in groups.adds:
            if number in staged_groups:
                return "OFPET_GROUP_MOD_FAILED OFPGMFC_GROUP_EXISTS"
            staged_groups[number] = body
        for number, body in groups.modifies:
            if number not in staged_groups:
                return "OFPET_GROUP_MOD_FAILED OFPGMFC_UNKNOWN_GROUP"
            staged_groups[number] = body
        for flow in changes.deletes:
            if staged.pop(flow.key, None) is None:
                return "deletes a flow that is not there"
        for flow in changes.adds:
            if flow.key in staged:
                return "adds a flow that is there, and would reset its counters"
            staged[flow.key] = flow.body
        for flow in changes.modifies:
            if flow.key not in staged:
                return "modifies a flow that is not there"
            if staged[flow.key].cookie != flow.cookie:
                return "modifies a flow's cookie, which a switch leaves as it is"
            staged[flow.key] = flow.body
        if any(number not in staged_groups for body in staged.values() for number in groups_of(body)):
            return "OFPET_BAD_ACTION OFPBAC_BAD_OUT_GROUP"
        for number in groups.deletes:
            staged_groups.pop(number, None)
            staged = {key: body for key, body in staged.items() if number not in groups_of(body)}
        self.flows, self.groups = staged, staged_groups
        self.bundles.append(changes)
        return ""

    def answer(self, command: DumpFlows) -> FlowsDumped:
        """What a dump says."""
        known = command.expected
        found: dict[FlowKey, Body | None] = dict.fromkeys(known.keys() - self.flows.keys())
        found.update((key, body) for key, body in self.flows.items() if known.get(key) != body)
        return FlowsDumped(command.dpid, command.session, command.number, found, {}, 0, groups=self._groups(command))

    def _groups(self, command: DumpFlows) -> dict[int, GroupBody | None] | None:
        expected = command.groups
        if expected is None:
            return None
        self.group_dumps += 1
        found: dict[int, GroupBody | None] = dict.fromkeys(expected.keys() - self.groups.keys())
        ours = ((number, body) for number, body in self.groups.items() if is_our_group(number))
        found.update((number, body) for number, body in ours if expected.get(number) != body)
        return found

    def flush(self, command: FlushConnections) -> list[Event]:
        """Flush connections, or say that this switch cannot."""
        if self.no_flush:
            return [FlushRefused(command.dpid, command.session, "the switch cannot flush")]
        self.flushed += command.targets
        return []


def groups_of(body: Body) -> set[int]:
    """The groups that a flow sends to. Made-up instructions, which need not be any of Headgate's, send to none."""
    if not may_use_group(body.instructions):
        return set()
    actions, _ = decode_instructions(body.instructions)
    return {action.number for action in actions if isinstance(action, ToGroup)}


class Driver:
    """A reconciler with its switches and OVSDBs; commands are answered until nothing is left to do."""

    def __init__(
        self,
        ovsdbs: Iterable[str] = ("db",),
        more_may_come: bool = False,
        bridges: Iterable[str] = ("br-int",),
        network: NetworkOptions = FLAT_NETWORK,
    ) -> None:
        self.now = 0.0
        self.core = Reconciler(ovsdbs, self.now, more_may_come, bridges=bridges, network=network)
        self.switches: dict[int, ValueSwitch] = {}
        self.bridges: dict[str, BridgeState] = {}
        self.marks: list[dict[str, bool]] = []

    def send(self, *events: Event) -> list[Command]:
        """Hand over events and answer whatever comes of it. Returns all commands."""
        seen: list[Command] = []
        commands = self.core.handle(events, self.now)
        while commands:
            seen += commands
            answers = [answer for command in commands for answer in self._answer(command)]
            commands = self.core.handle(answers, self.now)
        self._check_due()
        return seen

    def _check_due(self) -> None:
        """The reconciler, which keeps when each switch is due, asks to be called no later than the first of them."""
        times = [at for switch in self.core.switches.values() if (at := switch.due_at()) is not None]
        if times:
            due = self.core.due(self.now)
            assert due is not None
            assert due <= max(0.0, min(times) - self.now)

    def sync(self, *ovsdbs: str) -> list[Command]:
        """OVSDBs that have been read."""
        return self.send(*(OvsdbState(name, True) for name in ovsdbs or ("db",)))

    def connect(self, dpid: int, session: int = 1) -> list[Command]:
        """A switch opens its OpenFlow session."""
        self.switches.setdefault(dpid, ValueSwitch(dpid))
        return self.send(SwitchUp(dpid, session))

    def bridge(self, bridge: BridgeState) -> list[Command]:
        """A bridge as its OVSDB has it now."""
        self.bridges[bridge.ovsdb] = bridge
        return self.send(BridgeChanged(bridge))

    def _answer(self, command: Command) -> list[Event]:
        if isinstance(command, DumpFlows):
            return [self.switches[command.dpid].answer(command)]
        if isinstance(command, SendBundle):
            refusal = self.switches[command.dpid].commit(command.changes, command.groups)
            if refusal:
                return [BundleFailed(command.dpid, command.session, command.number, refusal)]
            return [BundleDone(command.dpid, command.session, command.number)]
        if isinstance(command, ServePeer | ForgetOvsdb | ProbeNode | SetNetwork):
            return []
        if isinstance(command, FlushConnections):
            return self.switches[command.dpid].flush(command)
        assert isinstance(command, WriteMarks)
        self.marks.append(dict(command.interfaces))
        return [MarksWritten(command.ovsdb, command.interfaces)]


def port(name: str, ofport: int, pod: str = "", **ids: str) -> InterfaceState:
    """An Interface of a pod, `namespace/name`, with more external_ids as keywords."""
    return InterfaceState(f"uuid-{name}", name, ofport, "", {**({"iface-id": pod} if pod else {}), **ids})
