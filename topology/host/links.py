"""Links, addresses and kernel settings in network namespaces, set through netlink.

Each function works in the namespace of the calling thread, unless it takes a path. Veth pairs are created in their
namespaces, so no interface of a lab ever appears in the machine's own namespace.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
IFA_F_NODAD = 0x02
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
SCOPE_LINK = 253


def sysctl(name: str, value: int) -> None:
    """Set a network setting of this namespace, for instance `ipv4.conf.all.arp_ignore`; skipped if the kernel lacks it.

    Dots inside an interface's name are written as slashes, as sysctl(8) does.
    """
    path = "/proc/sys/net/" + "/".join(part.replace("/", ".") for part in name.split("."))
    try:
        Path(path).write_text(str(value), encoding="ascii")
    except FileNotFoundError:
        return


def quiet_namespace() -> None:
    """Set up a namespace of a lab: addresses are usable at once, ICMP errors are not rate-limited."""
    for which in ("all", "default"):
        sysctl(f"ipv6.conf.{which}.accept_dad", 0)
        sysctl(f"ipv6.conf.{which}.accept_ra", 0)
    sysctl("ipv4.icmp_ratelimit", 0)
    sysctl("ipv6.icmp.ratelimit", 0)
    with IPRoute() as ip:
        ip.link("set", index=_index(ip, "lo"), state="up")


def switch_ports_only() -> None:
    """Disable the kernel's IP stack on interfaces created from now on: they are ports of the switch.

    With the userspace datapath the kernel sees every frame as well, and would answer ARP for the node on any port.
    """
    sysctl("ipv4.conf.default.arp_ignore", 8)
    sysctl("ipv6.conf.default.disable_ipv6", 1)


def make_veth(here: str, there: str, there_netns: Path, mtu: int, there_mac: str | None = None) -> None:
    """Create a veth pair: `here` in this namespace, up, and `there` in the namespace at `there_netns`, down."""
    fd = os.open(there_netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        peer: dict[str, object] = {"ifname": there, "net_ns_fd": fd, "mtu": mtu}
        if there_mac:
            peer["address"] = there_mac
        with IPRoute() as ip:
            ip.link("add", ifname=here, kind="veth", mtu=mtu, peer=peer)
            ip.link("set", index=_index(ip, here), state="up")
    finally:
        os.close(fd)


def make_bridge(name: str, mtu: int) -> None:
    """Create a Linux bridge that floods all multicast, so that neighbor discovery needs no querier."""
    with IPRoute() as ip:
        ip.link("add", ifname=name, kind="bridge", mtu=mtu, br_mcast_snooping=0, br_forward_delay=0, br_stp_state=0)
        ip.link("set", index=_index(ip, name), state="up")


def add_to_bridge(name: str, master: str) -> None:
    """Add an interface to a bridge and set it up."""
    with IPRoute() as ip:
        ip.link("set", index=_index(ip, name), master=_index(ip, master), state="up")


def forget_bridged(name: str) -> None:
    """Have a Linux bridge forget which MAC address is behind which of its ports."""
    with IPRoute() as ip:
        ip.link("set", index=_index(ip, name), kind="bridge", br_fdb_flush=1)


def remove_link(name: str) -> None:
    """Delete an interface; a missing one is no error."""
    with IPRoute() as ip:
        try:
            ip.link("del", index=_index(ip, name))
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise


def configure_interface(name: str, addresses: Mapping[int, str], prefixes: Mapping[int, int], mtu: int) -> None:
    """Set an interface up with its addresses and a default route without gateway: all hosts are on the same link.

    Idempotent.
    """
    sysctl(f"ipv4.conf.{name}.arp_ignore", 0)
    sysctl(f"ipv6.conf.{name}.disable_ipv6", 0 if 6 in addresses else 1)
    sysctl(f"ipv6.conf.{name}.accept_dad", 0)
    with IPRoute() as ip:
        index = _index(ip, name)
        ip.link("set", index=index, state="up", mtu=mtu)
        for family, text in addresses.items():
            kind = socket.AF_INET if family == 4 else socket.AF_INET6
            flags = {"flags": IFA_F_NODAD} if family == 6 else {}
            ip.addr("replace", index=index, address=text, prefixlen=prefixes[family], family=kind, **flags)
            everything = "0.0.0.0/0" if family == 4 else "::/0"
            scope = {"scope": SCOPE_LINK} if family == 4 else {}
            ip.route("replace", dst=everything, oif=index, family=kind, **scope)


def checksums_in_software(name: str) -> None:
    """Make the kernel compute full checksums on this interface (ethtool -K NAME tx off).

    A veth offloads checksums to hardware that does not exist; to a userspace switch every packet would look corrupt.
    """
    command = array.array("B", struct.pack("=II", ETHTOOL_STXCSUM, 0))
    address, _ = command.buffer_info()
    request = struct.pack("16sP", name.encode(), address).ljust(40, b"\0")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, request)


def forget_neighbours() -> None:
    """Empty the ARP and neighbor tables of this namespace."""
    with IPRoute() as ip:
        for kind in (socket.AF_INET, socket.AF_INET6):
            for entry in ip.get_neighbours(family=kind):
                if entry["state"] & (NUD_NOARP | NUD_PERMANENT):
                    continue
                with suppress(NetlinkError):  # the entry has expired
                    ip.neigh("del", dst=entry.get_attr("NDA_DST"), ifindex=entry["ifindex"], family=kind)


def _index(ip: IPRoute, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    if not found:
        raise NetlinkError(errno.ENODEV, f"no interface {name}")
    return int(found[0])
