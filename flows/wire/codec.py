"""The OpenFlow 1.4 codec for flows in bulk: flows to bytes and back, in milliseconds where os-ken needs seconds.

Theory of operation. Desired and actual flows are compared as bytes, so a flow must be encoded exactly as the switch
dumps it: the fields of a match in the order of OVS's dumps, IPv4 addresses in actions by their Nicira numbers, and so
on. Tests hold every field and action against a real switch. A flow is kept in two parts: its key, the bytes that
identify it on a switch, and its body, which many flows share.

Example: table 10, priority 200, arp,arp_tpa=10.0.0.5 actions=output:5 has the key

    0a 00c8                              table, priority
    0001 0012                            ofp_match: type OXM, length 18
    8000 0a 02 0806                      eth_type=0x0806 (class, field << 1, length, value)
    8000 2e 04 0a000005                  arp_tpa=10.0.0.5
    000000000000                         padding to a multiple of 8

and the instructions in its body, after the cookie, are

    0004 0018 00000000                   apply-actions, length 24
    0000 0010 00000005 0000 000000000000 output:5, length 16

Must not live here: the layout of matches (`matches`), of instructions (`actions`, `learn`), of flow dumps (`dump`), and
messages to a switch (`controller.openflow.messages`).
"""

from __future__ import annotations

import struct
from functools import lru_cache

from flows.cluster.tuples import new_tuple
from flows.openflow.actions import Action
from flows.openflow.flow import Flow
from flows.openflow.match import Match
from flows.wire.actions import decode_instructions, encode_instructions
from flows.wire.errors import CodecError, MessageTooLong
from flows.wire.matches import decode_match, encode_match
from flows.wire.values import Body, FlowKey, WireFlow, flow_key

_SHARED = 1 << 14  # keys, and bodies, of which one copy is kept
_SHORT = 256  # bytes: bodies with longer instructions are not shared


def encode_flow(flow: Flow) -> WireFlow:
    """The flow as the switch will dump it. Raises CodecError; MessageTooLong where its actions exceed 64 KiB."""
    try:
        instructions = encode_instructions(flow.actions, flow.goto)
    except MessageTooLong as error:
        raise MessageTooLong(f"the flow of table {flow.table}, priority {flow.priority} is too long: {error}") from None
    except struct.error as error:
        raise CodecError(f"an action of table {flow.table} has a number that is too large: {error}") from None
    return WireFlow(flow.table, flow.priority, encode_match(flow.match), flow.cookie, instructions)


def encode_key(table: int, priority: int, match: Match) -> FlowKey:
    """The identity of a flow on a switch, as `encode_flow` writes it. Raises CodecError.

    Pods at the same ofport of different bridges have many keys in common: these share one copy.
    """
    return _shared_key(flow_key(table, priority, encode_match(match)))


def encode_body(cookie: int, actions: tuple[Action, ...], goto: int | None) -> Body:
    """The cookie and instructions of a flow, as `encode_flow` writes it. Equal short bodies share one copy.

    Raises CodecError; MessageTooLong where the actions exceed 64 KiB.
    """
    instructions = encode_instructions(actions, goto)
    return _shared_body(cookie, instructions) if len(instructions) <= _SHORT else Body(cookie, instructions)


@lru_cache(maxsize=_SHARED)
def _shared_key(key: FlowKey) -> FlowKey:
    return key


@lru_cache(maxsize=_SHARED)
def _shared_body(cookie: int, instructions: bytes) -> Body:
    return new_tuple(Body, (cookie, instructions))


def decode_flow(wire: WireFlow) -> Flow:
    """The flow of these bytes. Raises CodecError for a flow that Headgate never writes."""
    actions, goto = decode_instructions(wire.instructions)
    return Flow(wire.table, wire.priority, decode_match(wire.match), actions, goto, wire.cookie)
