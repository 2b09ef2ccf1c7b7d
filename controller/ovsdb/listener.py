"""The listening socket for manager connections (`ovs-vsctl set-manager`). OVSDB itself must not live here."""

from __future__ import annotations

import socket
from collections.abc import Callable

from controller.config.addresses import canonical_address, format_address
from controller.peers.acceptor import Acceptor

_BACKLOG = 1024


class OvsdbListener:
    """Listens at (host, port), port 0 for a free one; `run`, in a thread of its own, calls `accepted` for each
    connection with its socket, its address and its name.

    The constructor binds the socket, and raises OSError if it cannot. `::` accepts IPv4 as well. `method`, tcp or ssl,
    is for the peers' names only; `accepted` does the TLS handshake.
    """

    def __init__(
        self, address: tuple[str, int], accepted: Callable[[socket.socket, str, str], None], method: str = "tcp"
    ) -> None:
        self._method = method
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        dual = address[0] == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
        host, port = listening.getsockname()[:2]
        self.address: tuple[str, int] = (str(host), int(port))
        self._accepted = accepted
        self._acceptor = Acceptor(listening, "OVSDB", self._on_connection)
        self.run = self._acceptor.run

    def close(self) -> None:
        """Stop accepting soon. Accepted connections go on."""
        self._acceptor.close()

    def _on_connection(self, sock: socket.socket, address: object) -> None:
        host, port = ("", 0) if not isinstance(address, tuple) else (str(address[0]), int(address[1]))
        plain = canonical_address(host)
        self._accepted(sock, plain, format_address(self._method, plain, port))
