"""Where switches that did `ovs-vsctl set-manager` knock: accepts and hands on sockets. It knows nothing of OVSDB."""

from __future__ import annotations

import socket
from collections.abc import Callable

from controller.config.addresses import canonical_address, format_address
from controller.peers.acceptor import Acceptor

_BACKLOG = 1024


class OvsdbListener:
    """Listens at (host, port), port 0 for a free one; `run`, in a thread of its own, calls `accepted` for each
    connection with its socket, its address and its name.

    The socket is bound by the constructor, which raises OSError if that can't be. `::` takes IPv4 as well. `method`,
    tcp or ssl, is how peers are named; what is spoken is for `accepted` to say.
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
        self._acceptor = Acceptor(listening, "OVSDB", self._taken)
        self.run = self._acceptor.run

    def close(self) -> None:
        """Stop accepting soon. Connections already accepted are not concerned."""
        self._acceptor.close()

    def _taken(self, sock: socket.socket, address: object) -> None:
        host, port = ("", 0) if not isinstance(address, tuple) else (str(address[0]), int(address[1]))
        plain = canonical_address(host)
        self._accepted(sock, plain, format_address(self._method, plain, port))
