"""Addresses and CIDRs as text and bytes. The module `ipaddress` would do this too, at the price of a slower start."""

from __future__ import annotations

from node.errors import NodeError
from node.quick import NamedTuple, socket


class Cidr(NamedTuple):
    """A range of addresses: the bytes of its first one (4 or 16) and the length of its prefix in bits."""

    packed: bytes
    prefix: int

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return family_of(self.packed)

    def __str__(self) -> str:
        return f"{text_of(self.packed)}/{self.prefix}"

    def __contains__(self, packed: object) -> bool:
        return isinstance(packed, bytes) and len(packed) == len(self.packed) and self._start(packed) == self.packed

    def address(self, number: int) -> bytes:
        """The address with this number in the range, from 0. Raises NodeError where the range has no such address."""
        bits = 8 * len(self.packed) - self.prefix
        if not 0 <= number < 1 << bits:
            raise NodeError(f"{self} has no address number {number}")
        return (int.from_bytes(self.packed, "big") + number).to_bytes(len(self.packed), "big")

    def _start(self, packed: bytes) -> bytes:
        host = 8 * len(packed) - self.prefix
        return (int.from_bytes(packed, "big") >> host << host).to_bytes(len(packed), "big")


def family_of(packed: bytes) -> int:
    """AF_INET or AF_INET6, by the length of the address."""
    return int(socket.AF_INET if len(packed) == 4 else socket.AF_INET6)


def text_of(packed: bytes) -> str:
    """An address as text."""
    return socket.inet_ntop(family_of(packed), packed)


def parse_address(text: str) -> bytes:
    """An address as 4 or 16 bytes. Raises NodeError for anything else."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        raise NodeError(f"{text[:60]!r} is no address") from None


def parse_interface(text: str) -> tuple[bytes, int]:
    """An address with the length of its prefix, such as 10.244.1.5/24. Raises NodeError for anything else."""
    address, slash, length = text.partition("/")
    packed = parse_address(address)
    if not slash or not length.isascii() or not length.isdigit() or len(length) > 3 or int(length) > 8 * len(packed):
        raise NodeError(f"{text[:60]!r} is no address with a prefix length")
    return packed, int(length)


def parse_cidr(text: str) -> Cidr:
    """A CIDR, whose host bits must be 0; an address alone is a range of one. Raises NodeError for anything else."""
    packed, prefix = parse_interface(text) if "/" in text else (parse_address(text), 32 if ":" not in text else 128)
    cidr = Cidr(packed, prefix)
    if packed not in cidr:
        raise NodeError(f"{text[:60]!r} has bits set behind its prefix")
    return cidr
