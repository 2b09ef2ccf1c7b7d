"""A plain OpenFlow 1.4 client for tests: installs flows in a bundle and dumps them, on a bridge's management socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from controller.openflow import messages
from controller.openflow.messages import OPENFLOW_HEADER, BundleControl, MessageType
from flows.wire.dump import FlowDump
from flows.wire.values import FlowChanges

SET_CONFIG = struct.Struct("!BBHIHH")  # header, flags, miss_send_len (OpenFlow 1.4.1 section 7.3.2)


class Client:
    """One connection to a bridge; `target` is `unix:PATH`."""

    def __init__(self, target: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(target.removeprefix("unix:"))
        self._socket.sendall(
            OPENFLOW_HEADER.pack(messages.OPENFLOW_VERSION, MessageType.HELLO, OPENFLOW_HEADER.size, 1)
        )
        self._receive()

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            assert more, "the switch closed the connection"
            data += more
        return data

    def _receive(self) -> tuple[int, int, bytes]:
        header = self._exactly(OPENFLOW_HEADER.size)
        _, kind, length, xid = OPENFLOW_HEADER.unpack(header)
        return kind, xid, header + self._exactly(length - OPENFLOW_HEADER.size)

    def commit(self, changes: FlowChanges) -> list[str]:
        """Send a bundle and return the switch's errors, none when it is in force."""
        self._socket.sendall(messages.bundle_control(BundleControl.OPEN_REQUEST, 1, 1))
        for chunk in messages.flow_mod_chunks(changes, 1, 10):
            self._socket.sendall(chunk)
        self._socket.sendall(messages.bundle_control(BundleControl.CLOSE_REQUEST, 1, 2))
        errors = self._wait(2, changes)
        last = BundleControl.DISCARD_REQUEST if errors else BundleControl.COMMIT_REQUEST
        self._socket.sendall(messages.bundle_control(last, 1, 3))
        return errors + self._wait(3, changes)

    def ask_for_copies(self, length: int = 128) -> None:
        """Have the switch send packet-ins, which a management socket does not get by itself."""
        self._socket.sendall(SET_CONFIG.pack(messages.OPENFLOW_VERSION, 9, SET_CONFIG.size, 4, 0, length))

    def send(self, message: bytes) -> None:
        """Send a message as it is."""
        self._socket.sendall(message)

    def packet_in(self, seconds: float) -> bytes | None:
        """The next packet-in, None where none comes within so many seconds."""
        self._socket.settimeout(seconds)
        try:
            while True:
                kind, _, message = self._receive()
                assert kind != MessageType.ERROR, messages.error_text(message)
                if kind == MessageType.PACKET_IN:
                    return message
        except TimeoutError:
            return None
        finally:
            self._socket.settimeout(60)

    def _wait(self, xid: int, changes: FlowChanges) -> list[str]:
        errors = []
        while True:
            kind, number, message = self._receive()
            if kind == MessageType.ERROR:
                change = messages.flow_mod_at(changes, number - 10)
                errors.append(f"{messages.error_text(message)}: {change and messages.describe_flow_mod(change)}")
            if number == xid:
                return errors

    def dump(self) -> FlowDump:
        """All flows."""
        self._socket.sendall(messages.flow_stats_request(7))
        found = FlowDump()
        while True:
            kind, xid, message = self._receive()
            if kind == MessageType.MULTIPART_REPLY and xid == 7:
                found.add(message)
                if not int.from_bytes(message[10:12], "big") & messages.MULTIPART_MORE:
                    return found


@contextmanager
def client(target: str) -> Iterator[Client]:
    """A Client that ends with the block."""
    one = Client(target)
    try:
        yield one
    finally:
        one.close()
