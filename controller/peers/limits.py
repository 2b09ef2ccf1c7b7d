"""Every bound that Headgate puts on a peer, declared once with its unit and its meaning.

docs/limits.md is generated from this; a test holds that nothing here is without words. Times are in seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

MIB = 1 << 20


def limit(value: float, unit: str, meaning: str) -> Any:
    """A field with its default, the unit it counts in, and what it bounds."""
    return dataclasses.field(default=value, metadata={"unit": unit, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Who may connect at a listener, counted by address: an IPv4 address, or the /64 of an IPv6 address."""

    connections: int = limit(4096, "connections", "at one listener, of all peers")
    by_address: int = limit(2048, "connections", "of one address")
    unproven: int = limit(512, "connections", "that have not said yet which switch they are, of all addresses")
    strangers: int = limit(256, "connections", "of these, of addresses where no switch has proved itself before")
    unproven_by_address: int = limit(64, "connections", "that have not said yet which switch they are, of one address")
    settle: float = limit(1.0, "seconds", "after which an unproven connection may have to make room for a newer one")
    tolerated: int = limit(8, "faults", "of an address within `forget` that have no consequence")
    pace: float = limit(1.0, "seconds", "between two connections of an address with more faults than that")
    pace_known: float = limit(0.1, "seconds", "the same, where a switch has proved itself at that address before")
    forget: float = limit(60.0, "seconds", "without a fault after which an address, or a switch, starts afresh")
    addresses: int = limit(8192, "addresses", "of which this is remembered")


@dataclass(frozen=True, slots=True)
class OpenFlowLimits:
    """What an OpenFlow peer may cost.

    `request` counts from the last sign of progress, so that a long dump is no failure. A peer that was silent for
    `echo` is asked for a sign of life, and after `silence` its connection counts as dead.
    """

    request: float = limit(30.0, "seconds", "without progress after which a request has failed")
    whole_request: float = limit(600.0, "seconds", "for one request from its first byte to its last")
    handshake: float = limit(10.0, "seconds", "for TLS, and again for OpenFlow's handshake")
    handshake_messages: int = limit(256, "messages", "before a peer has said which switch it is")
    handshake_bytes: int = limit(16 * MIB, "bytes", "before a peer has said which switch it is")
    echo: float = limit(5.0, "seconds", "of silence after which a switch is asked for a sign of life")
    silence: float = limit(15.0, "seconds", "of silence after which a session counts as dead")
    prove: float = limit(3.0, "seconds", "to answer when another peer claims the same datapath id")
    tick: float = limit(1.0, "seconds", "between two looks of a session at its clocks")
    turn: int = limit(64, "units", "handled before others get their turn; a message is one, and one more by 4 KiB")
    light: int = limit(
        50, "units by second", "that are handled at once; with more, a switch waits for the turns of those before it"
    )
    burst: int = limit(50_000, "units", "of messages that nobody asked for, handled at once")
    rate: int = limit(1_000, "units by second", "of such messages after that; what is left stays unread")
    waiting_bytes: int = limit(MIB, "bytes", "of answers that wait for a peer that does not read")
    waiting_requests: int = limit(16, "requests", "that wait for a switch")
    dump_flows: int = limit(2_000_000, "flows", "in one flow dump")
    dump_bytes: int = limit(1024 * MIB, "bytes", "of one flow dump; they are read and not kept")
    dump_seconds: float = limit(300.0, "seconds", "for one flow dump")
    dump_kept: int = limit(
        512 * MIB, "bytes", "of one flow dump that are kept: counters, and flows not as they shall be"
    )
    dump_share: int = limit(16 * MIB, "bytes", "of these that every switch may have kept at any time")
    dumps_kept: int = limit(768 * MIB, "bytes", "kept of all flow dumps under way beyond these shares")
    questions: int = limit(60, "questions by second", "to its node about addresses that were not asked for lately")
    asked: int = limit(256, "addresses", "of its node that were asked for and are remembered; the oldest go first")
    asked_again: float = limit(10.0, "seconds", "before the node is asked again for an address that it did not have")
    own: int = limit(64, "addresses", "that its node answers for and that count")
    recheck: float = limit(
        30.0, "seconds", "before the node is asked again for one of these; unanswered thrice it goes"
    )
    retry: float = limit(
        0.5, "seconds", "before a switch that was dropped for a fault may return; twice as long each time"
    )
    longest_retry: float = limit(30.0, "seconds", "the longest such wait")


@dataclass(frozen=True, slots=True)
class OvsdbLimits:
    """What an OVSDB peer may cost, whether it called or was called."""

    message_bytes: int = limit(32 * MIB, "bytes", "of one message; a bridge of 10,000 ports is about 10 MiB")
    message_depth: int = limit(64, "levels", "of brackets in one message")
    message_values: int = limit(3_000_000, "values", "in one message, counted by its brackets and commas")
    message_seconds: float = limit(30.0, "seconds", "from a message's first byte to its last")
    message_share: int = limit(MIB, "bytes", "of an unfinished message that every connection may have at any time")
    messages_kept: int = limit(256 * MIB, "bytes", "of all unfinished messages beyond these shares")
    row_values: int = limit(4_096, "values", "in one column; of Bridge and Open_vSwitch it is `wide_row_values`")
    wide_row_values: int = limit(70_000, "values", "in one column of Bridge or Open_vSwitch: a bridge's ports")
    rows: int = limit(250_000, "rows", "in one database")
    contents_share: int = limit(16 * MIB, "bytes", "of contents that every database may have, as they are kept")
    contents_kept: int = limit(512 * MIB, "bytes", "of all databases' contents beyond these shares")
    retry: float = limit(2.0, "seconds", "before a database that could not be read is called again; doubled each time")
    longest_retry: float = limit(60.0, "seconds", "the longest such wait")
    burst: int = limit(50_000, "units", "handled at once; a message is one, and one more by 4 KiB")
    rate: int = limit(1_000, "units by second", "handled after that; what is left stays unread")
    waiting_bytes: int = limit(8 * MIB, "bytes", "that wait for a peer that does not read")
    sync: float = limit(30.0, "seconds", "to send the contents, TLS included")


class DeclaredLimit(NamedTuple):
    """One limit, for the docs."""

    name: str
    value: float
    unit: str
    meaning: str


def declared_limits(
    limits: type[ConnectionLimits] | type[OpenFlowLimits] | type[OvsdbLimits],
) -> Iterator[DeclaredLimit]:
    """The limits of one kind in their order."""
    for one in dataclasses.fields(limits):
        yield DeclaredLimit(one.name, one.default, one.metadata["unit"], one.metadata["meaning"])  # type: ignore[arg-type]
