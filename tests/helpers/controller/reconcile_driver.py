"""Drives a Reconciler with switches that are values: they refuse what a real one refuses."""

from __future__ import annotations

from collections.abc import Iterable

from controller.reconcile.commands import Command, DumpFlows, ForgetOvsdb, ProbeNode, SendBundle, ServePeer, WriteMarks
from controller.reconcile.events import (
    BridgeChanged,
    BundleDone,
    BundleFailed,
    Event,
    FlowsDumped,
    MarksWritten,
    OvsdbState,
    SwitchUp,
)
from controller.reconcile.reconciler import Reconciler
from flows.bridge.state import BridgeState, InterfaceState
from flows.wire.values import Body, FlowChanges, FlowKey


class ValueSwitch:
    """The flows of one switch; a bundle is applied wholly or not at all."""

    def __init__(self, dpid: int) -> None:
        self.dpid = dpid
        self.flows: dict[FlowKey, Body] = {}
        self.bundles: list[FlowChanges] = []
        self.broken = ""

    def commit(self, changes: FlowChanges) -> str:
        """Apply a bundle; returns why it was refused, or nothing."""
        if self.broken:
            return self.broken
        staged = dict(self.flows)
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
        self.flows = staged
        self.bundles.append(changes)
        return ""

    def answer(self, command: DumpFlows) -> FlowsDumped:
        """What a dump says."""
        known = command.expected
        found: dict[FlowKey, Body | None] = dict.fromkeys(known.keys() - self.flows.keys())
        found.update((key, body) for key, body in self.flows.items() if known.get(key) != body)
        return FlowsDumped(command.dpid, command.session, command.number, found, {}, 0)


class Driver:
    """A reconciler with its switches and OVSDBs; commands are answered until nothing is left to do."""

    def __init__(
        self, ovsdbs: Iterable[str] = ("db",), more_may_come: bool = False, bridges: Iterable[str] = ("br-int",)
    ) -> None:
        self.now = 0.0
        self.core = Reconciler(ovsdbs, self.now, more_may_come, bridges=bridges)
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
        return seen

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
            refusal = self.switches[command.dpid].commit(command.changes)
            if refusal:
                return [BundleFailed(command.dpid, command.session, command.number, refusal)]
            return [BundleDone(command.dpid, command.session, command.number)]
        if isinstance(command, ServePeer | ForgetOvsdb | ProbeNode):
            return []
        assert isinstance(command, WriteMarks)
        self.marks.append(dict(command.interfaces))
        return [MarksWritten(command.ovsdb, command.interfaces)]


def port(name: str, ofport: int, pod: str = "", **ids: str) -> InterfaceState:
    """An Interface of a pod, `namespace/name`, with more external_ids as keywords."""
    return InterfaceState(f"uuid-{name}", name, ofport, "", {**({"iface-id": pod} if pod else {}), **ids})
