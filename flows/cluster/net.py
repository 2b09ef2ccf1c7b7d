"""IP addresses and prefixes as small tuples: parsing, printing, containment and subtraction.

A tuple of integers hashes and compares at C speed; `ipaddress` objects do not. Addresses are parsed and printed by
inet_pton and inet_ntop, prefixes parsed by `ipaddress`. Nothing of policy may live here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from itertools import pairwise
from operator import itemgetter
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from flows.cluster.tuples import new_tuple

ADDRESS_BITS = {4: 32, 6: 128}
_number = int.from_bytes


class Net(NamedTuple):
    """A prefix, or a single address when `prefix` is the family's width.

    `value` is the network address as an unsigned integer with every host bit zero.
    """

    version: int
    value: int
    prefix: int

    def __str__(self) -> str:
        text = address_text(self.version, self.value)
        return text if self.prefix == ADDRESS_BITS[self.version] else f"{text}/{self.prefix}"

    @property
    def is_host(self) -> bool:
        """True for a single address."""
        return self.prefix == ADDRESS_BITS[self.version]

    @property
    def mask(self) -> int:
        """The network mask as an unsigned integer of the family's width."""
        width = ADDRESS_BITS[self.version]
        return ((1 << self.prefix) - 1) << (width - self.prefix)

    def contains(self, other: Net) -> bool:
        """True when `other` lies wholly inside this prefix; families never mix."""
        return self.version == other.version and self.prefix <= other.prefix and (other.value & self.mask) == self.value


def address_text(version: int, value: int) -> str:
    """The textual form of an address given as an integer (RFC 5952 for IPv6)."""
    if version == 4:
        return inet_ntop(AF_INET, value.to_bytes(4, "big"))
    return inet_ntop(AF_INET6, value.to_bytes(16, "big"))


def parse_address(text: str) -> Net:
    """One IPv4 or IPv6 address. Raises ValueError on anything else, a zone index included."""
    try:
        if ":" in text:
            return new_tuple(Net, (6, _number(inet_pton(AF_INET6, text), "big"), 128))
        return new_tuple(Net, (4, _number(inet_pton(AF_INET, text), "big"), 32))
    except OSError:
        raise ValueError(f"{text!r} is not an IP address") from None


# Ranges whose addresses no pod or node can have: (version, first address, prefix length, what it is).
_RESERVED = (
    (4, 0x00000000, 8, "this network (RFC 1122)"),
    (4, 0x7F000000, 8, "loopback"),
    (4, 0xE0000000, 4, "multicast"),
    (4, 0xFFFFFFFF, 32, "broadcast"),
    (6, 0, 128, "the unspecified address"),
    (6, 1, 128, "loopback"),
    (6, 0xFF << 120, 8, "multicast"),
    (6, 0xFFFF << 32, 96, "an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2)"),
)
_RESERVED_RANGES = tuple(
    (version, value >> ADDRESS_BITS[version] - prefix, ADDRESS_BITS[version] - prefix, what)
    for version, value, prefix, what in _RESERVED
)


def host_address_error(net: Net) -> str:
    """Why no pod or node can have this address; "" when it is a possible one."""
    version, value, _ = net
    for family, first, shift, what in _RESERVED_RANGES:
        if family == version and value >> shift == first:
            return f"{net} is {what}, which no pod or node can have"
    return ""


# The widest range of pods that a node may have, by family: a whole cluster's is narrower as a rule.
_WIDEST_POD_RANGE = {4: 8, 6: 32}
_LINK_LOCAL = (Net(4, 0xA9FE0000, 16), Net(6, 0xFE80 << 112, 10))


def pod_range_error(net: Net) -> str:
    """Why no node can have this range for its pods; "" when it is a possible one."""
    widest = _WIDEST_POD_RANGE[net.version]
    if net.prefix < widest:
        return f"{net} is wider than /{widest}, which no node's pods need"
    for family, first, shift, what in _RESERVED_RANGES:
        if family == net.version and net.prefix >= ADDRESS_BITS[family] - shift and net.value >> shift == first:
            return f"{net} is within {what}, which no pod can have"
    if any(one.contains(net) for one in _LINK_LOCAL):
        return f"{net} is link-local, which no pod can have"
    return ""


def parse_network(text: str) -> Net:
    """A prefix in CIDR form; host bits are cleared, as the Kubernetes API does.

    Raises ValueError when the prefix length is missing or the text is not a prefix.
    """
    if "/" not in text or "%" in text:
        raise ValueError(f"{text!r} is not in CIDR form, like 10.0.0.0/8")
    network = ipaddress.ip_network(text, strict=False)
    return Net(network.version, int(network.network_address), network.prefixlen)


def halves(net: Net) -> tuple[Net, Net]:
    """The two prefixes one bit longer. Raises ValueError for a single address."""
    if net.is_host:
        raise ValueError(f"{net} cannot be split")
    longer = net.prefix + 1
    upper = net.value | 1 << (ADDRESS_BITS[net.version] - longer)
    return Net(net.version, net.value, longer), Net(net.version, upper, longer)


def subtract(net: Net, holes: Collection[Net]) -> list[Net]:
    """The fewest prefixes that cover `net` without `holes`, in address order.

    The sibling of each prefix returned contains or overlaps a hole, so no two can be merged. The cost is that of
    sorting the holes, and of the result: at most 32 (IPv4) or 128 (IPv6) prefixes for each hole.
    """
    if not holes:
        return [net]
    inside = _inside(net, holes)
    if inside is None:
        return []
    if not inside:
        return [net]
    found: list[Net] = []
    before: Net | None = None
    for hole in inside:
        shared = net.prefix if before is None else _shared(before, hole) + 1
        if before is not None:
            # The prefixes behind the previous hole, within the half that contains it.
            found.extend(
                sibling for depth in range(before.prefix, shared, -1) if (sibling := _sibling(before, depth, 1))
            )
        found.extend(sibling for depth in range(shared + 1, hole.prefix + 1) if (sibling := _sibling(hole, depth, 0)))
        before = hole
    last = inside[-1]
    found.extend(sibling for depth in range(last.prefix, net.prefix, -1) if (sibling := _sibling(last, depth, 1)))
    return found


def count_remaining(net: Net, holes: Collection[Net]) -> int:
    """The number of prefixes that `subtract` returns, at the cost of sorting the holes.

    In the binary tree from `net` down to the holes, each prefix that contains a hole has two halves, and each half
    contains a hole, is a hole, or is returned.
    """
    if not holes:
        return 1
    inside = _inside(net, holes)
    if inside is None:
        return 0
    halved = inside[0].prefix - net.prefix if inside else 0
    halved += sum(hole.prefix - 1 - _shared(before, hole) for before, hole in pairwise(inside))
    return halved + 1 - len(inside)


def _inside(net: Net, holes: Collection[Net]) -> list[Net] | None:
    """The holes within `net` that no other hole contains, in address order; None when a hole covers `net`."""
    found: list[Net] = []
    for hole in sorted(set(holes)) if holes else ():
        if hole.contains(net):
            return None
        if net.contains(hole) and not (found and found[-1].contains(hole)):
            found.append(hole)
    return found


def _shared(one: Net, other: Net) -> int:
    """The number of leading bits that two prefixes share; neither contains the other."""
    return ADDRESS_BITS[one.version] - (one.value ^ other.value).bit_length()


def _sibling(net: Net, depth: int, bit: int) -> Net | None:
    """The sibling of the prefix of length `depth` that contains `net`, if its last bit is `bit`; else None."""
    place = ADDRESS_BITS[net.version] - depth
    head = net.value >> place
    return Net(net.version, (head ^ 1) << place, depth) if head & 1 != bit else None


_FIELDS = itemgetter(*range(len(Net._fields)))


def collapse(nets: Iterable[Net]) -> list[Net]:
    """The fewest prefixes that cover exactly the union of `nets`, sorted.

    In sorted order a prefix comes right before all prefixes within it, so each is compared with the last one kept only.
    """
    # In the order in which they come, which mostly is theirs; and as plain tuples, which are compared faster.
    ordered = sorted(dict.fromkeys(nets), key=_FIELDS)
    if _are_apart(ordered):
        return ordered
    kept: list[Net] = []
    version = value = prefix = width = 0  # of the last one kept
    for net in ordered:
        family, address, length = net
        if family == version:
            differs = address ^ value
            if prefix <= length and not differs >> (width - prefix):
                continue
            kept.append(net)
            if prefix == length and differs == 1 << (width - length):
                _merge_halves(kept)
                version, value, prefix = kept[-1]
                continue
        else:
            kept.append(net)
            width = ADDRESS_BITS[family]
        version, value, prefix = family, address, length
    return kept


def _are_apart(nets: list[Net]) -> bool:
    """Whether these different prefixes have one length, and no two are halves of one: so it is with most addresses."""
    lengths = {(version, prefix) for version, _, prefix in nets}
    if len(lengths) != 1:
        return False
    ((version, prefix),) = lengths
    last_bit = 1 << (ADDRESS_BITS[version] - prefix)
    values = {value for _, value, _ in nets}
    return values.isdisjoint([value ^ last_bit for value in values])


def _merge_halves(kept: list[Net]) -> None:
    """Replace the last two prefixes by the one of which they are the halves, as long as they are."""
    while len(kept) > 1 and _are_halves(kept[-2], kept[-1]):
        del kept[-1]
        low = kept[-1]
        kept[-1] = Net(low.version, low.value, low.prefix - 1)


def _are_halves(low: Net, high: Net) -> bool:
    """True when the two are the halves of one prefix: they differ in the last bit of their prefix only."""
    last_bit = 1 << (ADDRESS_BITS[low.version] - low.prefix)
    return low.version == high.version and low.prefix == high.prefix and low.value ^ high.value == last_bit
