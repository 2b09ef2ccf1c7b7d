"""One switch's OpenFlow session: os-ken's Datapath with threads, limits and timeouts of Headgate's own.

os-ken's receive and send loops are replaced by `receiver` and `sender`: os-ken's do not end under the native hub, build
an object for every flow of a dump, and let a peer wait for ever. Requests to the switch (flow dumps, bundles) must not
live here: see `switch_requests`. Which session serves a datapath id: see `datapath_claims`.

Theory of operation. A session has two threads, the one that calls `serve` (it reads) and the sender. It goes through
os-ken's states:

1. HANDSHAKE: hellos are exchanged. os-ken's handlers get the HELLO, with nothing but its version bitmaps left.
2. CONFIG: os-ken asks for features and ports and gets FEATURES_REPLY and an empty PORT_DESC.
3. MAIN (`set_state`): the datapath id is known. `SwitchRequests` and the flow monitor start; os-ken gets no further
   message. `HeadgateApp.state_changed` hands the session to `DatapathClaims`.
4. DEAD: `serve` has returned; requests under way have failed.

The first call of `end` gives the reason. It is called when the peer closes the connection, when a message breaks the
protocol (CodecError: the peer is at fault), after a timeout (`_check_timeouts`) or a refusal (`refuse`).

Example: a switch sends nothing for 5 s. `_check_timeouts` sends an echo request; after 15 s of silence it calls
`end("no message from the switch for 15 s")`, which closes the outbox and shuts the socket down. Both threads return,
`SwitchRequests.end` posts BundleFailed for a bundle under way, and DEAD makes `DatapathClaims` post SwitchDown.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from os_ken.controller.controller import Datapath
from os_ken.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, HANDSHAKE_DISPATCHER, MAIN_DISPATCHER

from controller.base.threads import PromptThread
from controller.config.addresses import canonical_address
from controller.openflow import group_messages, messages, meter_messages
from controller.openflow.audit_copies import is_audit_copy
from controller.openflow.audit_inbox import AuditInbox
from controller.openflow.datapath_claims import PeerIdentity, peer_identity
from controller.openflow.dns_packets import is_dns_packet, read_dns_packet
from controller.openflow.flow_monitor import FlowMonitor
from controller.openflow.live_copies import LiveCopies
from controller.openflow.messages import OPENFLOW_HEADER, OPENFLOW_VERSION, MessageType, MultipartKind
from controller.openflow.node_probes import NodeProber
from controller.openflow.os_ken_handlers import to_os_ken
from controller.openflow.outbox import Outbox
from controller.openflow.receiver import MessageHandler, Receiver
from controller.openflow.role_requests import RoleRequests
from controller.openflow.sender import Sender
from controller.openflow.switch_requests import SwitchRequests
from controller.openflow.xids import Xid
from controller.peers.fifo_lock import FifoLock
from controller.peers.limits import OpenFlowLimits
from controller.peers.memory_budget import MemoryBudget
from controller.reconcile.events import Event, FlushRefused, NodeAnswered
from controller.tls.peer_certificates import certificate_names
from controller.tls.tls_socket import TlsSocket
from flows.bridge.connection_peer import ConnectionPeer
from flows.cluster.net import Net
from flows.wire.errors import CodecError

_LOG = logging.getLogger(__name__)
_LONGEST_HELLO = 1024  # bytes
_MULTIPART = struct.Struct("!HH")
# The messages that os-ken gets, by the state of the session.
_FOR_OS_KEN = {
    HANDSHAKE_DISPATCHER: {MessageType.HELLO},
    CONFIG_DISPATCHER: {MessageType.FEATURES_REPLY},
}
# xids of a challenge's echo request, and of the flow monitor's request. os-ken's own xids count up from 1.
_BRIEF = 1.0  # seconds; a shorter session counts against its address
_DUMP_REPLIES = frozenset({*meter_messages.MeterMultipart, group_messages.GROUP_DESCRIPTIONS})
_numbers = itertools.count(1)


class SharedResources(NamedTuple):
    """What all sessions share: the memory for flow dumps, the lock for turns of busy sessions, the place for copies of
    audited packets, and the packet of `headgate explain --live` that is under way."""

    budget: MemoryBudget
    turns: FifoLock
    audit: AuditInbox
    live: LiveCopies


class SwitchSession(Datapath):  # type: ignore[misc]
    """A connection to a switch from the first byte to the last. `number` is unique within the process.

    `serve` runs in a thread of its own until the connection ends; everything else may be called from any thread.
    `fault` is the reason of the end if the peer is at fault, else empty. `counts_against_address`: the listener
    counts the end as a fault of the address.
    """

    def __init__(
        self,
        connection: socket.socket | TlsSocket,
        address: object,
        post: Callable[[Event], None],
        limits: OpenFlowLimits,
        shared: SharedResources,
        certificate: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`post` gets events; `certificate` is the authenticated name of the peer, empty without TLS.

        `on_alive` is called when the peer has answered a challenge.
        """
        self.number = next(_numbers)
        self.fault = ""
        self.counts_against_address = False
        self.identity: PeerIdentity = peer_identity(
            str(address[0] if isinstance(address, tuple) else address), certificate
        )
        self.on_alive: Callable[[SwitchSession], None] = lambda session: None
        self._limits = limits
        self._clock = clock
        self._post = post
        self._budget = shared.budget
        self._audit = shared.audit
        self._live = shared.live
        self._outbox = Outbox(limits.unsent_bytes)
        self._requests: SwitchRequests | None = None
        self._monitor: FlowMonitor | None = None
        self._roles: RoleRequests | None = None
        self._prober = NodeProber(self._outbox.put, self._post_node_addresses, clock, limits)
        self._reason = ""
        self._ending = threading.Lock()
        self._began = self._echo_sent_at = clock()
        self._echo_from: float | None = None  # when a switch that is silent was asked first
        self._challenge_deadline: float | None = None
        handler = MessageHandler(self._check_header, self._handle, self._check_timeouts, self._connection_closed)
        self._receiver = Receiver(connection, self._outbox, limits, clock, shared.turns, handler)
        self._sender = Sender(connection, self._outbox, limits, clock, self.end)
        super().__init__(connection, address)
        self.socket.settimeout(limits.tick)
        self.xid = 0  # os-ken's own xids count up from here; `SwitchRequests` uses the upper half of the numbers

    @property
    def peer_address(self) -> str:
        """The peer's address and port, as HOST:PORT."""
        host, port = self.address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    @property
    def connection_peer(self) -> ConnectionPeer:
        """The peer, by its address and, in TLS, the names in its certificate."""
        certificate = self.socket.certificate() if isinstance(self.socket, TlsSocket) else {}
        try:
            host = canonical_address(str(self.address[0]))
        except ValueError:
            host = ""  # a socket without an IP address
        return ConnectionPeer(host, certificate_names(certificate))

    @property
    def requests(self) -> SwitchRequests:
        """The requests to the switch. Raises RuntimeError before the handshake is done."""
        if self._requests is None:
            raise RuntimeError(f"session {self.number} has not finished its handshake")
        return self._requests

    @property
    def is_negotiated(self) -> bool:
        """Whether the handshake is done and the datapath id is known."""
        return self._requests is not None

    # Called by os-ken.

    def set_state(self, state: str) -> None:
        """The handshake goes on; os-ken calls the application's handler."""
        if state == MAIN_DISPATCHER and self._requests is None:
            self._requests = self._receiver.requests = SwitchRequests(
                self.id, self.number, self._outbox, self._post, self._clock, self._limits, self._budget
            )
            self._monitor = FlowMonitor(self.id, self.number, self._post, self._clock)
            self._roles = RoleRequests(self.id, self.number, self._outbox.put, self._post, self._set_primary)
            self._outbox.put(messages.flow_monitor_request(Xid.MONITOR))
        super().set_state(state)

    def send(self, buf: bytes, close_socket: bool = False) -> bool:
        """Queue a message. False when the session has ended."""
        queued = self._outbox.put(bytes(buf))
        if close_socket:
            self._outbox.finish()
        return queued

    def close(self) -> None:
        """End the session."""
        self.end("closed by the controller")

    # Called by the application.

    def end(self, reason: str, fault: bool = False) -> None:
        """End the session; only the first reason counts. `fault`: the peer broke the protocol. Returns at once, `serve`
        soon after.
        """
        with self._ending:
            if self._reason:
                return
            self._reason = reason
            self.fault = reason if fault else ""
        self._receiver.stop()
        self._outbox.close()
        self._shut_down()

    def refuse(self, reason: str) -> None:
        """End a session that may not serve its datapath id. The datapath id itself is not at fault."""
        self.counts_against_address = True
        self.end(f"refused: {reason}")

    def request_role(self, generation: int | None) -> None:
        """Ask for the role PRIMARY in a generation, or for SECONDARY (None)."""
        if self._roles is None:
            return
        if generation is None and self._monitor is not None and not self._monitor.paused:
            self._set_primary(False)
        self._roles.request(generation)

    def _set_primary(self, primary: bool) -> None:
        """Only the primary is told of changes to flows: what others change concerns nobody else."""
        if self._monitor is not None:
            self._monitor.pause(not primary)
        request = messages.flow_monitor_request if primary else messages.end_flow_monitor_request
        self._outbox.put(request(Xid.MONITOR))

    def probe_node(self, addresses: tuple[Net, ...]) -> None:
        """Probe the node soon for addresses that it confirmed in an earlier session."""
        self._prober.recheck(addresses)

    def _post_node_addresses(self, addresses: tuple[Net, ...]) -> None:
        self._post(NodeAnswered(self.id, self.number, addresses))

    def challenge(self) -> None:
        """Send an echo request that the peer must answer, or the session ends. The answer calls `on_alive`."""
        with self._ending:
            if self._challenge_deadline is not None:
                return
            self._challenge_deadline = self._clock() + self._limits.challenge
        self._outbox.put(messages.echo_request_message(Xid.CHALLENGE))

    def _shut_down(self) -> None:
        with contextlib.suppress(OSError):  # it may be closed already
            self.socket.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Serve the connection until it ends. Raises nothing, whatever the peer sends."""
        sender = PromptThread(self._sender.run, f"send-{self.number}")
        sender.start()
        try:
            self.send_msg(self.ofproto_parser.OFPHello(self))
            self._receiver.run()
        except OSError as error:
            self._ended_by_peer(str(error) or type(error).__name__)
        except CodecError as error:
            self.end(str(error), fault=True)
        except Exception as error:  # noqa: BLE001 - os-ken's parsers raise any exception for malformed messages
            self.end(f"the peer sent a malformed message: {type(error).__name__}: {error}", fault=True)
        finally:
            self.end("the session has ended")
            sender.join()
            self.socket.close()
            self.is_active = False
            if self.is_negotiated and not self.counts_against_address:
                _LOG.info("OpenFlow session %d with %s ended: %s", self.number, self.peer_address, self._reason)
            else:  # without numbers that vary, so that the log can collapse repeated warnings
                _LOG.warning("an OpenFlow connection of %s ended: %s", self.identity.address, self._reason)
            if self._requests is not None:
                self._requests.end(f"the session ended: {self._reason}")
            super().set_state(DEAD_DISPATCHER)

    def _ended_by_peer(self, reason: str) -> None:
        """The peer has ended the session. A session without a handshake, or a brief one, counts against its address."""
        self.counts_against_address = self._requests is None or self._clock() - self._began < _BRIEF
        self.end(reason)

    def _connection_closed(self) -> None:
        self._ended_by_peer("the switch closed the connection")

    @property
    def messages_handled(self) -> int:
        """The number of messages handled so far."""
        return self._receiver.messages_handled

    def _check_timeouts(self, now: float) -> None:
        if self._requests is None:
            if now - self._began > self._limits.handshake:
                self.end(f"no OpenFlow handshake within {self._limits.handshake:g} s", fault=True)
            return
        if self._monitor is not None:
            self._monitor.flush()
        self._prober.check_timeouts()
        self._check_silence(now)
        if self._challenge_deadline is not None and now > self._challenge_deadline:
            seconds = f"{self._limits.challenge:g} s"
            self.end(f"no echo reply within {seconds}, while another connection claims its datapath id")
        overdue = self._requests.overdue(now)
        if overdue:
            self.end(overdue, fault=True)

    def _check_silence(self, now: float) -> None:
        """Ask a silent switch, and end the session of one that was asked in time: this process may have had no CPU."""
        limits, silent = self._limits, now - self._receiver.heard_at
        if silent <= limits.echo_after:
            self._echo_from = None
        elif self._echo_from is not None and silent > limits.dead_after and now - self._echo_from > limits.challenge:
            self.end(f"no message from the switch for {silent:.0f} s")
        elif self._echo_from is None or now - self._echo_sent_at > limits.echo_after:
            self._echo_sent_at = now
            self._echo_from = now if self._echo_from is None else self._echo_from
            self._outbox.put(messages.echo_request_message(0))

    def _check_header(self, version: int, kind: int, length: int) -> None:
        if length < OPENFLOW_HEADER.size:
            raise CodecError(f"a message of {length} bytes")
        if self.state == HANDSHAKE_DISPATCHER:
            if (
                kind not in (MessageType.HELLO, MessageType.ERROR)
                or not 1 <= version <= 0x7F
                or length > _LONGEST_HELLO
            ):
                raise CodecError("the peer does not speak OpenFlow")
        elif version != OPENFLOW_VERSION:
            raise CodecError(
                f"a message of OpenFlow version {version:#x} after version {OPENFLOW_VERSION:#x} was negotiated"
            )

    def _handle(self, version: int, kind: int, xid: int, message: bytes) -> None:
        if kind == MessageType.PACKET_IN and self._requests is not None:  # the most, by far
            self._packet_in(message)
        elif kind in _FOR_OS_KEN.get(self.state, ()):
            if kind == MessageType.HELLO:
                message = messages.clean_hello(message)
            to_os_ken(self, version, kind, xid, message)
        elif kind == MessageType.ECHO_REQUEST:
            self._outbox.put(messages.echo_reply_message(message))
        elif kind == MessageType.ECHO_REPLY:
            self._echo_reply(xid)
        elif kind == MessageType.ERROR:
            self._error(xid, message)
        elif kind == MessageType.BUNDLE_CONTROL and self._requests is not None:
            self._requests.bundle_reply(xid, message)
        elif kind == meter_messages.BARRIER_REPLY and self._requests is not None:
            self._requests.barrier_reply(xid)
        elif kind == MessageType.MULTIPART_REPLY:
            self._multipart(version, xid, message)
        elif kind == MessageType.ROLE_REPLY and self._roles is not None:
            self._roles.reply(xid, message)
        elif kind == MessageType.ROLE_STATUS and self._roles is not None:
            self._roles.status(message)

    def _packet_in(self, message: bytes) -> None:
        if is_audit_copy(message):
            self._audit.put(self.id, message)
            return
        with contextlib.suppress(CodecError):  # a malformed packet-in is ignored
            if is_dns_packet(message):
                self._post(read_dns_packet(message, self.id, self.number))
            elif not self._live.packet_in(self.id, self.number, message):
                self._prober.packet_in(message)

    def _multipart(self, version: int, xid: int, message: bytes) -> None:
        if len(message) < OPENFLOW_HEADER.size + 8:
            raise CodecError("a multipart reply is truncated")
        kind, flags = _MULTIPART.unpack_from(message, OPENFLOW_HEADER.size)
        if kind == MultipartKind.FLOW and self._requests is not None:
            self._requests.flow_reply(xid, message, bool(flags & messages.MULTIPART_MORE))
        elif kind in _DUMP_REPLIES and self._requests is not None:
            self._requests.group_or_meter_reply(xid, kind, message)
        elif kind == MultipartKind.FLOW_MONITOR and self._monitor is not None:
            self._monitor.add(message)
        elif kind == MultipartKind.PORT_DESC and self.state == CONFIG_DISPATCHER:
            # os-ken waits for the ports before it enters MAIN. Headgate needs none of them, and os-ken's parser loops
            # for ever at a port of length zero.
            to_os_ken(self, version, MessageType.MULTIPART_REPLY, xid, message[: OPENFLOW_HEADER.size + 8])

    def _echo_reply(self, xid: int) -> None:
        if xid != Xid.CHALLENGE or self._challenge_deadline is None:
            return
        self._challenge_deadline = None
        self.on_alive(self)

    def _error(self, xid: int, message: bytes) -> None:
        if self._requests is None:
            self.end(f"the switch refused the handshake: {messages.error_text(message)}", fault=True)
            return
        if self._roles is not None and self._roles.error(xid, message):
            return
        if xid in (Xid.PROBE, Xid.DNS):
            return  # the node will not answer either; a pod asks again
        if xid == Xid.LIVE:
            self._live.refused(self.id, self.number, messages.error_text(message))
            return
        if xid == Xid.FLUSH:
            words = f"the switch does not flush connections as Open vSwitch 3.1 does ({messages.error_text(message)})"
            self._post(FlushRefused(self.id, self.number, words))
            return
        if xid == Xid.MONITOR:
            words = messages.error_text(message)
            _LOG.info("the switch at %s does not report flow changes: %s", self.peer_address, words)
            return
        reason = self._requests.error(xid, message)
        if reason:
            self.end(reason, fault=True)
