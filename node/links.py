"""Interfaces, their addresses and settings, in the network namespace of the caller (rtnetlink(7), ip-link(8))."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from node.addresses import family_of, text_of
from node.errors import NodeError
from node.netlink import (
    NLA_F_NESTED,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
    number,
    text,
)
from node.quick import NamedTuple, socket

MAX_NAME = 15  # bytes of an interface's name (IFNAMSIZ less the zero)
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_CACHEINFO, _FOR_EVER = 6, 0xFFFFFFFF
_IFA_F_NODAD = 0x02
_RT_SCOPE_LINK = 253
_IFF_UP = 0x1
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # ifaddrmsg: family, prefix, flags, scope, index
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17


class Link(NamedTuple):
    """An interface: its number, name, flag `up`, MTU in bytes, and MAC address as text, "" where it has none."""

    ifindex: int
    name: str
    up: bool
    mtu: int
    mac: str


def make_veth(netlink: Netlink, here: str, there: str, namespace: int, mtu: int, mac: str) -> None:
    """Make a veth pair: `here` in this namespace, `there` in the one that the descriptor is open on, with this MAC
    address; both down. One request, so there is never a half of it. Raises NetlinkError."""
    peer = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + text(_IFLA_IFNAME, there) + number(_IFLA_MTU, mtu)
    peer += number(_IFLA_NET_NS_FD, namespace) + attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    info = attribute(
        _IFLA_LINKINFO | NLA_F_NESTED,
        text(_IFLA_INFO_KIND, "veth"),
        attribute(_IFLA_INFO_DATA | NLA_F_NESTED, attribute(_VETH_INFO_PEER | NLA_F_NESTED, peer)),
    )
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + text(_IFLA_IFNAME, here) + number(_IFLA_MTU, mtu) + info
    netlink.change(_RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, f"cannot make the veth pair {here}, {there}")


def find_link(netlink: Netlink, name: str) -> Link | None:
    """The interface of that name, None if there is none."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + text(_IFLA_IFNAME, name)
    try:
        return _read_link(netlink.get(_RTM_GETLINK, body, f"cannot read {name}"))
    except NetlinkError as error:
        if error.number == errno.ENODEV:
            return None
        raise


def get_link(netlink: Netlink, name: str) -> Link:
    """The interface of that name. Raises NodeError if there is none."""
    link = find_link(netlink, name)
    if link is None:
        raise NodeError(f"there is no interface {name}")
    return link


def list_links(netlink: Netlink) -> list[Link]:
    """All interfaces of this namespace."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    return [_read_link(one) for one in netlink.dump(_RTM_GETLINK, body, "cannot list interfaces")]


def set_up(netlink: Netlink, link: Link, mtu: int = 0) -> None:
    """Set an interface up, with this MTU where one is given. Raises NetlinkError."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, link.ifindex, _IFF_UP, _IFF_UP) + (number(_IFLA_MTU, mtu) if mtu else b"")
    netlink.change(_RTM_NEWLINK, body, 0, f"cannot set {link.name} up")


def remove_link(netlink: Netlink, name: str) -> bool:
    """Delete an interface (of a veth pair both ends). Returns whether there was one."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + text(_IFLA_IFNAME, name)
    try:
        netlink.change(_RTM_DELLINK, body, 0, f"cannot delete {name}")
    except NetlinkError as error:
        if error.number == errno.ENODEV:
            return False
        raise
    return True


def add_address(netlink: Netlink, link: Link, address: bytes, prefix: int, as_source: bool = True) -> None:
    """Give an interface an address, usable at once (no duplicate address detection). Without `as_source` nothing is
    sent with it that does not ask for it. Idempotent."""
    flags = _IFA_F_NODAD if len(address) == 16 else 0
    scope = 0 if as_source or len(address) == 16 else _RT_SCOPE_LINK
    body = _ADDRESS.pack(family_of(address), prefix, flags, scope, link.ifindex)
    body += attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address)
    if not as_source and len(address) == 16:
        body += attribute(_IFA_CACHEINFO, struct.pack("=IIII", 0, _FOR_EVER, 0, 0))  # deprecated: RFC 6724, rule 3
    what = f"cannot give {link.name} the address {text_of(address)}"
    netlink.change(_RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_REPLACE, what)


def remove_address(netlink: Netlink, link: Link, address: bytes, prefix: int) -> bool:
    """Take an address from an interface. Returns whether it had it."""
    body = _ADDRESS.pack(family_of(address), prefix, 0, 0, link.ifindex) + attribute(_IFA_LOCAL, address)
    try:
        netlink.change(_RTM_DELADDR, body, 0, f"cannot take {text_of(address)} from {link.name}")
    except NetlinkError as error:
        if error.number == errno.EADDRNOTAVAIL:
            return False
        raise
    return True


def list_addresses(netlink: Netlink, link: Link) -> list[tuple[bytes, int]]:
    """The addresses of an interface with the lengths of their prefixes, those of scope link included."""
    found = []
    for body in netlink.dump(_RTM_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0), "cannot list addresses"):
        _, prefix, _, _, index = _ADDRESS.unpack_from(body)
        values = attributes(body, _ADDRESS.size)
        address = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if index == link.ifindex and address:
            found.append((address, prefix))
    return found


def checksums_in_software(name: str) -> None:
    """Let the kernel compute whole checksums on an interface (`ethtool -K NAME tx off`).

    A veth leaves them to hardware that it does not have; the userspace datapath would see only invalid packets.
    """
    import array

    command = array.array("B", struct.pack("=II", _ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP", name.encode(), command.buffer_info()[0]).ljust(40, b"\0")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        fcntl.ioctl(sock.fileno(), _SIOCETHTOOL, request)
    except OSError as error:
        raise NodeError(f"cannot switch checksum offload of {name} off: {error.strerror}") from None
    finally:
        sock.close()


def sysctl(family: str, name: str, key: str, value: int) -> None:
    """Set `net.FAMILY.conf.NAME.KEY`; `family` is ipv4 or ipv6. A kernel without that family or key needs no setting.
    Raises NodeError where the value is another and cannot be set."""
    path = f"/proc/sys/net/{family}/conf/{name}/{key}"
    try:
        with open(path, encoding="ascii") as file:
            if file.read().strip() == str(value):
                return
        with open(path, "w", encoding="ascii") as file:
            file.write(str(value))
    except FileNotFoundError:
        return
    except OSError as error:
        raise NodeError(f"cannot set {path} to {value}: {error.strerror}") from None


def random_mac() -> str:
    """A random unicast MAC address of the locally administered kind, as text."""
    first, *others = os.urandom(6)
    return ":".join(f"{byte:02x}" for byte in (first & 0xFC | 0x02, *others))


def _read_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    values = attributes(body, _LINK.size)
    mtu = struct.unpack("=I", values[_IFLA_MTU])[0] if _IFLA_MTU in values else 0
    name = values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    mac = ":".join(f"{byte:02x}" for byte in values.get(_IFLA_ADDRESS, b""))
    return Link(index, name, bool(flags & _IFF_UP), mtu, mac)
