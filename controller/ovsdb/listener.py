"""Where switches that did `ovs-vsctl set-manager` knock: accepts and hands on sockets. It knows nothing of OVSDB."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import ovs.poller
import structlog

from controller.ovsdb.remotes import plain_address, stream_name
from controller.ovsdb.waiter import Waiter

log = structlog.get_logger(__name__)
PAUSE = 1.0  # seconds to wait when the process has no descriptors left


class Listener:
    """Listens at (host, port), port 0 for a free one, and calls `accepted(socket, peer)` in its own thread.

    The socket is bound by the constructor, which raises OSError if that can't be. `::` takes IPv4 as well. `method`,
    tcp or ssl, is how peers are named; what is spoken is for `accepted` to say.
    """

    def __init__(
        self, address: tuple[str, int], accepted: Callable[[socket.socket, str], None], method: str = "tcp"
    ) -> None:
        self._method = method
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        dual = address[0] == "::" and socket.has_dualstack_ipv6()
        self._socket = socket.create_server(address, family=family, backlog=256, dualstack_ipv6=dual)
        self._socket.setblocking(False)
        host, port = self._socket.getsockname()[:2]
        self.address: tuple[str, int] = (str(host), int(port))
        self._accepted = accepted
        self._waiter = Waiter()
        self._closing = False
        self._thread = threading.Thread(target=self._main, name="ovsdb listener", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def close(self) -> None:
        """Stop accepting soon; `join` waits for it. Connections already accepted are not concerned."""
        self._closing = True
        self._waiter.wake()

    def join(self, seconds: float) -> None:
        """Wait up to `seconds` for the thread to end."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _main(self) -> None:
        while not self._closing:
            self._accept_all()
            self._waiter.fd_wait(self._socket, ovs.poller.POLLIN)
            self._waiter.block()
        self._socket.close()
        self._waiter.close()

    def _accept_all(self) -> None:
        while not self._closing:
            try:
                sock, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError as error:
                log.warning("cannot accept an OVSDB connection", error=str(error))
                self._waiter.timer_wait(PAUSE * 1000)
                self._waiter.block()
                return
            self._accepted(sock, stream_name(self._method, plain_address(str(peer[0])), int(peer[1])))
