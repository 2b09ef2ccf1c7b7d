"""Every bound on a connection peer, declared once with its unit and its meaning.

docs/limits.md is generated from this module; a test checks that every bound has words. Times are in seconds. A *unit*
is one message, and one more for each 4 KiB of it (`token_bucket.message_cost`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

MIB = 1 << 20


def limit(value: float, unit: str, meaning: str) -> Any:
    """A field with its default, its unit, and what it bounds."""
    return dataclasses.field(default=value, metadata={"unit": unit, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Connections that a listener accepts. An address is an IPv4 address or the /64 of an IPv6 address.

    A connection is *proven* once its peer has named its datapath id (OpenFlow), or its database or contents (OVSDB).
    """

    connections: int = limit(4096, "connections", "at one listener, of all peers")
    per_address: int = limit(2048, "connections", "of one address")
    unproven: int = limit(512, "connections", "that have not identified a switch yet, of all addresses")
    unproven_new_address: int = limit(256, "connections", "of these, of addresses without a proven connection so far")
    unproven_per_address: int = limit(64, "connections", "that have not identified a switch yet, of one address")
    min_unproven_age: float = limit(1.0, "seconds", "before a newer connection may replace an unproven one")
    tolerated_faults: int = limit(8, "faults", "of an address within `forget_faults` that have no consequence")
    fault_interval: float = limit(1.0, "seconds", "between two connections of an address with more faults than that")
    fault_interval_proven_address: float = limit(
        0.1, "seconds", "the same, for an address that has had a proven connection"
    )
    forget_faults: float = limit(60.0, "seconds", "without a fault after which an address's faults are forgotten")
    remembered_addresses: int = limit(8192, "addresses", "of which faults and proven connections are remembered")


@dataclass(frozen=True, slots=True)
class OpenFlowLimits:
    """What one OpenFlow peer may cost.

    `request_idle` counts from the last progress, so a long dump that goes on does not fail.
    """

    request_idle: float = limit(30.0, "seconds", "without progress after which a request fails")
    request_total: float = limit(600.0, "seconds", "for one request from its first byte to its last")
    handshake: float = limit(10.0, "seconds", "for the TLS handshake, and again for the OpenFlow handshake")
    handshake_messages: int = limit(256, "messages", "before the OpenFlow handshake is done")
    handshake_bytes: int = limit(16 * MIB, "bytes", "before the OpenFlow handshake is done")
    echo_after: float = limit(5.0, "seconds", "without a message after which Headgate sends an echo request")
    dead_after: float = limit(15.0, "seconds", "without a message after which the session ends")
    challenge: float = limit(3.0, "seconds", "to answer an echo, also when another peer claims the same datapath id")
    tick: float = limit(1.0, "seconds", "between two checks of a session's timeouts")
    turn: int = limit(64, "units", "handled before other sessions run; a message is one, and one more for each 4 KiB")
    unqueued_rate: int = limit(
        50, "units per second", "handled at once; beyond it the session queues for a turn behind others like it"
    )
    burst: int = limit(50_000, "units", "of unsolicited messages handled at once")
    rate: int = limit(1_000, "units per second", "of unsolicited messages after that; the rest stays unread")
    packet_burst: int = limit(20_000, "units", "of packets that a switch hands over, handled at once")
    packet_rate: int = limit(10_000, "units per second", "of such packets after that; the rest stays unread")
    unsent_bytes: int = limit(MIB, "bytes", "queued for a peer that does not read")
    queued_requests: int = limit(16, "requests", "queued for a switch")
    dump_flows: int = limit(2_000_000, "flows", "in one flow dump")
    dump_groups: int = limit(500_000, "groups", "in one flow dump, which may ask for groups too")
    dump_bytes: int = limit(1024 * MIB, "bytes", "of one flow dump, read but not kept")
    dump_seconds: float = limit(300.0, "seconds", "for one flow dump")
    dump_kept: int = limit(
        512 * MIB, "bytes", "of one flow dump that are kept: counters, and flows that are not as desired"
    )
    dump_share: int = limit(16 * MIB, "bytes", "of these that every switch may keep at any time")
    dumps_pot: int = limit(768 * MIB, "bytes", "that all flow dumps together may keep beyond these shares")
    probes_per_second: int = limit(60, "probes per second", "to a switch's node, for addresses not probed lately")
    probed_addresses: int = limit(256, "addresses", "whose last probe is remembered; the oldest are forgotten first")
    probe_again: float = limit(10.0, "seconds", "before an address is probed again that the node did not have")
    node_addresses: int = limit(64, "addresses", "that a node may confirm as its own")
    recheck: float = limit(
        30.0,
        "seconds",
        "before a confirmed address is probed again; three probes without an answer remove it",
    )
    retry: float = limit(0.5, "seconds", "before a switch may return after a fault; doubled each time")
    max_retry: float = limit(30.0, "seconds", "the longest such wait")


@dataclass(frozen=True, slots=True)
class OvsdbLimits:
    """What one OVSDB peer may cost, in either direction of the connection."""

    message_bytes: int = limit(32 * MIB, "bytes", "of one message; a bridge of 10,000 ports is about 10 MiB")
    message_depth: int = limit(64, "levels", "of brackets in one message")
    message_values: int = limit(3_000_000, "values", "in one message, counted by its brackets and commas")
    message_seconds: float = limit(30.0, "seconds", "from a message's first byte to its last")
    message_share: int = limit(MIB, "bytes", "of an unfinished message that every connection may keep at any time")
    messages_pot: int = limit(256 * MIB, "bytes", "of all unfinished messages beyond these shares")
    row_values: int = limit(4_096, "values", "in one column; for Bridge and Open_vSwitch see `wide_row_values`")
    wide_row_values: int = limit(70_000, "values", "in one column of Bridge or Open_vSwitch, such as a bridge's ports")
    rows: int = limit(250_000, "rows", "in one database")
    contents_share: int = limit(16 * MIB, "bytes", "of contents in memory that every database may have")
    contents_pot: int = limit(512 * MIB, "bytes", "of all databases' contents beyond these shares")
    retry: float = limit(
        2.0, "seconds", "before Headgate connects again to a database that it could not read; doubled each time"
    )
    max_retry: float = limit(60.0, "seconds", "the longest such wait")
    burst: int = limit(50_000, "units", "handled at once; a message is one, and one more for each 4 KiB")
    rate: int = limit(1_000, "units per second", "handled after that; the rest stays unread")
    unsent_bytes: int = limit(8 * MIB, "bytes", "queued for a peer that does not read")
    sync: float = limit(30.0, "seconds", "to send the contents, the TLS handshake included")


class DeclaredLimit(NamedTuple):
    """One bound, for the docs."""

    name: str
    value: float
    unit: str
    meaning: str


def declared_limits(
    limits: type[ConnectionLimits] | type[OpenFlowLimits] | type[OvsdbLimits],
) -> Iterator[DeclaredLimit]:
    """The bounds of one class in their order."""
    for one in dataclasses.fields(limits):
        yield DeclaredLimit(one.name, one.default, one.metadata["unit"], one.metadata["meaning"])  # type: ignore[arg-type]
