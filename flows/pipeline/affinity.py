"""Session affinity: which learned flows remember the endpoint of a client, how long, and how many there may be.

A learned flow of table `affinity` matches a port of a Service and a client, and names the endpoint that the client was
given. Only packets that open connections look there, so its idle timeout counts from the client's last connection. The
flows are the switch's own: their number depends on clients, of which anybody can pretend to be many. So the ports of a
bridge share a fixed number of pools, and a pool has a limit. Where it is reached, further clients have no affinity.
"""

from __future__ import annotations

from flows.cluster.net import Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import FromPacket, Learn, Load
from flows.openflow.match import Term, exactly, in_range
from flows.openflow.register_bits import Range
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.priorities import AFFINITY_LEARNED
from flows.pipeline.registers import ENDPOINT_ADDRESS, ENDPOINT_PORT, SERVICE_PORT
from flows.pipeline.tables import AFFINITY

# So a Service with very many clients can take a sixteenth of all learned flows, and leaves most others alone.
POOLS = 16
MOST_OF_POOL = 4096
# OpenFlow has no longer timeout.
MOST_SECONDS = 0xFFFF


def remember(group: int, address: Net, port: int, seconds: int) -> Learn:
    """Learn that this packet's source goes to this endpoint of the port whose group id is `group`, until no connection
    of it came for `seconds`."""
    ether, source = (oxm.ETH_IPV4, oxm.IPV4_SRC) if address.version == 4 else (oxm.ETH_IPV6, oxm.IPV6_SRC)
    client = exactly(oxm.ETH_TYPE, ether), in_range(SERVICE_PORT, group), FromPacket(source, source)
    endpoint = Load(ENDPOINT_PORT, port), *(Load(place, value) for place, value in _words(address))
    pool = cookie(CookieKind.LEARNED, group % POOLS)
    return Learn(AFFINITY.number, AFFINITY_LEARNED, pool, min(seconds, MOST_SECONDS), MOST_OF_POOL, client, endpoint)


def remembered(address: Net, port: int) -> list[Term]:
    """What the registers have where `affinity` named this endpoint."""
    return [in_range(ENDPOINT_PORT, port), *(in_range(place, value) for place, value in _words(address))]


def forget(version: int) -> list[Load]:
    """Set all registers of `remembered` to zero, for an address of IP version 4 or 6."""
    return [Load(place, 0) for place in (ENDPOINT_PORT, *ENDPOINT_ADDRESS[: 1 if version == 4 else 4])]


def _words(address: Net) -> list[tuple[Range, int]]:
    """The address in words of 32 bits, each with its register."""
    count = 1 if address.version == 4 else 4
    shifts = range(32 * (count - 1), -1, -32)
    return [
        (place, address.value >> shift & 0xFFFFFFFF)
        for place, shift in zip(ENDPOINT_ADDRESS[:count], shifts, strict=True)
    ]
