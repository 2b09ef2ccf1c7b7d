"""Stable numbers for rules: the same rule gets the same conjunction id in every process and on every restart.

A number is a hash of what the rule says, so it needs no memory and no order of arrival. Rules whose hashes meet are
told apart by what they say: the smaller one has the number, the others go on to their next one. So the numbers are a
function of the set of rules alone, and a rule that comes or goes moves only those that want the same number.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from hashlib import blake2b

NUMBER_BITS = 32  # the width of a conjunction id (ovs-actions(7))


def assign_numbers(identities: Iterable[bytes]) -> dict[bytes, int]:
    """A distinct number above 0 for each identity: the first of its own that no smaller identity has.

    This is the plain statement of what `RuleNumbers` keeps.
    """
    found: dict[bytes, int] = {}
    taken: set[int] = set()
    for identity in sorted(set(identities)):
        attempt = 0
        while (number := nth_number(identity, attempt)) in taken:
            attempt += 1
        taken.add(number)
        found[identity] = number
    return found


class RuleNumbers:
    """The numbers of a set of identities that changes. `moved` has those that got another one; whoever reads it clears
    it."""

    def __init__(self) -> None:
        self.moved: set[bytes] = set()
        self._holders: dict[int, bytes] = {}
        self._attempts: dict[bytes, int] = {}  # of identities that have not their first number
        self._waiting: dict[int, list[bytes]] = {}  # who wanted a number that a smaller one has, sorted

    def __len__(self) -> int:
        return len(self._holders)

    def of(self, identity: bytes) -> int:
        """The number of one of the identities."""
        return nth_number(identity, self._attempts.get(identity, 0))

    def enter(self, identity: bytes) -> int:
        """An identity is new. Returns its number, which others that enter may still move."""
        found = number = nth_number(identity, 0)
        comer, attempt = identity, 0
        while (holder := self._holders.get(number)) is not None:
            if comer < holder:
                self._hold(comer, number, attempt)
                comer, holder, attempt = holder, comer, self._attempts.get(holder, 0)
            insort(self._waiting.setdefault(number, []), comer)
            attempt += 1
            number = nth_number(comer, attempt)
            if comer == identity:
                found = number
        self._hold(comer, number, attempt)
        self.moved.discard(identity)
        return found

    def leave(self, identity: bytes) -> None:
        """An identity is gone; who waited for its number has it now, and so on."""
        self.moved.discard(identity)
        attempt = self._attempts.pop(identity, 0)
        for earlier in range(attempt):
            self._unwait(identity, nth_number(identity, earlier))
        number = nth_number(identity, attempt)
        del self._holders[number]
        while waiting := self._waiting.get(number):
            heir = waiting[0]
            before = self._attempts.get(heir, 0)
            attempt = next(n for n in range(before) if nth_number(heir, n) == number)
            for earlier in range(attempt, before):
                self._unwait(heir, nth_number(heir, earlier))
            self._hold(heir, number, attempt)
            number = nth_number(heir, before)
            del self._holders[number]

    def _hold(self, identity: bytes, number: int, attempt: int) -> None:
        self._holders[number] = identity
        if attempt:
            self._attempts[identity] = attempt
        else:
            self._attempts.pop(identity, None)
        self.moved.add(identity)

    def _unwait(self, identity: bytes, number: int) -> None:
        waiting = self._waiting[number]
        del waiting[bisect_left(waiting, identity)]
        if not waiting:
            del self._waiting[number]


def nth_number(identity: bytes, attempt: int) -> int:
    """The number that an identity wants when it cannot have the ones before."""
    digest = blake2b(identity, digest_size=8, salt=attempt.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") % ((1 << NUMBER_BITS) - 1) + 1
