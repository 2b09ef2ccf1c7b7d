"""Our OpenFlow 1.4 codec for flows in bulk: flows to bytes and back.

os-ken would need seconds for what takes milliseconds here. Flows are compared as bytes, so `encode_flow` writes exactly
what OVS 3.1 dumps for the installed flow: the tests hold every field and action against a real switch. Messages to a
switch stand in `messages`.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from flows.openflow.actions import Action
from flows.openflow.flow import Flow
from flows.openflow.match import Match
from flows.wire.actions import decode_instructions, encode_instructions
from flows.wire.errors import CodecError, MessageTooLong
from flows.wire.matches import decode_match, encode_match
from flows.wire.values import Body, FlowKey, WireFlow, flow_key

_SHARED = 1 << 14  # bodies and keys that bridges share
_SHORT = 256  # bytes of instructions, of bodies that may be shared


def encode_flow(flow: Flow) -> WireFlow:
    """The flow as the switch will dump it. Raises CodecError, MessageTooLong when its actions exceed 64 KiB."""
    try:
        instructions = encode_instructions(flow.actions, flow.goto)
    except MessageTooLong as error:
        raise MessageTooLong(f"the flow of table {flow.table}, priority {flow.priority} is too long: {error}") from None
    except struct.error as error:
        raise CodecError(f"an action of table {flow.table} has a number that is too large: {error}") from None
    return WireFlow(flow.table, flow.priority, encode_match(flow.match), flow.cookie, instructions)


def encode_key(table: int, priority: int, match: Match) -> FlowKey:
    """What identifies a flow on a switch, as `encode_flow` writes it. Raises CodecError.

    Pods at the same ofport of different bridges have many keys in common: these share one copy.
    """
    return _shared_key(flow_key(table, priority, encode_match(match)))


def encode_body(cookie: int, actions: tuple[Action, ...], goto: int | None) -> Body:
    """All else of a flow, as `encode_flow` writes it. Equal short bodies share one copy.

    Raises CodecError, MessageTooLong when the actions exceed 64 KiB.
    """
    instructions = encode_instructions(actions, goto)
    return _shared_body(cookie, instructions) if len(instructions) <= _SHORT else Body(cookie, instructions)


@lru_cache(maxsize=_SHARED)
def _shared_key(key: FlowKey) -> FlowKey:
    return key


_shared_body = lru_cache(maxsize=_SHARED)(Body)


def decode_flow(wire: WireFlow) -> Flow:
    """The flow that these bytes say. Raises CodecError for what Headgate never sends."""
    actions, goto = decode_instructions(wire.instructions)
    return Flow(wire.table, wire.priority, decode_match(wire.match), actions, goto, wire.cookie)
