"""The sending thread of one session: bytes from the outbox to the socket. What the bytes mean must not live here."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

from controller.openflow.outbox import Outbox
from controller.peers.limits import OpenFlowLimits
from controller.tls.tls_socket import TlsSocket

_LOG = logging.getLogger(__name__)


class Sender:
    """Sends what `outbox` holds until that is closed. `end(reason, fault)` ends the session."""

    def __init__(
        self,
        connection: socket.socket | TlsSocket,
        outbox: Outbox,
        limits: OpenFlowLimits,
        clock: Callable[[], float],
        end: Callable[[str, bool], None],
    ) -> None:
        self._socket = connection
        self._outbox = outbox
        self._limits = limits
        self._clock = clock
        self._end = end

    def run(self) -> None:
        """The thread's main function. Raises nothing."""
        try:
            while (data := self._outbox.take()) is not None:
                self._send_all(data)
                time.sleep(0)  # lets other green threads run between two chunks of a bundle
        except OSError as error:
            self._end(f"sending failed: {error}", isinstance(error, TimeoutError))
        except Exception as error:  # noqa: BLE001 - a session must end when its sender does
            _LOG.exception("sending failed")
            self._end(f"sending failed: {type(error).__name__}: {error}", False)
        self._end("the handshake was refused", False)  # the one reason to finish an outbox that is not closed

    def _send_all(self, data: bytes) -> None:
        """Raises TimeoutError when the switch takes longer than `request_idle`, or the session has ended."""
        view = memoryview(data)
        began = self._clock()
        while view:
            try:
                sent = self._socket.send(view)
            except TimeoutError:
                sent = 0
            view = view[sent:]
            if view and (self._outbox.is_closed or self._clock() - began > self._limits.request_idle):
                raise TimeoutError(f"the switch did not read {len(data)} bytes within {self._limits.request_idle:g} s")
