"""The os-ken application: it opens the listeners, routes commands to sessions, and posts events.

os-ken's own handler does the handshake. Messages are read and written in `session` and `switch_requests`;
`datapath_claims` decides which session serves a datapath id. `OSKEN_HUB_TYPE` must be set before this module is
imported (see `controller.base.hub`). os-ken's event loop runs in a thread of the application, and no exception of a
handler reaches it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from os_ken.base.app_manager import AppManager, OSKenApp
from os_ken.controller import ofp_event
from os_ken.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.controller.ofp_handler import OFPHandler
from os_ken.lib.dpid import dpid_to_str
from os_ken.ofproto import ofproto_v1_4

from controller.base.hub import log_exceptions, run_until
from controller.base.threads import watched
from controller.config.addresses import HostPort
from controller.openflow.audit_inbox import AuditInbox
from controller.openflow.datapath_claims import ClaimProblem, DatapathClaims, peer_identity
from controller.openflow.dns_packets import listening_message, release_message
from controller.openflow.flush_messages import flush_message
from controller.openflow.listener import OpenFlowListener
from controller.openflow.live_copies import LiveCopies
from controller.openflow.session import SharedResources, SwitchSession
from controller.peers.fifo_lock import FifoLock
from controller.peers.limits import ConnectionLimits, OpenFlowLimits
from controller.peers.memory_budget import MemoryBudget
from controller.reconcile.commands import (
    DumpFlows,
    FlushConnections,
    KeepListening,
    ProbeNode,
    ReleasePackets,
    RequestRole,
)
from controller.reconcile.events import BundleFailed, Event
from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges
from controller.tls.credentials import Credentials
from controller.tls.peer_certificates import allowed_name
from controller.tls.tls_socket import TlsSocket
from flows.bridge.connection_peer import ConnectionPeer
from flows.wire.values import NO_GROUP_CHANGES, FlowChanges, GroupChanges

_LOG = logging.getLogger(__name__)
_CLOSE_SECONDS = 1.5
_INCOMPATIBLE = "OpenFlow 1.4 is needed; set protocols=OpenFlow14 on the bridge"


class Handshake(OFPHandler):  # type: ignore[misc]
    """os-ken's handshake without its listener and threads, and with a refusal that tells the operator what to set."""

    def start(self) -> None:
        """Start no thread: sessions call the handlers in their own."""

    def _hello_failed(self, datapath: SwitchSession, error_desc: str) -> None:
        _LOG.warning("refused the switch at %s: %s (%s)", datapath.peer_address, _INCOMPATIBLE, error_desc)
        refusal = datapath.ofproto_parser.OFPErrorMsg(
            datapath=datapath,
            type_=ofproto_v1_4.OFPET_HELLO_FAILED,
            code=ofproto_v1_4.OFPHFC_INCOMPATIBLE,
            data=_INCOMPATIBLE.encode(),
        )
        datapath.send_msg(refusal, close_socket=True)


@dataclass(frozen=True, slots=True)
class OpenFlowSetup:
    """What `open_app` takes: limits, TLS credentials, and a callback for each refusal, called with its kind."""

    limits: OpenFlowLimits = field(default_factory=OpenFlowLimits)
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    tls: Credentials | None = None
    refused: Callable[[str], None] = lambda kind: None


class HeadgateApp(OSKenApp):  # type: ignore[misc]
    """All OpenFlow sessions of the controller. Make it with `open_app`.

    `post` takes events from many threads. The commands may be called from any thread and never wait for a switch.
    """

    OFP_VERSIONS: ClassVar[list[int]] = [ofproto_v1_4.OFP_VERSION]
    LOGGER_NAME = __name__

    def __init__(self, post: Callable[[Event], None], listen: Sequence[HostPort], setup: OpenFlowSetup) -> None:
        super().__init__()
        self._post = post
        self._limits = setup.limits
        self._tls = setup.tls
        self._closed = threading.Event()
        self.claims = DatapathClaims(post, setup.limits, setup.refused)
        self.audit_inbox = AuditInbox()
        self.live = LiveCopies()
        budget = MemoryBudget(setup.limits.dump_share, setup.limits.dumps_pot)
        self._shared = SharedResources(budget, FifoLock(), self.audit_inbox, self.live)
        self.listeners: list[OpenFlowListener] = []
        try:
            for where in listen:
                made = OpenFlowListener(where, self._make, setup.limits, setup.connections, setup.tls, setup.refused)
                self.listeners.append(made)
        except BaseException:
            self._close_listeners()
            raise
        self._threads = [
            watched("openflow events", run_until(self._closed, self._event_loop)),
            *(watched(f"openflow listener {one.address}", one.run) for one in self.listeners),
        ]

    @property
    def addresses(self) -> tuple[HostPort, ...]:
        """The addresses that switches can connect to, with the ports that were bound."""
        return tuple(listener.address for listener in self.listeners)

    def connected(self) -> dict[int, int]:
        """Connected switches: datapath id to session number."""
        return self.claims.sessions()

    def session_of(self, dpid: int) -> int:
        """The session number of a switch, 0 without a session."""
        found = self.claims.find(dpid)
        return found.number if found is not None else 0

    def claim_problems(self) -> list[ClaimProblem]:
        """Problems of contested datapath ids, and of switches that were dropped for a fault."""
        return self.claims.problems()

    def serve_peer(self, dpid: int, peer: ConnectionPeer) -> None:
        """Assign a datapath id to a peer: its session replaces any other."""
        allowed = self._tls.allowed if self._tls is not None else ()
        self.claims.assign(dpid, peer_identity(peer.host, allowed_name(peer.names, allowed)))

    def start(self) -> None:
        """Accept switches."""
        for thread in self._threads:
            thread.start()
        for listener in self.listeners:
            listener.announce()

    def stop(self) -> None:
        """End the event loop. Called by os-ken, whose own method would wait with its hub."""
        self.is_active = False
        self._closed.set()
        self._send_event(self._event_stop, None)

    def _make(self, channel: socket.socket | TlsSocket, address: object, certificate: str) -> SwitchSession:
        session = SwitchSession(channel, address, self._post, self._limits, self._shared, certificate)
        session.on_alive = self.claims.challenge_answered
        return session

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    @log_exceptions
    def state_changed(self, event: ofp_event.EventOFPStateChange) -> None:
        """A session finished its handshake, or ended."""
        session: SwitchSession = event.datapath
        if event.state == MAIN_DISPATCHER:
            for listener in self.listeners:
                if listener.mark_proven(session):
                    break
            self.claims.session_up(session)
            if not session.counts_against_address:
                _LOG.info(
                    "OpenFlow session %d: switch %s at %s",
                    session.number,
                    dpid_to_str(session.id),
                    session.peer_address,
                )
        else:
            self.claims.session_down(session)

    def dump(self, command: DumpFlows) -> None:
        """Request all flows of a switch. The answer is FlowsDumped; if the session ends first, SwitchDown."""
        found = self._find(command.dpid, command.session)
        if found is not None:
            found.requests.dump(command)

    def send_bundle(
        self,
        dpid: int,
        session: int,
        number: int,
        changes: FlowChanges,
        meter_changes: MeterChanges = NO_METER_CHANGES,
        groups: GroupChanges = NO_GROUP_CHANGES,
        independent: bool = False,
    ) -> None:
        """Send changes as one atomic bundle. The answer is BundleDone or BundleFailed.

        `independent`: each of its flows is right without the others.
        """
        found = self._find(dpid, session)
        if found is None:
            self._post(BundleFailed(dpid, session, number, "the session has ended"))
        else:
            found.requests.send_bundle(number, changes, meter_changes, groups, independent)

    def request_role(self, command: RequestRole) -> None:
        """Request a role of a switch. RoleChanged or RoleRefused follows."""
        found = self._find(command.dpid, command.session)
        if found is not None:
            found.request_role(command.generation)

    def ask_node(self, command: ProbeNode) -> None:
        """Probe a switch's node for these addresses. NodeAnswered reports those that it does not confirm."""
        found = self._find(command.dpid, command.session)
        if found is not None:
            found.probe_node(command.addresses)

    def release_packets(self, command: ReleasePackets) -> None:
        """Let packets that a switch handed over go on."""
        found = self._find(command.dpid, command.session)
        if found is not None:
            found.send(b"".join(map(release_message, command.packets)))

    def keep_listening(self, command: KeepListening) -> None:
        """Renew the flow by which a switch hands over packets of DNS."""
        found = self._find(command.dpid, command.session)
        if found is not None:
            found.send(listening_message())

    def flush_connections(self, command: FlushConnections) -> None:
        """Have a switch flush connections. FlushRefused follows if it cannot."""
        found = self._find(command.dpid, command.session)
        if found is not None:
            found.send(b"".join(map(flush_message, command.targets)))

    def send_packet(self, dpid: int, session: int, message: bytes) -> bool:
        """Send a packet-out to a switch. False where this session has ended."""
        found = self._find(dpid, session)
        return found is not None and found.send(message)

    def _find(self, dpid: int, session: int) -> SwitchSession | None:
        found = self.claims.find(dpid)
        return found if isinstance(found, SwitchSession) and found.number == session else None

    def close(self) -> None:
        """End all sessions and threads within two seconds. The switches keep their flows. May be called again."""
        if self._closed.is_set():
            return
        deadline = time.monotonic() + _CLOSE_SECONDS
        for thread in self._threads:
            thread.release()
        self._close_listeners()
        for listener in self.listeners:
            listener.join(deadline)
        manager = AppManager.get_instance()
        for name in (self.name, ofp_event.NAME):
            if name in manager.applications:
                manager.uninstantiate(name)
        self._closed.set()
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.close()


def open_app(
    post: Callable[[Event], None], listen: Sequence[HostPort], setup: OpenFlowSetup | None = None
) -> HeadgateApp:
    """Start a HeadgateApp that listens at the given addresses, with TLS if there are credentials. Port 0 lets the
    system choose.

    A process can have one at a time, because os-ken keeps its applications in a global table. Raises StartError.
    """
    manager = AppManager.get_instance()
    app = manager.instantiate(HeadgateApp, post, listen, setup or OpenFlowSetup())
    manager.instantiate(Handshake)
    app.start()
    return app  # type: ignore[no-any-return]
