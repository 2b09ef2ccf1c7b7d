"""Moves the underlay interface's addresses and routes to the bridge UNDERLAY, and back.

Needed for the userspace datapath, which tunnels only through a bridge of its own that has the tunnel's address
(docs.openvswitch.org, "Connecting VMs Using Tunnels (Userspace)"). The moved ones are kept in the node's state, so that
they are there again after a boot where the machine's network configuration does not set them.

The interface itself is no port of the bridge: a cable lies between them, a veth pair, and nftables forwards from the
one to the other. The userspace datapath takes a packet as it is, and from many interfaces (veth, virtio, any that joins
segments) it is not whole: its checksum is left to hardware that never comes, or it is longer than the MTU. Sending it
into the cable, the kernel completes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from node.errors import NodeError
from node.host_names import CABLE, UNDERLAY
from node.host_nft import UNDERLAY_TABLE, remove, underlay_table
from node.host_programs import run
from node.host_settings import Settings
from node.links import checksums_in_software, sysctl

_OPTIONS = ("-4", "-6")
_FLAGS = ("linkdown", "dead", "offload", "rt_offload", "trap", "rt_trap")  # what the kernel says of a route
T = TypeVar("T")


def to_bridge(settings: Settings, keep: Callable[[], None]) -> None:
    """Move what is on the interface now; set what was moved earlier and is gone. `keep` saves `settings` before the
    first change. Raises NodeError."""
    name = settings.underlay
    addresses, routes = _addresses(name), _routes(name)
    standing = _addresses(UNDERLAY)
    if addresses and not standing:  # first run, or the network configuration has set them at boot: those are true
        settings.addresses, settings.routes = addresses, routes
    elif addresses:  # an earlier run ended in between
        settings.addresses = _joined(settings.addresses, standing, addresses)
        settings.routes = _joined(settings.routes, _routes(UNDERLAY), routes)
    if addresses:
        keep()
    _lay_cable(name)
    run(["nft", "-f", "-"], underlay_table(name))
    run(["ip", "link", "set", "dev", UNDERLAY, "up"])
    for address in settings.addresses:
        if address not in standing:
            _give(address, UNDERLAY)
    for address in addresses:
        run(["ip", "addr", "del", address, "dev", name])
    _set_routes(settings.routes, UNDERLAY)


def back(settings: Settings, keep: Callable[[], None]) -> None:
    """Move everything back to the interface. What is no longer on the machine is passed over."""
    name = settings.underlay
    standing = _addresses(UNDERLAY) if _is_there(UNDERLAY) else []
    routes = (_routes(UNDERLAY) if standing else []) or settings.routes
    if _is_there(name):
        for address in dict.fromkeys((*standing, *settings.addresses)):
            if address in standing:
                run(["ip", "addr", "del", address, "dev", UNDERLAY])
            _give(address, name)
        _set_routes(routes, name)
        run(["nft", "-f", "-"], remove(UNDERLAY_TABLE))
        run(["ip", "link", "set", "dev", name, "promisc", "off"])
    if _is_there(CABLE[0]):
        run(["ip", "link", "del", "dev", CABLE[0]])
    settings.underlay, settings.addresses, settings.routes = "", [], []
    keep()


def _lay_cable(name: str) -> None:
    """Make the cable, with the interface's MTU, and set all three up."""
    if not _is_there(CABLE[0]):
        run(["ip", "link", "add", CABLE[0], "type", "veth", "peer", "name", CABLE[1]])
    mtu = str(next(one["mtu"] for one in _json(["ip", "-j", "link", "show", "dev", name])))
    for end in CABLE:
        sysctl("ipv6", end, "disable_ipv6", 1)
        run(["ip", "link", "set", "dev", end, "mtu", mtu, "up"])
    checksums_in_software(CABLE[0])
    # The bridge's port has joined the multicast groups, not the interface.
    run(["ip", "link", "set", "dev", name, "up", "promisc", "on"])


def _joined(*lists: list[T]) -> list[T]:
    found: list[T] = []
    for one in (one for some in lists for one in some):
        if one not in found:
            found.append(one)
    return found


def _is_there(name: str) -> bool:
    return any(one.get("ifname") == name for one in _json(["ip", "-j", "link", "show"]))


def _json(command: list[str]) -> list[dict[str, object]]:
    try:
        found = json.loads(run(command) or "[]")
    except ValueError as error:
        raise NodeError(f"{' '.join(command)} printed something else than JSON: {error}") from None
    return [one for one in found if isinstance(one, dict)]


def _addresses(name: str) -> list[str]:
    """The interface's addresses that an administrator or DHCP set, with their prefix length."""
    found = []
    for link in _json(["ip", "-j", "addr", "show", "dev", name, "scope", "global"]):
        listed = link.get("addr_info")
        for one in listed if isinstance(listed, list) else []:
            if "local" in one:
                found.append(f"{one['local']}/{one['prefixlen']}")
    return found


def _routes(name: str) -> list[list[str]]:
    """Routes through the interface that the kernel did not add with an address: the family's option, then words."""
    found = []
    for option in _OPTIONS:
        for line in run(["ip", option, "route", "show", "dev", name]).splitlines():
            words = [word for word in line.split() if word not in _FLAGS]
            if "expires" in words:  # of a router advertisement: a count of seconds that is no longer true
                at = words.index("expires")
                del words[at : at + 2]
            if words and "kernel" not in words and not words[0].startswith("fe80:"):
                found.append([option, *words])
    return sorted(found, key=lambda words: "via" in words)  # what is on the link comes before its use as next hop


def _give(address: str, name: str) -> None:
    """Without duplicate address detection, so that an IPv6 address can be used at once."""
    run(["ip", "addr", "replace", address, "dev", name, *(["nodad"] if ":" in address else [])])


def _set_routes(routes: list[list[str]], name: str) -> None:
    for option, *words in routes:
        run(["ip", option, "route", "replace", *words, "dev", name])
