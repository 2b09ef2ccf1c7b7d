"""A pod's interface: a veth pair into its namespace, addresses of one host each, and all routes through the switch.

The gateway's MAC address is set for good, so a pod asks for nobody before its first packet. Whether a pod's settings
are still so is checked here as well.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from node import links, routes
from node.addresses import Cidr, text_of
from node.cni_request import Attachment
from node.errors import CHECK_FAILED, UNKNOWN_CONTAINER, CniError
from node.ipam import Address
from node.namespaces import inside
from node.netlink import Netlink
from node.quick import TYPE_CHECKING, socket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GATEWAY_MAC = "0a:48:47:00:00:01"  # of the switch, on every bridge


@contextmanager
def open_namespace(path: str) -> Iterator[int]:
    """A descriptor of the network namespace at a path, as CNI_NETNS names it. Raises CniError if there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise CniError(UNKNOWN_CONTAINER, f"CNI_NETNS: there is no network namespace {path[:200]!r}") from None
    try:
        yield file
    finally:
        os.close(file)


def has_interface(namespace: int, name: str) -> bool:
    """Whether there is an interface of that name in the namespace."""
    with inside(namespace), Netlink() as netlink:
        return links.find_link(netlink, name) is not None


def make_pair(attachment: Attachment, namespace: int, mtu: int, mac: str) -> None:
    """Make the veth pair; its end on the node is a port of the switch and nothing else.

    The kernel sees what arrives there too, as long as the userspace datapath takes it: it must neither answer ARP, nor
    forward, nor take a packet of another source than a route back names.
    """
    port = attachment.port
    with Netlink() as netlink:
        links.make_veth(netlink, port, attachment.ifname, namespace, mtu, mac)
        links.sysctl("ipv6", port, "disable_ipv6", 1)
        links.sysctl("ipv4", port, "arp_ignore", 8)
        links.sysctl("ipv4", port, "rp_filter", 1)
        links.sysctl("ipv4", port, "forwarding", 0)
        links.set_up(netlink, links.get_link(netlink, port))


def configure(attachment: Attachment, namespace: int, addresses: Sequence[Address], userspace: bool) -> None:
    """Set up the end in the pod's namespace: addresses, gateway and routes."""
    name = attachment.ifname
    with inside(namespace), Netlink() as netlink:
        if userspace:
            links.checksums_in_software(name)
        if any(address.bits == 128 for address in addresses):
            links.sysctl("ipv6", name, "disable_ipv6", 0)
            links.sysctl("ipv6", name, "accept_ra", 0)  # its routes are those of the switch
        link = links.get_link(netlink, name)
        links.set_up(netlink, link)
        for address in addresses:
            links.add_address(netlink, link, address.packed, address.bits)
            routes.put_neighbour(netlink, link, address.gateway, GATEWAY_MAC)
            for route in _routes(address):
                routes.put_route(netlink, link, route)


def remove_pair(port: str) -> bool:
    """Delete the veth pair by its end on the node. Returns whether there was one."""
    with Netlink() as netlink:
        return links.remove_link(netlink, port)


def list_pairs() -> list[str]:
    """The names of all interfaces of the node."""
    with Netlink() as netlink:
        return [link.name for link in links.list_links(netlink)]


def check(attachment: Attachment, namespace: int, addresses: Sequence[Address], mac: str) -> None:
    """Raise CniError unless the interface still is as `configure` left it."""
    with Netlink() as netlink:
        port = links.find_link(netlink, attachment.port)
        if port is None or not port.up:
            raise CniError(CHECK_FAILED, f"the node's end {attachment.port} is {'down' if port else 'missing'}")
    name = attachment.ifname
    with inside(namespace), Netlink() as netlink:
        link = links.find_link(netlink, name)
        if link is None or not link.up or link.mac != mac:
            raise CniError(CHECK_FAILED, f"{name} is missing, down, or has another MAC address than {mac}")
        there = links.list_addresses(netlink, link)
        for address in addresses:
            if (address.packed, address.bits) not in there:
                raise CniError(CHECK_FAILED, f"{name} lacks its address {text_of(address.packed)}")
            family = socket.AF_INET if address.bits == 32 else socket.AF_INET6
            if routes.list_permanent_neighbours(netlink, link, family).get(address.gateway) != GATEWAY_MAC:
                raise CniError(CHECK_FAILED, f"{name} does not know the gateway {text_of(address.gateway)}")
            standing = routes.list_routes(netlink, link, family)
            for route in _routes(address):
                if route not in standing:
                    raise CniError(CHECK_FAILED, f"{name} lacks its route to {route.destination}")


def _routes(address: Address) -> tuple[routes.Route, routes.Route]:
    """To the gateway, and through it to everywhere."""
    gateway = routes.Route(Cidr(address.gateway, address.bits))
    return gateway, routes.Route(Cidr(bytes(len(address.packed)), 0), address.gateway)
