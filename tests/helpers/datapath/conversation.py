"""Plays a probed connection packet by packet on two nodes, and compares each packet with the verdict.

The first packet, its answer, the next packet and an ICMP error, then the same after policies changed. Fragments and
errors are part of it. The switches may be interpreters or real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from flows.cluster.model import Cluster
from flows.cluster.model import Protocol as Transport
from flows.interpret import packet as packets
from flows.interpret.packet import ACK, SYN, Packet
from flows.policy.explanation import Verdict
from flows.policy.probe import Endpoint, Probe
from flows.policy.verdict import verdict
from tests.helpers.datapath.two_nodes import TwoNodes, first_packet, where

_WITHOUT_PORTS_OR_IDENTIFIER = 47
SCTP, TCP = int(Transport.SCTP), int(Transport.TCP)
CLIENTS_PORT = 32768


class Mismatch(AssertionError):
    """A packet that passed though it should not have, or the other way round."""


@dataclass(slots=True)
class Conversation:
    """One probe's connection; `committed` once a packet of it was let through, `let_out` once its own node let one out,
    since when that node's switch may have recorded it."""

    network: TwoNodes
    probe: Probe
    first: Packet
    userspace: bool
    committed: bool = False
    let_out: bool = False

    def open(self) -> None:
        """A stray answer, first packet, answer, next packet, an error, and fragments."""
        self.backward(packets.answer(self.first))
        self.forward(self.first)
        self.backward(packets.answer(self.first))
        self.forward(replace(self.first, flags=self.first.flags and ACK))
        self.error()
        self.fragments()

    def resume(self) -> None:
        """After policies changed: first only the answering direction sends, then both."""
        if self.committed and not self._is_learned:
            self.backward(packets.answer(replace(self.first, flags=self.first.flags and ACK)))
            self.error()
        self.forward(replace(self.first, flags=self.first.flags and ACK))
        self.backward(packets.answer(replace(self.first, flags=self.first.flags and ACK)))
        self.error()

    def restarted(self) -> None:
        """Both switches forgot the connection. It goes on, from either side, only if the verdict allows it."""
        self.forget()
        later = replace(self.first, flags=ACK)
        for _ in range(2):
            self.backward(packets.answer(later))
        self.forward(later)
        self.backward(packets.answer(later))
        self.error()

    def forget(self) -> None:
        """Both switches forgot the connection."""
        self.committed = self.let_out = False

    @property
    def allowed(self) -> bool:
        """What the verdict says now. Of a recorded connection, expired addresses of names count too (ADR 21)."""
        cluster = self.network.cluster
        return self._allowed(with_expired(cluster) if self.committed and not self._is_learned else cluster)

    def _allowed(self, cluster: Cluster) -> bool:
        ends = (self.probe.source, self.probe.destination)
        return verdict(cluster, self.probe).allowed and all(map(self.network.reachable, ends))

    @property
    def _lives_on(self) -> bool:
        """Whether only an expired address lets the connection pass, which its own node perhaps has recorded."""
        cluster = self.network.cluster
        return self.let_out and not self.committed and self._allowed(with_expired(cluster)) > self._allowed(cluster)

    def forward(self, packet: Packet) -> None:
        """A packet in the original direction."""
        allowed = self.allowed
        if self._undecided(packet):
            self._expect_either(packet, self.probe.source, self.probe.destination)
            return
        self._expect(packet, self.probe.source, self.probe.destination, allowed)
        self.committed |= allowed
        self.let_out |= verdict(self.network.cluster, self.probe).egress.allowed

    def backward(self, packet: Packet) -> None:
        """A packet of the answering direction; without a connection it passes only where its sender may open one."""
        if self.committed and (self.allowed or not self._is_learned):
            self._expect(packet, self.probe.destination, self.probe.source, self.allowed)
            return
        if self._undecided(packet):
            self._expect_either(packet, self.probe.destination, self.probe.source)
            return
        if self._picked_up(packet):
            self._expect(packet, self.probe.destination, self.probe.source, self.allowed)
            return
        reverse = self._reverse
        if self._is_learned and self.committed:
            # Conntrack has one entry for both ends' associations, so an answer may be known by the table alone (ADR 1);
            # that revoking cuts an association is seen in tests/packets.
            return
        # Where only the far node denies, the near one has let a connection out and takes the rest for its answers.
        if not reverse.egress.allowed or (not reverse.allowed and self._within_one_node):
            self._expect(packet, self.probe.destination, self.probe.source, False)

    def error(self) -> None:
        """An ICMP error from the destination about the first packet passes with its connection, and only with it.

        Of SCTP userspace conntrack knows one direction between two addresses, perhaps not this one (ADR 11).
        """
        if self.committed and not self._is_learned:
            error = packets.icmp_error(self.probe.destination.address, self.first)
            self._expect(error, self.probe.destination, self.probe.source, self.allowed)

    def fragments(self) -> None:
        """A packet in pieces, last piece first: all arrive, or none.

        Of SCTP on userspace conntrack none may arrive although its rule allows: its ports cannot be seen in pieces.
        """
        if self.probe.protocol not in (Transport.TCP, Transport.UDP, SCTP):
            return
        allowed = self.allowed
        whole = replace(self.first, flags=self.first.flags and ACK)
        pieces = [self._addressed(one) for one in packets.split(whole, self.first.sport, 2)]
        got = [one for piece in reversed(pieces) for one in self.network.send(self.probe.source, piece)]
        ends = self.probe.source, self.probe.destination
        wanted = [(where(ends[1]), self.network.arriving(piece, *ends)) for piece in pieces] if allowed else []
        if self._is_learned and not got:
            return
        if sorted(got, key=str) != sorted(wanted, key=str):
            self._fail("fragments", whole, got, allowed)

    @property
    def _is_learned(self) -> bool:
        """SCTP on userspace conntrack: a table that the switch learns stands for the connections.

        It hears of a change by the opener's next packet, not before; where that is denied, an answer is a packet like
        others.
        """
        return self.userspace and self.probe.protocol == SCTP

    @property
    def _reverse(self) -> Verdict:
        """What the verdict says of the destination opening to the source's port."""
        port = None if self.probe.port is None else self.first.sport
        return verdict(
            self.network.cluster, Probe(self.probe.destination, self.probe.source, self.probe.protocol, port)
        )

    def _picked_up(self, packet: Packet) -> bool:
        """Whether conntrack meets this connection in its middle (ADR 10)."""
        return packet.proto == TCP and not packet.flags & SYN and not self.committed

    def _undecided(self, packet: Packet) -> bool:
        """Whether the ports leave open which end is the client; a client's port is always ephemeral."""
        return self._picked_up(packet) and (self.probe.port or 0) >= CLIENTS_PORT

    def _expect_either(self, packet: Packet, source: Endpoint, destination: Endpoint) -> None:
        """Never without the verdict. With it, where the other reading is denied, it depends on what each of the two
        nodes knows."""
        if self.allowed and not self._reverse.allowed:
            self.network.send(source, self.network.addressed(packet, source, destination))
            return
        self._expect(packet, source, destination, self.allowed)

    @property
    def _within_one_node(self) -> bool:
        return self.network.node_of(self.probe.source) == self.network.node_of(self.probe.destination)

    def _addressed(self, packet: Packet) -> Packet:
        return self.network.addressed(packet, self.probe.source, self.probe.destination)

    def _expect(self, packet: Packet, source: Endpoint, destination: Endpoint, allowed: bool) -> None:
        packet = self.network.addressed(packet, source, destination)
        got = self.network.send(source, packet)
        if not allowed and self._lives_on:
            return
        wanted = [(where(destination), self.network.arriving(packet, source, destination))] if allowed else []
        if got != wanted:
            self._fail(f"{source} to {destination}", packet, got, allowed)

    def _fail(self, what: str, packet: Packet, got: Sequence[object], allowed: bool) -> None:
        reasons = "\n".join(verdict(self.network.cluster, self.probe).explain())
        raise Mismatch(f"{what}: expected {'delivery' if allowed else 'nothing'}, got {got}\n{packet}\n{reasons}")


def with_expired(cluster: Cluster) -> Cluster:
    """The cluster in which expired addresses of names count like those that are live."""
    learned = {pod: tuple([one._replace(live=True) for one in known]) for pod, known in cluster.learned.items()}
    return replace(cluster, learned=MappingProxyType(learned))


def _has_no_ports(probe: Probe) -> bool:
    """All such packets between two addresses are one connection: one probe must be forgotten before the next."""
    return probe.protocol == _WITHOUT_PORTS_OR_IDENTIFIER


def converse(network: TwoNodes, probes: Sequence[Probe], changes: Sequence[Cluster], userspace: bool) -> int:
    """Play every probe's conversation, then resume each after every change. Returns how many probes were played."""
    played = []
    for number, probe in enumerate(sorted(probes, key=_has_no_ports, reverse=True), 1):
        if not network.decidable(probe):
            continue
        first = network.addressed(first_packet(probe, number), probe.source, probe.destination)
        one = Conversation(network, probe, first, userspace)
        one.open()
        if _has_no_ports(probe):
            network.forget_connections()
        else:
            played.append(one)
    for cluster in changes:
        network.apply(cluster)
        for one in played:
            one.resume()
        network.forget_connections()
        for one in played:
            if one.probe.protocol == TCP:
                one.restarted()
            else:
                one.forget()
    return len(played)
