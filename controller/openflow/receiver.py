"""The receive loop of one session: it cuts the byte stream into messages, within the peer's share of the controller.

What a message means must not live here: `session` gets each whole message. Three mechanisms keep one switch from
slowing down the others:

- at most `turn` units are handled before other threads run;
- a session that exceeds `unqueued_rate` waits for the lock that all sessions share, in order of arrival;
- unsolicited messages beyond `burst` and `rate` stay unread, so TCP slows the peer down. A reply to a flow dump is
  solicited and costs nothing here; its bounds are those of the dump.

Example: a switch sends 100,000 packet-ins. 50,000 units are handled at once, in turns of 64 between which every other
session that waits has its own; then 1,000 a second, and the rest waits in the switch's socket.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from controller.openflow.messages import OPENFLOW_HEADER, MessageType
from controller.openflow.outbox import Outbox
from controller.openflow.switch_requests import SwitchRequests
from controller.peers.fifo_lock import FifoLock
from controller.peers.limits import OpenFlowLimits
from controller.peers.token_bucket import TokenBucket, message_cost
from controller.tls.tls_socket import TlsSocket
from flows.wire.errors import CodecError

_READ_BYTES = 1 << 18


class MessageHandler(NamedTuple):
    """What the session does with its messages. Each may raise CodecError for a breach of the protocol."""

    check_header: Callable[[int, int, int], None]  # version, type, length
    handle: Callable[[int, int, int, bytes], None]  # version, type, xid, the whole message
    check_timeouts: Callable[[float], None]  # the time
    connection_closed: Callable[[], None]


class Receiver:
    """Reads one connection in the thread that calls `run`.

    `requests` is set once the OpenFlow handshake is done. `heard_at` is the time of the last bytes, `messages_handled`
    the number of messages so far.
    """

    def __init__(
        self,
        connection: socket.socket | TlsSocket,
        outbox: Outbox,
        limits: OpenFlowLimits,
        clock: Callable[[], float],
        turns: FifoLock,
        handler: MessageHandler,
    ) -> None:
        self._socket = connection
        self._outbox = outbox
        self._limits = limits
        self._clock = clock
        self._turns = turns
        self._handler = handler
        self._stopped = False
        now = clock()
        self.requests: SwitchRequests | None = None
        self.heard_at = now
        self.messages_handled = 0
        self._unsolicited = TokenBucket(limits.burst, limits.rate, now)
        self._packets = TokenBucket(limits.packet_burst, limits.packet_rate, now)
        self._unqueued = TokenBucket(limits.turn, limits.unqueued_rate, now, debt=limits.turn)
        self._handshake_messages = self._handshake_bytes = 0

    def stop(self) -> None:
        """Make `run` return soon. May be called from any thread."""
        self._stopped = True

    def run(self) -> None:
        """Read until the connection ends or `stop`. Raises OSError, CodecError, and what os-ken's parsers raise."""
        buffer = bytearray()
        checked = self._clock()
        whole = False  # whether the buffer may still hold a whole message
        late = False  # the last wait for bytes took far longer than it should
        while not self._stopped:
            rest = max(self._unsolicited.wait(self._clock()), self._packets.wait(self._clock()))
            data = b""
            if rest > 0:
                time.sleep(min(rest, self._limits.tick))
            elif not whole:
                asked = self._clock()
                received = self._receive()
                late = not late and received is None and self._clock() - asked > 2 * self._limits.tick
                if late:
                    continue  # nobody looked meanwhile: bytes may be there, and the switch is not silent
                if received == b"":
                    self._handler.connection_closed()
                    return
                data = received or b""
            now = self._clock()
            if data:
                self.heard_at = now
                buffer += data
            if rest <= 0 and buffer:
                whole = self._turn(buffer, now)
            if not data or now - checked >= self._limits.tick:
                checked = now
                self._handler.check_timeouts(now)

    def _receive(self) -> bytes | None:
        """The next bytes, none at the end of the stream; None after the socket's timeout."""
        try:
            data: bytes = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            return None
        return data

    def _turn(self, buffer: bytearray, now: float) -> bool:
        """Handle messages of the buffer when it is this session's turn. Returns whether there may be more."""
        self._outbox.wait_for_room()  # before the turn, in which a session must not wait
        with self._turns if self._unqueued.wait(now) > 0 else contextlib.nullcontext():
            whole = self._consume(buffer)
            time.sleep(0)  # within the turn, so that other green threads run before the next session's turn
        return whole

    def _consume(self, buffer: bytearray) -> bool:
        """Handle whole messages at the front of the buffer, up to `turn` units. Returns whether there may be more."""
        offset = spent = 0
        while len(buffer) - offset >= OPENFLOW_HEADER.size and not self._stopped:
            version, kind, length, xid = OPENFLOW_HEADER.unpack_from(buffer, offset)
            self._handler.check_header(version, kind, length)
            if len(buffer) - offset < length:
                break
            if spent >= self._limits.turn:
                del buffer[:offset]
                return True
            units = message_cost(length)
            self.messages_handled += 1
            spent += units
            self._unqueued.spend(units)
            if self.requests is None:
                self._count_handshake(length)
            elif kind == MessageType.PACKET_IN:
                self._packets.spend(units)
            elif kind != MessageType.MULTIPART_REPLY or not self.requests.waits_for(xid):
                self._unsolicited.spend(units)
            self._handler.handle(version, kind, xid, bytes(buffer[offset : offset + length]))
            offset += length
        del buffer[:offset]
        return False

    def _count_handshake(self, length: int) -> None:
        """Raises CodecError for more messages or bytes than a handshake has."""
        limits = self._limits
        self._handshake_messages += 1
        self._handshake_bytes += length
        if self._handshake_messages > limits.handshake_messages or self._handshake_bytes > limits.handshake_bytes:
            raise CodecError(f"{self._handshake_messages} messages before the OpenFlow handshake was done")
