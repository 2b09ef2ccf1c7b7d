"""Moves what belongs to an interface to a bridge, and back (`node.host_moved`): of the underlay interface to the bridge
UNDERLAY, of the uplink of a flat network to the bridge of the pods.

The first is needed for the userspace datapath, which tunnels only through a bridge of its own that has the tunnel's
address (docs.openvswitch.org, "Connecting VMs Using Tunnels (Userspace)"). The moved ones are kept in the node's state,
so that they are there again after a boot where the machine's network configuration does not set them.

With the userspace datapath the interface itself is no port of the bridge: a cable lies between them, a veth pair, and
nftables forwards from the one to the other. That datapath takes a packet as it is, and from many interfaces (veth,
virtio, any that joins segments) it is not whole: its checksum is left to hardware that never comes, or it is longer
than the MTU. Sending it into the cable, the kernel completes it. And it takes a copy: the node would get each packet
from the interface, too. With the kernel's datapath an uplink is a port itself.

The pods' bridge may have addresses and settings of its own: the addresses stay where they are, the settings come back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from node import host_moved, host_sysctl
from node.errors import NodeError
from node.host_moved import Moved, is_there
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


class _Way(NamedTuple):
    """From which interface to which bridge, and whether that is for this interface alone."""

    interface: str
    bridge: str
    is_its_own: bool


def _way(settings: Settings) -> _Way:
    if settings.underlay:
        return _Way(settings.underlay, UNDERLAY, True)
    return _Way(settings.uplink, settings.bridge, False)


def _is_userspace(bridge: str) -> bool:
    """Whether the userspace datapath has a bridge. Its port on the machine says so, also while no OVSDB answers."""
    found = [one.get("linkinfo") for one in host_moved.parse(["ip", "-j", "-d", "link", "show", "dev", bridge])]
    return not any(isinstance(one, dict) and one.get("info_kind") == "openvswitch" for one in found)


def to_bridge(settings: Settings, keep: Callable[[], None]) -> None:
    """Move what is on the interface now; set what was moved earlier and is gone. `keep` saves `settings` before the
    first change. Raises NodeError, for a route that cannot be set after all else is done."""
    way = _way(settings)
    name, bridge = way.interface, way.bridge
    found, standing = host_moved.read(name), _standing(way, _kept(settings))
    wanted = _wanted(_kept(settings), standing, found)
    _keep(settings, wanted, keep)
    userspace = _is_userspace(bridge)
    if userspace or way.is_its_own:
        _lay_cable(name)
        run(["nft", "-f", "-"], underlay_table(name, userspace))
    _copy_settings(settings, way, wanted, keep)
    run(["ip", "link", "set", "dev", bridge, "up"])
    there = set(map(host_moved.key, standing.addresses))
    for address in wanted.addresses:
        if host_moved.key(address) not in there:
            host_moved.give_address(address, name, bridge, with_end=False)
    host_moved.take_addresses(found.addresses, name)
    host_moved.move_neighbours(wanted.neighbours, name, bridge)
    host_moved.move_rules(wanted.rules, name, bridge)
    try:
        host_moved.give_routes(wanted.routes, name, bridge, with_end=False)
    finally:
        host_moved.take_routes(name)


def back(settings: Settings, keep: Callable[[], None]) -> None:
    """Move everything back to the interface. What is no longer on the machine is passed over. Raises NodeError, for a
    route that cannot be set after all else is done."""
    way, refused = _way(settings), None
    name, bridge = way.interface, way.bridge
    if is_there(name):
        moved = _kept(settings)
        if is_there(bridge):
            standing = _standing(way, moved)
            moved = host_moved.joined(host_moved.joined(moved, standing), moved)
            _keep(settings, moved, keep)
            host_moved.take_addresses(standing.addresses, bridge)
        for address in moved.addresses:
            host_moved.give_address(address, name, name, with_end=True)
        host_moved.move_neighbours(moved.neighbours, bridge, name)
        host_moved.move_rules(moved.rules, bridge, name)
        try:
            host_moved.give_routes(moved.routes, name, name, with_end=True)
        except NodeError as error:
            refused = error
        if settings.underlay or is_there(CABLE[0]):
            run(["nft", "-f", "-"], remove(UNDERLAY_TABLE))
            run(["ip", "link", "set", "dev", name, "promisc", "off"])
    if is_there(CABLE[0]):
        run(["ip", "link", "del", "dev", CABLE[0]])
    if not way.is_its_own:
        host_sysctl.restore(settings)
    settings.underlay = settings.uplink = ""
    _keep(settings, Moved(), keep)
    keep()
    if refused:
        raise refused


def _standing(way: _Way, kept: Moved) -> Moved:
    """What is on the bridge of the interface's, in words of the interface."""
    if not is_there(way.bridge):
        return Moved()
    there = host_moved.read(way.bridge).renamed(way.bridge, way.interface)
    return there if way.is_its_own else host_moved.common(there, kept)


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


def _copy_settings(settings: Settings, way: _Way, moved: Moved, keep: Callable[[], None]) -> None:
    """Have the bridge do as the interface does. A node forwards, so the kernel reads routers' advertisements at the
    bridge only if told so: where a route was learned of one."""
    learned = any("ra" in route for route in moved.routes)
    values = {}
    for family, keys in _SETTINGS.items():
        here, there = (host_sysctl.PROC / family / "conf" / name for name in (way.interface, way.bridge))
        for key in keys:
            if (here / key).exists() and (there / key).exists():
                value = (here / key).read_text(encoding="ascii").strip()
                values[family, key] = "2" if key == "accept_ra" and value != "0" and learned else value
    if not way.is_its_own:
        paths = {f"{family}/conf/{way.bridge}/{key}": value for (family, key), value in values.items()}
        host_sysctl.change(settings, keep, paths)
        return
    for (family, key), value in values.items():
        sysctl(family, way.bridge, key, int(value))


def _lay_cable(name: str) -> None:
    """Make the cable, with the interface's MTU, and set all three up."""
    if not is_there(CABLE[0]):
        run(["ip", "link", "add", CABLE[0], "type", "veth", "peer", "name", CABLE[1]])
    mtu = str(next(one["mtu"] for one in host_moved.parse(["ip", "-j", "link", "show", "dev", name])))
    for end in CABLE:
        sysctl("ipv6", end, "disable_ipv6", 1)
        run(["ip", "link", "set", "dev", end, "mtu", mtu, "up"])
    checksums_in_software(CABLE[0])
    # The bridge's port has joined the multicast groups, not the interface.
    run(["ip", "link", "set", "dev", name, "up", "promisc", "on"])
