"""Passes the reconciler's commands to OpenFlow sessions and OVSDB connections.

Every command ends with an event: the session or connection posts its result; if it raises, the failure is posted here;
if there is no result, the reconciler times the command out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

import structlog

from controller.reconcile.commands import (
    Command,
    DumpFlows,
    FlushConnections,
    ForgetOvsdb,
    KeepListening,
    ProbeNode,
    ReleasePackets,
    RequestRole,
    SendBundle,
    ServePeer,
    SetNetwork,
    WriteTo,
)
from controller.reconcile.events import BundleFailed, DumpFailed, Event, MarksFailed
from controller.reconcile.meters import MeterChanges
from flows.bridge.connection_peer import ConnectionPeer
from flows.bridge.network import NodeNetwork
from flows.wire.values import FlowChanges, GroupChanges

# Commands that the reconciler does not wait for: without an answer, or asked again after a while.
_UNANSWERED = (
    ServePeer
    | ForgetOvsdb
    | ProbeNode
    | SetNetwork
    | FlushConnections
    | ReleasePackets
    | KeepListening
    | RequestRole
    | WriteTo
)

log = structlog.get_logger("headgate")


class OpenFlowCommands(Protocol):
    """The commands of OpenFlow: see `openflow.app`."""

    def dump(self, command: DumpFlows) -> None:
        """Request a dump of a switch's flows."""

    def serve_peer(self, dpid: int, peer: ConnectionPeer) -> None:
        """Let sessions of this connection peer replace those of others."""

    def send_bundle(
        self,
        dpid: int,
        session: int,
        number: int,
        changes: FlowChanges,
        about_meters: MeterChanges,
        about_groups: GroupChanges,
        independent: bool,
    ) -> None:
        """Send changes as one bundle; `independent`: each of its flows is right without the others."""

    def flush_connections(self, command: FlushConnections) -> None:
        """Have a switch delete connections from its conntrack."""

    def release_packets(self, command: ReleasePackets) -> None:
        """Let held packets go on."""

    def keep_listening(self, command: KeepListening) -> None:
        """Have a switch go on handing over packets of DNS."""

    def request_role(self, command: RequestRole) -> None:
        """Request a role of a switch."""

    def ask_node(self, command: ProbeNode) -> None:
        """Probe whether a switch's node has addresses."""


class OvsdbCommands(Protocol):
    """The commands of OVSDB: see `ovsdb.service`."""

    def forget(self, ovsdb: str) -> None:
        """Stop waiting for an OVSDB that is disconnected."""

    def write_marks(self, ovsdb: str, interfaces: Mapping[str, bool]) -> None:
        """Set or remove the mark `headgate-installed` of Interfaces."""

    def set_network(self, ovsdb: str, bridge: str, network: NodeNetwork | None) -> None:
        """Have a bridge's OVSDB keep these settings of the network."""

    def write_to(self, ovsdbs: frozenset[str] | None, primary: frozenset[str]) -> None:
        """Write to these OVSDBs only, None: to all; of those in `primary` the lock may be taken."""


class CommandRunner:
    """Carries out commands one by one; after one that fails, it goes on with the next."""

    def __init__(
        self,
        openflow: OpenFlowCommands,
        ovsdb: OvsdbCommands,
        post: Callable[[Event], None],
        switch_fields: Callable[[int], dict[str, str]],
    ) -> None:
        """`switch_fields` gives the fields by which log lines name a switch, from its datapath id."""
        self._openflow = openflow
        self._ovsdb = ovsdb
        self._post = post
        self._switch_fields = switch_fields

    def carry_out(self, command: Command) -> None:
        """Pass a command on. If that raises, post the event that its failure would have."""
        try:
            self._hand_over(command)
        except Exception as error:
            reason = f"it could not be sent: {type(error).__name__}: {error}"
            if isinstance(command, DumpFlows):
                self._post(DumpFailed(command.dpid, command.session, command.number, reason))
            elif isinstance(command, _UNANSWERED):
                pass  # the reconciler does not wait for it
            elif isinstance(command, SendBundle):
                self._post(BundleFailed(command.dpid, command.session, command.number, reason))
            else:
                self._post(MarksFailed(command.ovsdb, command.interfaces))
            with suppress(Exception):  # a log that cannot be written must not stop the next command
                log.exception("a command could not be carried out", kind=type(command).__name__)

    def _hand_over(self, command: Command) -> None:
        if isinstance(command, DumpFlows):
            self._openflow.dump(command)
        elif isinstance(command, SendBundle):
            self._log(command)
            self._openflow.send_bundle(
                command.dpid, command.session, command.number, command.all_changes, command.meters, command.groups,
                command.names_only,
            )  # fmt: skip
        elif isinstance(command, ServePeer):
            self._openflow.serve_peer(command.dpid, command.peer)
        elif isinstance(command, ForgetOvsdb):
            self._ovsdb.forget(command.ovsdb)
        elif isinstance(command, ProbeNode):
            self._openflow.ask_node(command)
        elif isinstance(command, SetNetwork):
            self._ovsdb.set_network(command.ovsdb, command.bridge, command.network)
        elif isinstance(command, FlushConnections):
            self._openflow.flush_connections(command)
        elif isinstance(command, ReleasePackets):
            self._openflow.release_packets(command)
        elif isinstance(command, KeepListening):
            self._openflow.keep_listening(command)
        elif isinstance(command, RequestRole):
            self._openflow.request_role(command)
        elif isinstance(command, WriteTo):
            self._ovsdb.write_to(command.ovsdbs, command.primary)
        else:
            self._ovsdb.write_marks(command.ovsdb, command.interfaces)

    def _log(self, command: SendBundle) -> None:
        """Say what a bundle changes; nothing of one that changes nothing for packets, nor of what pods learn, since
        they decide how often."""
        changes, groups = command.changes, sum(map(len, command.groups))
        if command.names_only or not (changes or groups or command.meters):
            return
        counts = {"add": len(changes.adds), "modify": len(changes.modifies), "delete": len(changes.deletes)}
        if groups:
            counts["groups"] = groups
        with suppress(Exception):
            log.info("changing flows", **self._switch_fields(command.dpid), **counts)
