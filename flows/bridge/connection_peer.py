"""Who is at the other end of a connection, as values."""

from __future__ import annotations

from typing import NamedTuple


class ConnectionPeer(NamedTuple):
    """Who is at the other end of a connection: its address, and the names in its certificate. Empty where there is
    none, as with a unix socket."""

    host: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(filter(None, (self.names[0] if self.names else "", self.host))) or "this machine"


NO_PEER = ConnectionPeer()
