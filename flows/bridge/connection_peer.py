"""The other end of a TCP connection to one of Headgate's listeners, as a value. Not the peer of a policy rule."""

from __future__ import annotations

from typing import NamedTuple


class ConnectionPeer(NamedTuple):
    """The other end of a connection: its address, and the names in its certificate. Both are empty where there are
    none, as with a unix socket."""

    host: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(filter(None, (self.names[0] if self.names else "", self.host))) or "this machine"


NO_PEER = ConnectionPeer()
