"""One switch's connection: os-ken's Datapath with threads, bounds and clocks of our own.

os-ken does the handshake through its own handlers. Its receive and send loops are replaced: they cannot end under the
native hub, decode flow dumps object by object, and let any peer wait for ever. What is asked of the switch stands in
`requests`. A peer gets its turn and no more: after some messages others run, and messages that nobody asked for are
read at a pace.
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

from os_ken import ofproto
from os_ken.controller import ofp_event
from os_ken.controller.controller import Datapath
from os_ken.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, HANDSHAKE_DISPATCHER, MAIN_DISPATCHER

from controller.config.addresses import canonical_address
from controller.openflow import messages, meter_messages
from controller.openflow.datapath_claims import PeerIdentity, peer_identity
from controller.openflow.flow_monitor import FlowMonitor
from controller.openflow.messages import OPENFLOW_HEADER, OPENFLOW_VERSION, MessageType, MultipartKind
from controller.openflow.node_probes import PROBE_XID, NodeProber
from controller.openflow.outbox import Outbox
from controller.openflow.requests import SwitchRequests
from controller.peers.fifo_lock import FifoLock
from controller.peers.limits import OpenFlowLimits
from controller.peers.memory_budget import MemoryBudget
from controller.peers.token_bucket import TokenBucket, message_cost
from controller.reconcile.events import Event, NodeAnswered
from controller.tls.peer_certificates import certificate_names
from controller.tls.tls_socket import TlsSocket
from flows.bridge.connection_peer import ConnectionPeer
from flows.cluster.net import Net
from flows.wire.errors import CodecError

_LOG = logging.getLogger(__name__)
_READ = 1 << 18
_LONGEST_HELLO = 1024
_MULTIPART = struct.Struct("!HH")
# The only messages that os-ken gets to see, by the state of the session.
_FOR_OS_KEN = {
    HANDSHAKE_DISPATCHER: {MessageType.HELLO},
    CONFIG_DISPATCHER: {MessageType.FEATURES_REPLY},
}
# xids of the echo request that must be answered, and of the flow monitor's; os-ken's own count from 1.
_CHALLENGE, _MONITOR = 0x7FFFFFFF, 0x7FFFFFFE
_BRIEF = 1.0  # seconds; a peer that connects again and again for no longer than that is no switch
_OF_METERS = frozenset(meter_messages.MeterMultipart)
_numbers = itertools.count(1)


class SharedResources(NamedTuple):
    """What all sessions share: the room for what they keep, and the turns of those that have much to say."""

    budget: MemoryBudget
    turns: FifoLock


class SwitchSession(Datapath):  # type: ignore[misc]
    """A connection to a switch from the first byte to the last. `number` is unique within the process.

    `serve` runs in a thread of its own until the connection is over; everything else may be called from any thread.
    """

    def __init__(
        self,
        connection: socket.socket | TlsSocket,
        address: object,
        post: Callable[[Event], None],
        limits: OpenFlowLimits,
        together: SharedResources,
        certificate: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`post` gets events, `certificate` is the name that TLS has proved.

        `on_alive` is called when the peer has answered a challenge.
        """
        self.number = next(_numbers)
        self.fault = ""
        self.counts_against_address = False
        self.messages_handled = 0  # messages
        self.identity: PeerIdentity = peer_identity(
            str(address[0] if isinstance(address, tuple) else address), certificate
        )
        self.on_alive: Callable[[SwitchSession], None] = lambda session: None
        self._limits = limits
        self._clock = clock
        self._post = post
        self._budget, self._turns = together
        self._outbox = Outbox(limits.unsent_bytes)
        self._requests: SwitchRequests | None = None
        self._monitor: FlowMonitor | None = None
        self._asker = NodeProber(self._outbox.put, self._found, clock, limits)
        self._reason = ""
        self._ending = threading.Lock()
        self._began = self._heard = self._asked = clock()
        self._pace = TokenBucket(limits.burst, limits.rate, self._began)
        self._light = TokenBucket(limits.turn, limits.unqueued_rate, self._began, debt=limits.turn)
        self._prove_by: float | None = None
        self._early_messages = self._early_bytes = 0
        super().__init__(connection, address)
        self.socket.settimeout(limits.tick)
        self.xid = 0  # os-ken counts up from here; our own requests have the upper half of the numbers

    @property
    def peer_address(self) -> str:
        """The other side as people write it."""
        host, port = self.address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    @property
    def connection_peer(self) -> ConnectionPeer:
        """Who the other side is, by its address and, in TLS, its certificate."""
        certificate = self.socket.certificate() if isinstance(self.socket, TlsSocket) else {}
        try:
            host = canonical_address(str(self.address[0]))
        except ValueError:
            host = ""  # no address of the network
        return ConnectionPeer(host, certificate_names(certificate))

    @property
    def requests(self) -> SwitchRequests:
        """What to ask the switch. Only there once the handshake is done."""
        if self._requests is None:
            raise RuntimeError(f"session {self.number} has no switch yet")
        return self._requests

    @property
    def is_negotiated(self) -> bool:
        """True as soon as the peer has said which switch it is."""
        return self._requests is not None

    # What os-ken calls.

    def set_state(self, state: str) -> None:
        """Go on in the handshake; os-ken tells the application."""
        if state == MAIN_DISPATCHER and self._requests is None:
            self._requests = SwitchRequests(
                self.id, self.number, self._outbox, self._post, self._clock, self._limits, self._budget
            )
            self._monitor = FlowMonitor(self.id, self.number, self._post, self._clock)
            self._outbox.put(messages.flow_monitor_request(_MONITOR))
        super().set_state(state)

    def send(self, buf: bytes, close_socket: bool = False) -> bool:
        """Queue a message. False when the session is over."""
        queued = self._outbox.put(bytes(buf))
        if close_socket:
            self._outbox.finish()
        return queued

    def close(self) -> None:
        """End the session from our side."""
        self.end("closed by the controller")

    # What we do.

    def end(self, reason: str, fault: bool = False) -> None:
        """End the session, for the first reason given; `fault` says that the peer is to blame. Returns at once; `serve`
        returns soon.
        """
        with self._ending:
            if self._reason:
                return
            self._reason = reason
            self.fault = reason if fault else ""
        self._outbox.close()
        self._shut()

    def refuse(self, reason: str) -> None:
        """End a session that is not to speak for its datapath id. That is no fault of the datapath's."""
        self.counts_against_address = True
        self.end(f"refused: {reason}")

    def ask_node(self, addresses: tuple[Net, ...]) -> None:
        """The node answered for these in an earlier session; ask it again soon."""
        self._asker.believe(addresses)

    def _found(self, addresses: tuple[Net, ...]) -> None:
        self._post(NodeAnswered(self.id, self.number, addresses))

    def challenge(self) -> None:
        """Ask for a sign of life. `on_alive` is called if it comes; if not, the session ends."""
        with self._ending:
            if self._prove_by is not None:
                return
            self._prove_by = self._clock() + self._limits.challenge
        self._outbox.put(messages.echo_request_message(_CHALLENGE))

    def _shut(self) -> None:
        with contextlib.suppress(OSError):  # it may be closed already
            self.socket.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Talk to the peer until the session is over. Never raises, whatever the peer sends."""
        sender = threading.Thread(target=self._send_loop, name=f"send-{self.number}", daemon=True)
        sender.start()
        try:
            self.send_msg(self.ofproto_parser.OFPHello(self))
            self._receive_loop()
        except OSError as error:
            self._ended(str(error) or type(error).__name__)
        except CodecError as error:
            self.end(str(error), fault=True)
        except Exception as error:  # noqa: BLE001 - os-ken's parsers raise anything for what a peer makes up
            self.end(f"the peer sent what cannot be read: {type(error).__name__}: {error}", fault=True)
        finally:
            self.end("the session is over")
            sender.join()
            self.socket.close()
            self.is_active = False
            if self.is_negotiated and not self.counts_against_address:
                _LOG.info("OpenFlow session %d with %s ended: %s", self.number, self.peer_address, self._reason)
            else:  # without numbers that vary: a repeated warning is one warning
                _LOG.warning("an OpenFlow connection of %s ended: %s", self.identity.address, self._reason)
            if self._requests is not None:
                self._requests.end(f"the session ended: {self._reason}")
            super().set_state(DEAD_DISPATCHER)

    def _send_loop(self) -> None:
        try:
            while (data := self._outbox.take()) is not None:
                self._send_all(data)
                time.sleep(0)  # other green threads shall run between two chunks of a bundle
        except OSError as error:
            self.end(f"sending failed: {error}", isinstance(error, TimeoutError))
        except Exception as error:  # noqa: BLE001 - a session must end when its sender does
            _LOG.exception("sending to %s failed", self.peer_address)
            self.end(f"sending failed: {type(error).__name__}: {error}")
        self.end("the handshake was refused")

    def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        began = self._clock()
        while view:
            try:
                sent = self.socket.send(view)
            except TimeoutError:
                sent = 0
            view = view[sent:]
            if view and (self._reason or self._clock() - began > self._limits.request_idle):
                raise TimeoutError(f"the switch did not take {len(data)} bytes within {self._limits.request_idle:g} s")

    def _receive_loop(self) -> None:
        buffer = bytearray()
        looked = self._clock()
        whole = False  # whether the buffer may still have a whole message
        while not self._reason:
            rest = self._pace.wait(self._clock())
            data = b""
            if rest > 0:
                time.sleep(min(rest, self._limits.tick))
            elif not whole:
                received = self._receive()
                if received == b"":
                    self._ended("the switch closed the connection")
                    return
                data = received or b""
            now = self._clock()
            if data:
                self._heard = now
                buffer += data
            if rest <= 0 and buffer:
                whole = self._turn(buffer, now)
            if not data or now - looked >= self._limits.tick:
                looked = now
                self._look_at_clocks(now)

    def _receive(self) -> bytes | None:
        """What came; None when nothing did for a while."""
        try:
            data: bytes = self.socket.recv(_READ)
        except TimeoutError:
            return None
        return data

    def _ended(self, reason: str) -> None:
        """The peer has ended the session, perhaps so soon that it is no switch, or one that cannot make up its mind."""
        self.counts_against_address = self._requests is None or self._clock() - self._began < _BRIEF
        self.end(reason)

    def _look_at_clocks(self, now: float) -> None:
        if self._requests is None:
            if now - self._began > self._limits.handshake:
                self.end(f"no OpenFlow handshake within {self._limits.handshake:g} s", fault=True)
            return
        if self._monitor is not None:
            self._monitor.flush()
        self._asker.look_at_clock()
        silent = now - self._heard
        if silent > self._limits.dead_after:
            self.end(f"the switch was silent for {silent:.0f} s")
        elif silent > self._limits.echo_after and now - self._asked > self._limits.echo_after:
            self._asked = now
            self._outbox.put(messages.echo_request_message(0))
        if self._prove_by is not None and now > self._prove_by:
            self.end(f"no sign of life within {self._limits.challenge:g} s, while another connection claims its place")
        overdue = self._requests.overdue(now)
        if overdue:
            self.end(overdue, fault=True)

    def _turn(self, buffer: bytearray, now: float) -> bool:
        """Take messages from the buffer when it is this session's turn. Whether there may be more."""
        self._outbox.wait_for_room()  # here, for in its turn a session must not wait
        with self._turns if self._light.wait(now) > 0 else contextlib.nullcontext():
            whole = self._consume(buffer)
            time.sleep(0)  # within the turn, so that other green threads run before the next session's
        return whole

    def _consume(self, buffer: bytearray) -> bool:
        """Take whole messages from the front of the buffer, as many as a turn has. Whether there may be more."""
        offset = spent = 0
        while len(buffer) - offset >= OPENFLOW_HEADER.size and not self._reason:
            version, kind, length, xid = OPENFLOW_HEADER.unpack_from(buffer, offset)
            self._check(version, kind, length)
            if len(buffer) - offset < length:
                break
            if spent >= self._limits.turn:
                del buffer[:offset]
                return True
            units = message_cost(length)
            self.messages_handled += 1
            spent += units
            self._light.spend(units)
            if self._requests is None:
                self._count_early(length)
            elif kind != MessageType.MULTIPART_REPLY or not self._requests.waits_for(xid):
                self._pace.spend(units)
            self._dispatch(version, kind, xid, bytes(buffer[offset : offset + length]))
            offset += length
        del buffer[:offset]
        return False

    def _count_early(self, length: int) -> None:
        self._early_messages += 1
        self._early_bytes += length
        if self._early_messages > self._limits.handshake_messages or self._early_bytes > self._limits.handshake_bytes:
            raise CodecError(f"{self._early_messages} messages before the OpenFlow handshake was done")

    def _check(self, version: int, kind: int, length: int) -> None:
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
                f"a message of OpenFlow version {version:#x} after version {OPENFLOW_VERSION:#x} was agreed on"
            )

    def _dispatch(self, version: int, kind: int, xid: int, message: bytes) -> None:
        if kind in _FOR_OS_KEN.get(self.state, ()):
            if kind == MessageType.HELLO:
                message = messages.clean_hello(message)
            self._to_os_ken(version, kind, xid, message)
        elif kind == MessageType.ECHO_REQUEST:
            self._outbox.put(messages.echo_reply_message(message))
        elif kind == MessageType.ECHO_REPLY:
            self._echoed(xid)
        elif kind == MessageType.ERROR:
            self._error(xid, message)
        elif kind == MessageType.BUNDLE_CONTROL and self._requests is not None:
            self._requests.bundle_reply(xid, message)
        elif kind == meter_messages.BARRIER_REPLY and self._requests is not None:
            self._requests.barrier_reply(xid)
        elif kind == MessageType.MULTIPART_REPLY:
            self._multipart(version, xid, message)
        elif kind == MessageType.PACKET_IN and self._requests is not None:
            with contextlib.suppress(CodecError):  # then nothing is asked, and nobody else notices
                self._asker.take(message)

    def _multipart(self, version: int, xid: int, message: bytes) -> None:
        if len(message) < OPENFLOW_HEADER.size + 8:
            raise CodecError("a multipart reply ends early")
        of, flags = _MULTIPART.unpack_from(message, OPENFLOW_HEADER.size)
        if of == MultipartKind.FLOW and self._requests is not None:
            self._requests.flow_reply(xid, message, bool(flags & messages.MULTIPART_MORE))
        elif of in _OF_METERS and self._requests is not None:
            self._requests.meter_reply(xid, of, message)
        elif of == MultipartKind.FLOW_MONITOR and self._monitor is not None:
            self._monitor.add(message)
        elif of == MultipartKind.PORT_DESC and self.state == CONFIG_DISPATCHER:
            # os-ken waits for the ports before it calls a switch connected. We need none of them, and its parser
            # never comes back from one of length zero.
            self._to_os_ken(version, MessageType.MULTIPART_REPLY, xid, message[: OPENFLOW_HEADER.size + 8])

    def _echoed(self, xid: int) -> None:
        if xid != _CHALLENGE or self._prove_by is None:
            return
        self._prove_by = None
        self.on_alive(self)

    def _error(self, xid: int, message: bytes) -> None:
        if self._requests is None:
            self.end(f"the switch refused the handshake: {messages.error_text(message)}", fault=True)
            return
        if xid == PROBE_XID:
            return  # then there is no answer
        if xid == _MONITOR:
            words = messages.error_text(message)
            _LOG.info("the switch at %s does not report changes of flows: %s", self.peer_address, words)
            return
        reason = self._requests.error(xid, message)
        if reason:
            self.end(reason, fault=True)

    def _to_os_ken(self, version: int, kind: int, xid: int, message: bytes) -> None:
        """Let os-ken parse a message and call its handlers for it, as its own receive loop would."""
        modules = ofproto.get_ofp_modules()
        _, parser = modules.get(version, modules[OPENFLOW_VERSION])  # a newer switch's hello reads like ours
        parsed = parser.msg_parser(self, version, kind, len(message), xid, message)
        event = ofp_event.ofp_msg_to_ev(parsed)
        for handler in list(self.ofp_brick.get_handlers(event, self.state)):
            handler(event)
