"""Which replica owns a switch, and the generation by which it is the only one that writes there.

All replicas agree on a *view*: a number that grows (`epoch`) and the members of that time. It is one object of the
Kubernetes API that is only replaced whole (`controller.replicas`), so an epoch has one list of members, for everybody.
The owner of a switch follows from the view alone, by rendezvous hashing: each member has a score for each switch, and
the highest one owns it. A member that leaves moves only its own switches, one that joins takes only those that become
its own (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998).

The generation of an OpenFlow role request (OpenFlow 1.4.1, section 6.3.7) is made of the epoch and the member's name:

    63      62 ... 32   31 ... 0
     0      epoch       hash of the member's name

So a later view's owner always comes after an earlier view's, and no two members ever have the same generation. A switch
refuses one that is older than the newest it has seen, by the sign of the 64-bit difference.

Values only: no clock, no thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_MEMBERS = 64  # of a view: more would be a mistake, and each costs a score for each switch
MAX_EPOCH = 2**31 - 1  # a Lease's leaseTransitions is a 32-bit number
_NAME_BITS = 32
_MODULUS = 1 << 64


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A replica. `incarnation` tells the processes apart that had this name one after the other."""

    name: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class View:
    """The members of one epoch, in the order of their names; each name once."""

    epoch: int
    members: tuple[Member, ...]
    names: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(member.name for member in self.members))

    def has(self, member: Member) -> bool:
        """Whether this process, not another one of its name, is a member."""
        return member in self.members

    def owner(self, switch: str) -> str:
        """The name of the member that owns a switch; "" in a view without members."""
        return owner_of(switch, self.names)


def owner_of(switch: str, names: Iterable[str]) -> str:
    """The owner of a switch among members with these names; "" without any."""
    return max(names, key=lambda name: (_score(name, switch), name), default="")


def _score(name: str, switch: str) -> bytes:
    text = f"{len(name)}:{name}{switch}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()


def generation(epoch: int, name: str) -> int:
    """The generation in which a member writes in an epoch."""
    return ((epoch << _NAME_BITS) | _name_hash(name)) % _MODULUS


def generation_after(found: int, name: str) -> int:
    """A generation of a member that a switch which has seen `found` accepts.

    For a switch that is ahead of the epochs, since the API was restored from a backup, or the switch does not tell the
    truth about itself: neither must concern other switches.
    """
    return generation(((found >> _NAME_BITS) + 1) % (1 << (64 - _NAME_BITS)), name)


def epoch_of(number: int) -> int:
    """The epoch of a generation."""
    return number >> _NAME_BITS


def is_generation_of(number: int, name: str) -> bool:
    """Whether a generation is a member's with this name; one in 2^32 others looks the same."""
    return number % (1 << _NAME_BITS) == _name_hash(name)


def is_stale(number: int, newest: int) -> bool:
    """Whether a switch that has seen the generation `newest` refuses `number`: the rule of OpenFlow 1.4.1, 6.3.7."""
    return (number - newest) % _MODULUS >= _MODULUS // 2


def _name_hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
