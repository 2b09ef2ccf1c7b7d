"""The actions of OpenFlow 1.4 and Open vSwitch that Headgate uses, as frozen values (ovs-actions(7)).

Their bytes are in `flows.wire.actions`, their text in `flows.wire.text`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from flows.openflow.match import Term
from flows.openflow.match_fields import Field
from flows.openflow.register_bits import Range


class Output(NamedTuple):
    """Send to an ofport of 32 bits; `port_numbers` has the reserved ones."""

    port: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """Send the packet to the controller, whole (OFPAT_OUTPUT to OFPP_CONTROLLER, without a limit of its length)."""


@dataclass(frozen=True, slots=True)
class Note:
    """Does nothing, and carries bytes, the last of which is not 0 (NXAST_NOTE, ovs-actions(7) `note`)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class OutputRegister:
    """Send to the ofport in register bits (NXAST_OUTPUT_REG, ovs-actions(7) `output`)."""

    source: Range


@dataclass(frozen=True, slots=True)
class Load:
    """Write a constant into register bits (NXAST_REG_LOAD)."""

    place: Range
    value: int


@dataclass(frozen=True, slots=True)
class Move:
    """Copy register bits (NXAST_REG_MOVE); both ranges have one width."""

    source: Range
    target: Range


@dataclass(frozen=True, slots=True)
class SetField:
    """Write a whole field of the packet or of its tunnel (OFPAT_SET_FIELD)."""

    field: Field
    value: int


@dataclass(frozen=True, slots=True)
class DecTtl:
    """Decrement the hop limit (OFPAT_DEC_NW_TTL). Where it is 0 or 1 the switch ends the flow's processing here."""


@dataclass(frozen=True, slots=True)
class Push:
    """Push bits of the packet or of a register onto the stack (NXAST_STACK_PUSH)."""

    source: Range


@dataclass(frozen=True, slots=True)
class Pop:
    """Pop the value that was pushed last, and write it to `target` (NXAST_STACK_POP)."""

    target: Range


class NatKind(enum.Enum):
    """Which end of a connection a new translation replaces; the value is ovs-ofctl's word."""

    SOURCE = "src"
    DESTINATION = "dst"


@dataclass(frozen=True, slots=True)
class Nat:
    """The address translation of a `Ct` (NXAST_NAT, ovs-actions(7) `ct`).

    With a `kind`, which needs `Ct.commit`, a new connection gets this translation: its source or destination becomes
    `address` (an integer, of IP `version` 4 or 6), and `port` if given. Without a port conntrack keeps the packet's, or
    chooses another source port if that one is taken. Without a `kind` nothing new is translated: packets of a
    connection that has a translation get it, replies its reverse.
    """

    kind: NatKind | None = None
    version: int = 4
    address: int = 0
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Ct:
    """Look the packet up in a conntrack zone, and recirculate it to `table` if given (NXAST_CT).

    With `commit` the connection is recorded, and marked as `pipeline.registers.RECORDED`; `marks` write further bits of
    its ct_mark, in order. With `force` too, an entry of which the packet is a reply is deleted, and the packet opens a
    new one. `nat` translates addresses and ports.
    """

    zone: int
    table: int | None = None
    commit: bool = False
    force: bool = False
    nat: Nat | None = None
    marks: tuple[Load | Move, ...] = ()


@dataclass(frozen=True, slots=True)
class Clone:
    """Carry out one action on a copy of the packet, and go on with the packet as it was (NXAST_CLONE)."""

    action: Ct


@dataclass(frozen=True, slots=True)
class ToGroup:
    """Send through the group of this number (OFPAT_GROUP), whose buckets have the actions: see `group`."""

    number: int


@dataclass(frozen=True, slots=True)
class Meter:
    """Pass the packet through a meter of the switch, which may drop it. It must be the first of a flow's actions, for
    OpenFlow 1.4 makes it an instruction."""

    number: int


@dataclass(frozen=True, slots=True)
class CheckLength:
    """Set a bit to whether the frame, with its Ethernet header, is longer than `limit` bytes (NXAST_CHECK_PKT_LARGER,
    ovs-actions(7) `check_pkt_larger`)."""

    limit: int
    place: Range


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Look the packet up in another table, then go on with the next action (NXAST_RESUBMIT_TABLE)."""

    table: int


class Conjunction(NamedTuple):
    """One clause, counted from 1, of a conjunctive match of `clauses` (2 to 64) clauses."""

    conj_id: int
    clause: int
    clauses: int


@dataclass(frozen=True, slots=True)
class Multipath:
    """Write a number below `links` (1 to 65536) into register bits (NXAST_MULTIPATH): a hash of the packet's addresses,
    protocol and ports (symmetric_l3l4+udp), modulo `links`. With another `basis`, 16 bits, it is another hash."""

    basis: int
    links: int
    place: Range


class FromPacket(NamedTuple):
    """A term of a learned flow: it matches, in field `learned`, what the packet that is learned from has in `packet`.
    Both fields have one width."""

    learned: Field
    packet: Field


@dataclass(frozen=True, slots=True)
class Learn:
    """Make a flow in `table` that matches `terms`, all of them exact, and carries out `loads` (NXAST_LEARN2).

    It replaces an earlier flow of the same match, and ends when no packet has hit it for `idle_timeout` seconds, 1 to
    65535. `limit` is the most flows with this cookie in the table; nothing is learned beyond it.
    """

    table: int
    priority: int
    cookie: int
    idle_timeout: int
    limit: int
    terms: tuple[Term | FromPacket, ...]
    loads: tuple[Load, ...]


Action = (
    Output
    | HandOver
    | Note
    | OutputRegister
    | Load
    | SetField
    | DecTtl
    | Move
    | Push
    | Pop
    | Ct
    | Clone
    | ToGroup
    | Meter
    | CheckLength
    | Resubmit
    | Conjunction
    | Multipath
    | Learn
)
