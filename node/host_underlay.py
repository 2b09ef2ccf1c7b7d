"""Moves what belongs to the underlay interface to the bridge UNDERLAY, and back (`node.host_moved`).

Needed for the userspace datapath, which tunnels only through a bridge of its own that has the tunnel's address
(docs.openvswitch.org, "Connecting VMs Using Tunnels (Userspace)"). The moved ones are kept in the node's state, so that
they are there again after a boot where the machine's network configuration does not set them.

The interface itself is no port of the bridge: a cable lies between them, a veth pair, and nftables forwards from the
one to the other. The userspace datapath takes a packet as it is, and from many interfaces (veth, virtio, any that joins
segments) it is not whole: its checksum is left to hardware that never comes, or it is longer than the MTU. Sending it
into the cable, the kernel completes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from node import host_moved
from node.errors import NodeError
from node.host_moved import Moved
from node.host_names import CABLE, UNDERLAY
from node.host_nft import UNDERLAY_TABLE, remove, underlay_table
from node.host_programs import run
from node.host_settings import Settings
from node.links import checksums_in_software, sysctl

# What the bridge must do as the interface does: whether and how it has addresses, and whom it believes.
_SETTINGS = {
    "ipv4": ("rp_filter", "arp_announce", "arp_ignore", "arp_filter", "proxy_arp", "accept_redirects", "send_redirects",
             "secure_redirects", "accept_source_route", "log_martians", "src_valid_mark"),
    "ipv6": ("disable_ipv6", "accept_ra", "accept_ra_defrtr", "accept_ra_pinfo", "autoconf", "use_tempaddr",
             "accept_redirects", "accept_source_route"),
}  # fmt: skip


def to_bridge(settings: Settings, keep: Callable[[], None]) -> None:
    """Move what is on the interface now; set what was moved earlier and is gone. `keep` saves `settings` before the
    first change. Raises NodeError, for a route that cannot be set after all else is done."""
    name = settings.underlay
    found, standing = host_moved.read(name), host_moved.read(UNDERLAY).renamed(UNDERLAY, name)
    wanted = _wanted(_kept(settings), standing, found)
    _keep(settings, wanted, keep)
    _lay_cable(name)
    run(["nft", "-f", "-"], underlay_table(name))
    _copy_settings(name, wanted)
    run(["ip", "link", "set", "dev", UNDERLAY, "up"])
    there = set(map(host_moved.key, standing.addresses))
    for address in wanted.addresses:
        if host_moved.key(address) not in there:
            host_moved.give_address(address, name, UNDERLAY, with_end=False)
    host_moved.take_addresses(found.addresses, name)
    host_moved.move_neighbours(wanted.neighbours, name, UNDERLAY)
    host_moved.move_rules(wanted.rules, name, UNDERLAY)
    try:
        host_moved.give_routes(wanted.routes, name, UNDERLAY, with_end=False)
    finally:
        host_moved.take_routes(name)


def back(settings: Settings, keep: Callable[[], None]) -> None:
    """Move everything back to the interface. What is no longer on the machine is passed over. Raises NodeError, for a
    route that cannot be set after all else is done."""
    name, refused = settings.underlay, None
    if _is_there(name):
        moved = _kept(settings)
        if _is_there(UNDERLAY):
            standing = host_moved.read(UNDERLAY).renamed(UNDERLAY, name)
            moved = host_moved.joined(host_moved.joined(moved, standing), moved)
            _keep(settings, moved, keep)
            host_moved.take_addresses(standing.addresses, UNDERLAY)
        for address in moved.addresses:
            host_moved.give_address(address, name, name, with_end=True)
        host_moved.move_neighbours(moved.neighbours, UNDERLAY, name)
        host_moved.move_rules(moved.rules, UNDERLAY, name)
        try:
            host_moved.give_routes(moved.routes, name, name, with_end=True)
        except NodeError as error:
            refused = error
        run(["nft", "-f", "-"], remove(UNDERLAY_TABLE))
        run(["ip", "link", "set", "dev", name, "promisc", "off"])
    if _is_there(CABLE[0]):
        run(["ip", "link", "del", "dev", CABLE[0]])
    settings.underlay = ""
    _keep(settings, Moved(), keep)
    keep()
    if refused:
        raise refused


def _wanted(kept: Moved, standing: Moved, found: Moved) -> Moved:
    """What must be on the bridge, of what an earlier run moved, what is there and what is on the interface."""
    whole = Moved()
    for family in host_moved.OPTIONS:
        old, there, new = (one.family(family) for one in (kept, standing, found))
        if new.has_own_addresses() and not there.addresses:  # the first run, or a boot: the configuration is true
            old = Moved()
        one = host_moved.joined(host_moved.joined(host_moved.joined(old, there), old), new)
        whole = host_moved.joined(whole, one)
    return whole


def _kept(settings: Settings) -> Moved:
    return Moved(
        tuple(settings.addresses),
        tuple(settings.neighbours),
        tuple(map(tuple, settings.routes)),
        tuple(map(tuple, settings.rules)),
    )


def _keep(settings: Settings, moved: Moved, keep: Callable[[], None]) -> None:
    if moved == _kept(settings):
        return
    settings.addresses, settings.neighbours = list(moved.addresses), list(moved.neighbours)
    settings.routes, settings.rules = list(map(list, moved.routes)), list(map(list, moved.rules))
    keep()


def _copy_settings(name: str, moved: Moved) -> None:
    """A node forwards, so the kernel reads routers' advertisements at the bridge only if told so: where a route was
    learned of one."""
    learned = any("ra" in route for route in moved.routes)
    for family, keys in _SETTINGS.items():
        for key in keys:
            path = Path(f"/proc/sys/net/{family}/conf/{name}/{key}")
            if path.exists():
                value = int(path.read_text(encoding="ascii"))
                sysctl(family, UNDERLAY, key, 2 if key == "accept_ra" and value and learned else value)


def _lay_cable(name: str) -> None:
    """Make the cable, with the interface's MTU, and set all three up."""
    if not _is_there(CABLE[0]):
        run(["ip", "link", "add", CABLE[0], "type", "veth", "peer", "name", CABLE[1]])
    mtu = str(next(one["mtu"] for one in host_moved.parse(["ip", "-j", "link", "show", "dev", name])))
    for end in CABLE:
        sysctl("ipv6", end, "disable_ipv6", 1)
        run(["ip", "link", "set", "dev", end, "mtu", mtu, "up"])
    checksums_in_software(CABLE[0])
    # The bridge's port has joined the multicast groups, not the interface.
    run(["ip", "link", "set", "dev", name, "up", "promisc", "on"])


def _is_there(name: str) -> bool:
    return any(one.get("ifname") == name for one in host_moved.parse(["ip", "-j", "link", "show"]))
