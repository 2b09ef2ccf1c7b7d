"""Routes and neighbours in the network namespace of the caller (rtnetlink(7), ip-route(8), ip-neighbour(8))."""

from __future__ import annotations

import errno
import struct

from node.addresses import Cidr, family_of, text_of
from node.links import Link
from node.netlink import NLM_F_CREATE, NLM_F_REPLACE, Netlink, NetlinkError, attribute, attributes, number
from node.quick import NamedTuple, socket

SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 7, 15
_NDA_DST, _NDA_LLADDR = 1, 2
_TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST = 254, 4, 1
_RTNH_ONLINK = 0x4
_NUD_PERMANENT = 0x80
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, prefix, source prefix, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BxHiHBB")  # ndmsg: family, padding, index, state, flags, type


class Route(NamedTuple):
    """A unicast route of the main table through one interface. `via` is its next hop (b"": the destination is on the
    link), `source` the address that the node's own packets take (b"": the kernel's choice)."""

    destination: Cidr
    via: bytes = b""
    source: bytes = b""


def put_route(netlink: Netlink, link: Link, route: Route) -> None:
    """Add a route through an interface, or replace the one to the same destination. A next hop need not be in a
    subnet of the interface (`onlink`). Raises NetlinkError."""
    flags = _RTNH_ONLINK if route.via else 0
    what = f"cannot route {route.destination} through {link.name}"
    netlink.change(_RTM_NEWROUTE, _encode(link, route, flags), NLM_F_CREATE | NLM_F_REPLACE, what)


def remove_route(netlink: Netlink, link: Link, route: Route) -> bool:
    """Remove a route through an interface. Returns whether there was one."""
    try:
        netlink.change(_RTM_DELROUTE, _encode(link, route, 0), 0, f"cannot remove the route to {route.destination}")
    except NetlinkError as error:
        if error.number in (errno.ESRCH, errno.ENODEV):
            return False
        raise
    return True


def list_routes(netlink: Netlink, link: Link, family: int) -> list[Route]:
    """The unicast routes of the main table through an interface, in the kernel's order."""
    found = []
    everything = bytes(4 if family == socket.AF_INET else 16)
    request = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    for body in netlink.dump(_RTM_GETROUTE, request, "cannot list routes"):
        _, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
        values = attributes(body, _ROUTE.size)
        if _RTA_TABLE in values:
            table = struct.unpack("=I", values[_RTA_TABLE])[0]
        output = struct.unpack("=I", values[_RTA_OIF])[0] if _RTA_OIF in values else 0
        if (table, kind, output) == (_TABLE_MAIN, _UNICAST, link.ifindex):
            destination = Cidr(values.get(_RTA_DST, everything), prefix)
            found.append(Route(destination, values.get(_RTA_GATEWAY, b""), values.get(_RTA_PREFSRC, b"")))
    return found


def put_neighbour(netlink: Netlink, link: Link, address: bytes, mac: str) -> None:
    """Set the MAC address of a neighbour for good: the kernel neither asks for it nor forgets it. Idempotent."""
    body = _NEIGHBOUR.pack(family_of(address), 0, link.ifindex, _NUD_PERMANENT, 0, 0)
    body += attribute(_NDA_DST, address) + attribute(_NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
    what = f"cannot set the MAC address of {text_of(address)} on {link.name}"
    netlink.change(_RTM_NEWNEIGH, body, NLM_F_CREATE | NLM_F_REPLACE, what)


def remove_neighbour(netlink: Netlink, link: Link, address: bytes) -> bool:
    """Forget a neighbour. Returns whether there was one."""
    body = _NEIGHBOUR.pack(family_of(address), 0, link.ifindex, 0, 0, 0) + attribute(_NDA_DST, address)
    try:
        netlink.change(_RTM_DELNEIGH, body, 0, f"cannot forget {text_of(address)} on {link.name}")
    except NetlinkError as error:
        if error.number in (errno.ENOENT, errno.ENODEV):
            return False
        raise
    return True


def list_permanent_neighbours(netlink: Netlink, link: Link, family: int) -> dict[bytes, str]:
    """The neighbours of an interface that were set for good: address to MAC address."""
    found = {}
    request = _NEIGHBOUR.pack(family, 0, 0, 0, 0, 0)
    for body in netlink.dump(_RTM_GETNEIGH, request, "cannot list neighbours"):
        _, _, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
        values = attributes(body, _NEIGHBOUR.size)
        if index == link.ifindex and state & _NUD_PERMANENT and _NDA_DST in values:
            found[values[_NDA_DST]] = ":".join(f"{byte:02x}" for byte in values.get(_NDA_LLADDR, b""))
    return found


def _encode(link: Link, route: Route, flags: int) -> bytes:
    destination = route.destination
    scope = SCOPE_UNIVERSE if route.via or destination.family == socket.AF_INET6 else SCOPE_LINK
    body = _ROUTE.pack(
        destination.family, destination.prefix, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, _UNICAST, flags
    )
    if destination.prefix:
        body += attribute(_RTA_DST, destination.packed)
    body += number(_RTA_OIF, link.ifindex)
    if route.via:
        body += attribute(_RTA_GATEWAY, route.via)
    if route.source:
        body += attribute(_RTA_PREFSRC, route.source)
    return body
