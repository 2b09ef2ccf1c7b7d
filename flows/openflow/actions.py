"""Actions as frozen values: those of OpenFlow 1.4 and of Open vSwitch that Headgate uses (ovs-actions(7))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from flows.openflow.register_bits import Range


class Output(NamedTuple):
    """Send to an OpenFlow port number (32 bits; fields.IN_PORT_32 and LOCAL_32 are the special ones)."""

    port: int


@dataclass(frozen=True, slots=True)
class OutputRegister:
    """Send to the port number in register bits (NXAST_OUTPUT_REG, ovs-actions(7) `output`)."""

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
class Push:
    """Put bits of the packet or of a register onto the stack (NXAST_STACK_PUSH)."""

    source: Range


@dataclass(frozen=True, slots=True)
class Pop:
    """Take what was pushed last from the stack and write it there (NXAST_STACK_POP)."""

    target: Range


@dataclass(frozen=True, slots=True)
class Ct:
    """NXAST_CT: look the packet up in `zone` and go on in `table` if given. With `commit` its connection is recorded,
    and marked as fields.RECORDED. With `force` beside it, an entry of which the packet is a reply goes, and the packet
    opens a new one."""

    zone: int
    table: int | None = None
    commit: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Meter:
    """Pass the packet through a meter of the switch, which may drop it (an instruction in OpenFlow 1.4). It can only
    be the first of a flow's actions."""

    number: int


@dataclass(frozen=True, slots=True)
class CheckLength:
    """Set a bit to whether the frame, Ethernet header included, is longer than `most` bytes (NXAST_CHECK_PKT_LARGER,
    ovs-actions(7) `check_pkt_larger`)."""

    most: int
    place: Range


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Look the packet up in another table and come back (NXAST_RESUBMIT_TABLE)."""

    table: int


class Conjunction(NamedTuple):
    """One clause, counted from 1, of a conjunctive match of `clauses` (2 to 64) clauses."""

    conj_id: int
    clause: int
    clauses: int


@dataclass(frozen=True, slots=True)
class LearnReply:
    """The learn action for the reverse of this SCTP packet: addresses and ports swapped, `version` 4 or 6.

    The learned flow, in `table`, loads `association` into fields.SCTP_ASSOCIATION; it replaces an earlier one.
    `idle_timeout` is in seconds, `limit` the most flows the table may hold.
    """

    table: int
    version: int
    association: int
    cookie: int
    priority: int
    idle_timeout: int
    limit: int


Action = (
    Output | OutputRegister | Load | Move | Push | Pop | Ct | Meter | CheckLength | Resubmit | Conjunction | LearnReply
)
