"""Connection tracking as the two datapaths do it, as far as ct_state and the original direction tuple go.

Time does not pass here: connections never end. TCP packets that close a connection are refused for that reason. What
userspace does was measured on OVS 3.1 (and test_interpreter_on_switch holds it to that); the kernel's part follows
net/openvswitch/conntrack.c and nf_conntrack of Linux.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from flows.interpret.packet import ACK, ECHO_REPLY, ECHO_REQUEST, FIN, ICMP, RST, SYN, UNREACHABLE, Packet
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Nat, NatKind
from flows.openflow.match_fields import CtState


class Datapath(enum.Enum):
    """Whose connection tracking: the kernel's or ovs-vswitchd's own."""

    KERNEL = "kernel"
    USERSPACE = "userspace"


@dataclass(frozen=True, slots=True)
class OriginalTuple:
    """The original direction tuple. `sport` and `dport` are type and code for ICMP, 0 where there are no ports."""

    proto: int
    source: int
    target: int
    sport: int
    dport: int


@dataclass(frozen=True, slots=True)
class Tracked:
    """What conntrack tells of a packet: ct_state bits and whose connection it is; no tuple for an invalid packet.

    `mark` is the ct_mark that commits wrote, 0 for a connection that is not recorded."""

    state: int
    original: OriginalTuple | None = None
    mark: int = 0


_Key = tuple[int, int, int, int, int, int, int]  # zone, version, protocol, source, port, target, port

_INVALID = Tracked(CtState.TRK | CtState.INV)


@dataclass(slots=True)
class _Connection:
    """`opening` is the packet that opened it, `translated` the same as it went on."""

    original: OriginalTuple
    opening: Packet
    translated: Packet
    replied: bool = False
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit does: the bits of ct_mark that it writes, and the translation of a new connection."""

    mark: int = 1
    mask: int = 1
    nat: Nat | None = None
    force: bool = False


class Tracker:
    """The connections of one datapath, in all zones."""

    def __init__(self, datapath: Datapath) -> None:
        self.datapath = datapath
        self._connections: dict[_Key, tuple[_Connection, bool]] = {}

    def track(self, zone: int, packet: Packet, commit: Commit | None, known: dict[int, Tracked]) -> Tracked:
        """Look a whole packet up and, with `commit`, record its connection if it is new; with `force` one to which it
        is a reply is given up.

        `known` is what was told of this very packet before, by zone: a packet moves its connection's state only once.
        """
        if packet.flags & (RST | FIN):
            raise ValueError("closing a TCP connection is not modelled")
        if commit is not None and commit.force:
            self._give_up(zone, packet)
            known.pop(zone, None)
        answer = known.get(zone) or self._look(zone, packet, commit)
        found = self._find(zone, packet)
        # A packet of no recorded connection has nothing to be remembered by.
        if found is not None:
            if commit is not None:
                found[0].mark = found[0].mark & ~commit.mask | commit.mark
            known[zone] = answer = replace(answer, mark=found[0].mark)
        return answer

    def translate(self, zone: int, packet: Packet) -> Packet:
        """The packet as its connection translates it; itself where there is none, or no translation."""
        found = self._find(zone, packet.quoted or packet)
        if found is None or found[0].opening == found[0].translated:
            return packet
        if packet.quoted is not None:
            raise NotImplementedError("the translation of an ICMP error")
        connection, is_reply = found
        if is_reply:
            one = connection.opening
            return _with_ends(packet, one.target, one.source, one.dport, one.sport)
        one = connection.translated
        return _with_ends(packet, one.source, one.target, one.sport, one.dport)

    def _translation(self, zone: int, packet: Packet, nat: Nat | None) -> Packet:
        """The packet that opens a connection, as `nat` has it go on. A source port that is taken gives way to the
        lowest free one; the switch takes any."""
        if nat is None or nat.kind is None:
            return packet
        if nat.kind is NatKind.DESTINATION:
            port = packet.dport if nat.port is None else nat.port
            return _with_ends(packet, packet.source, nat.address, packet.sport, port)
        ports = [nat.port] if nat.port is not None else [packet.sport, *range(1024, 1 << 16)]
        for port in ports:
            turned = _with_ends(packet, nat.address, packet.target, port, packet.dport)
            if self._keys(zone, turned)[1] not in self._connections:
                return turned
        raise NotImplementedError("all source ports are taken")

    def _give_up(self, zone: int, packet: Packet) -> None:
        found = self._find(zone, packet)
        if found is not None and found[1]:
            for key in (self._keys(zone, found[0].opening)[0], self._keys(zone, found[0].translated)[1]):
                del self._connections[key]

    def flush(self) -> None:
        """Forget all connections."""
        self._connections.clear()

    def _look(self, zone: int, packet: Packet, commit: Commit | None) -> Tracked:
        if self._broken(packet):
            return _INVALID
        if packet.quoted is not None:
            return self._related(zone, packet.quoted)
        found = self._find(zone, packet)
        if found is not None:
            connection, is_reply = found
            return Tracked(
                CtState.TRK | self._known_state(connection, is_reply, packet), connection.original, connection.mark
            )
        if not _may_open(packet):
            return _INVALID
        original = self._original(packet)
        if commit is not None:
            translated = self._translation(zone, packet, commit.nat)
            connection = _Connection(original, packet, translated)
            forward, backward = self._keys(zone, packet)[0], self._keys(zone, translated)[1]
            self._connections[backward] = (connection, True)
            self._connections[forward] = (connection, False)
        return Tracked(CtState.TRK | CtState.NEW, original)

    def _known_state(self, connection: _Connection, is_reply: bool, packet: Packet) -> int:
        if is_reply:
            connection.replied = True
            return CtState.EST | CtState.RPL
        if connection.replied:
            return CtState.EST
        # Userspace conntrack does not wait for the answer to a SYN; all else is new until something came back.
        early = self.datapath is Datapath.USERSPACE and packet.proto == oxm.IP_PROTO_TCP and not packet.flags & SYN
        return CtState.EST if early else CtState.NEW

    def _related(self, zone: int, quoted: Packet) -> Tracked:
        found = self._find(zone, quoted)
        if found is None:
            return _INVALID
        connection, was_reply = found
        state = CtState.TRK | CtState.REL | (0 if was_reply else CtState.RPL)
        return Tracked(state, connection.original, connection.mark)

    def _broken(self, packet: Packet) -> bool:
        if packet.corrupt:
            summed = (oxm.IP_PROTO_TCP, oxm.IP_PROTO_UDP, ICMP[packet.version])
            return packet.proto in summed or (packet.proto == oxm.IP_PROTO_SCTP and self.datapath is Datapath.KERNEL)
        if not packet.is_icmp:
            return False
        kinds = (UNREACHABLE,) if packet.quoted is not None else (ECHO_REQUEST, ECHO_REPLY)
        return packet.sport not in {kind[packet.version] for kind in kinds}

    def _find(self, zone: int, packet: Packet) -> tuple[_Connection, bool] | None:
        return self._connections.get(self._keys(zone, packet)[0])

    def _keys(self, zone: int, packet: Packet) -> tuple[_Key, _Key]:
        head = (zone, packet.version, packet.proto)
        if packet.is_icmp:
            # Requests and replies of one identifier are the two directions of one connection.
            kind, version = packet.sport, packet.version
            other = ECHO_REPLY[version] if kind == ECHO_REQUEST[version] else ECHO_REQUEST[version]
            forward = (*head, packet.source, packet.ident, packet.target, kind)
            return forward, (*head, packet.target, packet.ident, packet.source, other)
        sport, dport = self._ports(packet)
        return (*head, packet.source, sport, packet.target, dport), (*head, packet.target, dport, packet.source, sport)

    def _original(self, packet: Packet) -> OriginalTuple:
        sport, dport = (packet.sport, packet.dport) if packet.is_icmp else self._ports(packet)
        return OriginalTuple(packet.proto, packet.source, packet.target, sport, dport)

    def _ports(self, packet: Packet) -> tuple[int, int]:
        with_ports = [oxm.IP_PROTO_TCP, oxm.IP_PROTO_UDP]
        if self.datapath is Datapath.KERNEL:
            with_ports.append(oxm.IP_PROTO_SCTP)
        return (packet.sport, packet.dport) if packet.proto in with_ports else (0, 0)


def _may_open(packet: Packet) -> bool:
    """Both datapaths take a TCP connection up in its middle, but not by the answer to a SYN that they did not see."""
    if packet.is_icmp:
        return packet.sport == ECHO_REQUEST[packet.version]
    if packet.proto == oxm.IP_PROTO_TCP:
        return packet.flags & (SYN | ACK) != SYN | ACK
    return True


def _with_ends(packet: Packet, source: int, target: int, sport: int, dport: int) -> Packet:
    """The packet with other addresses and, where its protocol has them, ports."""
    if packet.is_icmp:
        return replace(packet, source=source, target=target)
    return replace(packet, source=source, target=target, sport=sport, dport=dport)
