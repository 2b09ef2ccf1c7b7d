"""DNS packets on their way to the reconciler: bounded, and taken in turns, so that a flood delays who floods.

Switches take turns, and on each switch its ports do. Room is shared in the same two steps, so neither a pod nor a node
can keep others' packets out. Not safe for threads: the event queue has a lock.
"""

from __future__ import annotations

from collections import deque

from controller.reconcile.events import DnsPacket
from flows.plan.shared_room import SharedRoom

MAX_PACKETS = 32_768  # that wait here
MAX_OF_SWITCH = 4_096  # of one switch


class _OfSwitch:
    __slots__ = ("ports", "room")

    def __init__(self) -> None:
        self.ports: dict[int, deque[DnsPacket]] = {}  # by ofport; the first is next
        self.room: SharedRoom[int] = SharedRoom(MAX_OF_SWITCH)


class PacketQueue:
    """Packets by switch and port."""

    def __init__(self) -> None:
        self._switches: dict[int, _OfSwitch] = {}  # by datapath id; the first is next
        self._room: SharedRoom[int] = SharedRoom(MAX_PACKETS)

    def __len__(self) -> int:
        return self._room.used

    def put(self, packet: DnsPacket) -> bool:
        """Append a packet. False where its switch or its port has its share."""
        of = self._switches.get(packet.dpid)
        if of is None:
            of = _OfSwitch()
        if not (self._room.has_room(packet.dpid) and of.room.has_room(packet.ofport)):
            return False
        self._switches.setdefault(packet.dpid, of)
        self._room.take(packet.dpid)
        of.room.take(packet.ofport)
        of.ports.setdefault(packet.ofport, deque()).append(packet)
        return True

    def take(self, most: int) -> list[DnsPacket]:
        """The next packets."""
        return [self._next() for _ in range(min(most, len(self)))]

    def _next(self) -> DnsPacket:
        dpid = next(iter(self._switches))
        of = self._switches.pop(dpid)
        ofport = next(iter(of.ports))
        waiting = of.ports.pop(ofport)
        packet = waiting.popleft()
        if waiting:
            of.ports[ofport] = waiting  # behind the others
        if of.ports:
            self._switches[dpid] = of
        self._room.give_back(dpid)
        of.room.give_back(ofport)
        return packet
