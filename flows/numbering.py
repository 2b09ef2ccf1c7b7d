"""Stable numbers for rules: the same rule gets the same conjunction id in every process and on every restart.

A number is a hash of what the rule says, so it needs no memory and no order of arrival. Two rules of one switch whose
hashes meet are told apart deterministically.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from hashlib import blake2b

NUMBER_BITS = 32  # the width of a conjunction id (ovs-actions(7))


def assign_numbers(identities: Iterable[bytes], bits: int | None = None) -> dict[bytes, int]:
    """A distinct number above 0 for each identity, a function of the set alone.

    Where hashes meet, the smaller identity keeps its number and the others are hashed again with a counter, in sorted
    order, until free; rules without a collision are never affected.
    """
    bits = bits or NUMBER_BITS
    by_number: dict[int, list[bytes]] = defaultdict(list)
    for identity in identities:
        by_number[_hash(identity, 0, bits)].append(identity)
    numbers: dict[bytes, int] = {}
    losers: list[bytes] = []
    for number, claimants in by_number.items():
        first, *rest = sorted(claimants) if len(claimants) > 1 else claimants
        numbers[first] = number
        losers.extend(rest)
    taken = set(by_number)
    for identity in sorted(losers):
        attempt = 1
        while (number := _hash(identity, attempt, bits)) in taken:
            attempt += 1
        taken.add(number)
        numbers[identity] = number
    return numbers


def number_of(identity: bytes) -> int:
    """The number that an identity has where it meets no other with the same."""
    return _hash(identity, 0, NUMBER_BITS)


def _hash(identity: bytes, attempt: int, bits: int) -> int:
    digest = blake2b(identity, digest_size=8, salt=attempt.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") % ((1 << bits) - 1) + 1
