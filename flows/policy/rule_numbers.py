"""Stable numbers for rules: a rule has the same conjunction id in every process and after every restart.

A rule's number is a hash of its identity, so it needs no stored state and no order of arrival. Each identity has a
sequence of numbers, `nth_number(identity, 0)`, `nth_number(identity, 1)`, and so on. Where two identities want the same
number, the smaller identity (as bytes) has it, and the other goes on to its next one. So the numbers depend on the set
of identities alone, and adding or removing a rule renumbers only rules that collide with it.

Example: A < B, and both hash to 7 first; B's second number is 9. With B alone, B has 7. Adding A gives 7 to A and 9 to
B (`renumbered` has B). Removing A gives 7 back to B. Adding B before A ends in the same numbers.

`assign_numbers` computes the numbers from nothing, RuleNumbers keeps them incrementally; tests hold them equal.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from hashlib import blake2b

NUMBER_BITS = 32  # the width of a conjunction id (ovs-actions(7))


def assign_numbers(identities: Iterable[bytes], bits: int | None = None) -> dict[bytes, int]:
    """A distinct number above 0 for each identity: the first of its sequence that no smaller identity has."""
    found: dict[bytes, int] = {}
    taken: set[int] = set()
    for identity in sorted(set(identities)):
        attempt = 0
        while (number := nth_number(identity, attempt, bits)) in taken:
            attempt += 1
        taken.add(number)
        found[identity] = number
    return found


class RuleNumbers:
    """The numbers, `bits` wide, of a changing set of identities. `renumbered` has the identities whose number changed;
    the caller clears it."""

    def __init__(self, bits: int | None = None) -> None:
        self._bits = bits
        self.renumbered: set[bytes] = set()
        self._holders: dict[int, bytes] = {}
        self._attempts: dict[bytes, int] = {}  # of identities that do not have their first number
        self._waiting: dict[int, list[bytes]] = {}  # identities that want a number which a smaller one has, sorted

    def __len__(self) -> int:
        return len(self._holders)

    def number(self, identity: bytes) -> int:
        """The number of an identity that was added."""
        return self._nth(identity, self._attempts.get(identity, 0))

    def add(self, identity: bytes) -> int:
        """Add an identity. Returns its number, which a later `add` may still change."""
        found = number = self._nth(identity, 0)
        seeker, attempt = identity, 0
        while (holder := self._holders.get(number)) is not None:
            if seeker < holder:
                self._assign(seeker, number, attempt)
                seeker, holder, attempt = holder, seeker, self._attempts.get(holder, 0)
            insort(self._waiting.setdefault(number, []), seeker)
            attempt += 1
            number = self._nth(seeker, attempt)
            if seeker == identity:
                found = number
        self._assign(seeker, number, attempt)
        self.renumbered.discard(identity)
        return found

    def remove(self, identity: bytes) -> None:
        """Remove an identity. The smallest identity that waits for its number gets it, and so on with that one's."""
        self.renumbered.discard(identity)
        attempt = self._attempts.pop(identity, 0)
        for earlier in range(attempt):
            self._stop_waiting(identity, self._nth(identity, earlier))
        number = self._nth(identity, attempt)
        del self._holders[number]
        while waiting := self._waiting.get(number):
            heir = waiting[0]
            before = self._attempts.get(heir, 0)
            attempt = next(n for n in range(before) if self._nth(heir, n) == number)
            for earlier in range(attempt, before):
                self._stop_waiting(heir, self._nth(heir, earlier))
            self._assign(heir, number, attempt)
            number = self._nth(heir, before)
            del self._holders[number]

    def _assign(self, identity: bytes, number: int, attempt: int) -> None:
        self._holders[number] = identity
        if attempt:
            self._attempts[identity] = attempt
        else:
            self._attempts.pop(identity, None)
        self.renumbered.add(identity)

    def _stop_waiting(self, identity: bytes, number: int) -> None:
        waiting = self._waiting[number]
        del waiting[bisect_left(waiting, identity)]
        if not waiting:
            del self._waiting[number]

    def _nth(self, identity: bytes, attempt: int) -> int:
        return nth_number(identity, attempt, self._bits)


def nth_number(identity: bytes, attempt: int, bits: int | None = None) -> int:
    """The number at place `attempt`, from 0, of an identity's sequence: 1 to 2**bits - 1 (NUMBER_BITS if None)."""
    digest = blake2b(identity, digest_size=8, salt=attempt.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") % ((1 << (bits or NUMBER_BITS)) - 1) + 1
