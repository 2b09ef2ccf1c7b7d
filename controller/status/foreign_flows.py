"""Flows that Headgate did not make, as text: in ovs-ofctl syntax where Headgate's codec can decode them, else as
os-ken parses them.

Must not live here: which flows are foreign; see `flows.wire.dump`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.base.printable import printable
from flows.pipeline.tables import TABLE_NAMES
from flows.wire.codec import decode_flow
from flows.wire.errors import CodecError
from flows.wire.text import NO_NAMES, Names, format_actions, format_match
from flows.wire.values import WireFlow

MAX_FOREIGN_TEXT = 300  # characters of a match or of actions that the codec cannot decode


def describe_foreign(flow: WireFlow, ports: Names = NO_NAMES) -> tuple[str, str]:
    """Match and actions of any flow, as text, with these names of ports. Never raises."""
    try:
        ours = _decoded(flow)
        return format_match(ours.match, ports), format_actions(ours.actions, ours.goto, TABLE_NAMES, ports)
    except (CodecError, ValueError, KeyError):
        return _parsed_texts(flow)


_decoded = lru_cache(maxsize=4096)(decode_flow)


@lru_cache(maxsize=4096)
def _parsed_texts(flow: WireFlow) -> tuple[str, str]:
    return _parsed(_match, flow.match), _parsed(_instructions, flow.instructions)


def _parsed(read: Callable[[bytes], str], data: bytes) -> str:
    try:
        text = read(data)
    except Exception:  # noqa: BLE001 - os-ken's parsers raise any exception on unknown input
        text = data.hex()
    return text if len(text) <= MAX_FOREIGN_TEXT else text[:MAX_FOREIGN_TEXT] + "…"


def _match(data: bytes) -> str:
    fields = parser.OFPMatch.parser(data, 0).iteritems()
    return ",".join(f"{name}={_value(value)}" for name, value in fields)


def _value(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _instructions(data: bytes) -> str:
    found, offset = [], 0
    while offset < len(data):
        one = parser.OFPInstruction.parser(data, offset)
        found += [_action(action) for action in getattr(one, "actions", [])] or [type(one).__name__[14:]]
        offset += one.len
    return printable(",".join(found)) if found else "drop"


def _action(action: Any) -> str:
    (kind, values), *_ = action.to_jsondict().items()
    shown = (f"{name}={value}" for name, value in values.items() if name not in ("len", "type", "experimenter"))
    return f"{kind.removeprefix('OFPAction').removeprefix('NXAction')}({' '.join(shown)})"
