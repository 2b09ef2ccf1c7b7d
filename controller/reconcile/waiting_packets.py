"""Packets that switches hold until they have realized what was desired when the packets came, or for HOLD_SECONDS.

What waits of one switch is released in the order in which it came: revisions and deadlines never get smaller. So a
batch costs what it releases, however many wait behind. What one pod has waiting is limited by its share of the room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from controller.reconcile.commands import ReleasePackets
from controller.reconcile.events import DnsPacket
from controller.reconcile.switch import Switch
from flows.plan.shared_room import SharedRoom

HOLD_SECONDS = 2.0  # the longest that a packet waits for flows
_NEVER = 1 << 62  # a revision that no switch realizes
MAX_WAITING = 4096  # packets of one switch that wait; more are dropped, and the pod asks again


@dataclass(slots=True)
class _Waiting:
    packets: tuple[DnsPacket, ...]
    deadline: float


@dataclass(slots=True)
class _OfSwitch:
    """`new` waits for a revision that is not known yet, `waiting` for the one beside it; `free` for nothing."""

    free: list[DnsPacket] = field(default_factory=list)
    new: list[_Waiting] = field(default_factory=list)
    waiting: deque[tuple[int, _Waiting]] = field(default_factory=deque)
    room: SharedRoom[int] = field(default_factory=lambda: SharedRoom(MAX_WAITING))  # by ofport

    def take_ready(self, realized: int, now: float) -> Iterator[DnsPacket]:
        """The packets that need not wait longer."""
        while self.waiting and (self.waiting[0][0] <= realized or self.waiting[0][1].deadline <= now):
            _, one = self.waiting.popleft()
            for packet in one.packets:
                self.room.give_back(packet.ofport)
                yield packet


class WaitingPackets:
    """The packets of all switches."""

    def __init__(self) -> None:
        self._of: dict[int, _OfSwitch] = {}  # by datapath id

    def hold(self, packets: Iterable[DnsPacket], now: float) -> bool:
        """Packets of one pod wait for what is desired once plans are updated. False where the pod has its share."""
        held = tuple(packets)
        of = self._of.setdefault(held[0].dpid, _OfSwitch())
        if not of.room.has_room(held[0].ofport, len(held)):
            return False
        for packet in held:
            of.room.take(packet.ofport)
        of.new.append(_Waiting(held, now + HOLD_SECONDS))
        return True

    def free(self, packets: Iterable[DnsPacket]) -> None:
        """Packets of one pod that need not wait."""
        held = tuple(packets)
        self._of.setdefault(held[0].dpid, _OfSwitch()).free += held

    def releases(self, now: float, switch_of: Callable[[int], Switch | None]) -> list[ReleasePackets]:
        """The packets to release now. Call it when plans are updated and switches have their desired flows."""
        found = []
        for dpid, of in list(self._of.items()):
            switch = switch_of(dpid)
            revision = max(switch.desired_revision, 0) if switch is not None else _NEVER
            of.waiting += [(revision, one) for one in of.new]
            of.new = []
            ready, of.free = of.free, []
            ready += of.take_ready(-1 if switch is None else switch.realized_revision, now)
            if ready:
                found.append(ReleasePackets(dpid, ready[-1].session, tuple(ready)))
            if not of.waiting:
                del self._of[dpid]
        return found

    def __len__(self) -> int:
        """How many packets wait for flows."""
        return sum(of.room.used for of in self._of.values())

    def due_at(self) -> float | None:
        """When `releases` has something to do although no event comes."""
        return min((of.waiting[0][1].deadline for of in self._of.values() if of.waiting), default=None)

    def forget(self, dpid: int) -> None:
        """A switch has another session, or none: its packets are gone with the one before."""
        self._of.pop(dpid, None)
