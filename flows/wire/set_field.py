"""The action that writes a whole field (OFPAT_SET_FIELD) in bytes: OpenFlow 1.4.1, section 7.2.5.

The fields are those that the gateway and tunnels write, and live probes that are to look as if they had come from a
tunnel; OVS dumps them with the same OXM headers as in matches.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from flows.openflow import match_fields as oxm
from flows.openflow.actions import SetField
from flows.wire.errors import CodecError
from flows.wire.matches import size_of

SET_FIELD = 25
WRITABLE = (
    oxm.ETH_SRC, oxm.ETH_DST, oxm.ARP_OP, oxm.ARP_SHA, oxm.ICMPV6_TYPE, oxm.ND_TLL, oxm.ND_RESERVED,
    oxm.ND_OPTIONS_TYPE, oxm.TUN_DST, oxm.TUN_IPV6_DST, oxm.TUN_SRC, oxm.TUN_IPV6_SRC,
)  # fmt: skip
_HEAD = struct.Struct("!HHHBB")
_FIELDS = {(field.oxm_class, field.number << 1, size_of(field)): field for field in WRITABLE}
_FIELDS_BY_NAME = {field.name: field for field in WRITABLE}


def encode_set_field(action: SetField) -> bytes:
    """The whole action, padded to a multiple of 8 bytes. Raises CodecError where the value does not fit."""
    if not 0 <= action.value <= action.field.full_mask:
        raise CodecError(f"{action.value:#x} does not fit {action.field.name}")
    return _encode(action.field.name, action.value)


@lru_cache(maxsize=1 << 12)
def _encode(name: str, value: int) -> bytes:
    field = _FIELDS_BY_NAME.get(name)
    if field is None:
        raise CodecError(f"no action writes {name}")
    size = size_of(field)
    padding = -(_HEAD.size + size) & 7
    head = _HEAD.pack(SET_FIELD, _HEAD.size + size + padding, field.oxm_class, field.number << 1, size)
    return head + value.to_bytes(size, "big") + bytes(padding)


def decode_set_field(wire: bytes) -> SetField:
    """The inverse of `encode_set_field`. Raises CodecError for a field that Headgate never writes, struct.error."""
    _, _, oxm_class, number, size = _HEAD.unpack_from(wire)
    field = _FIELDS.get((oxm_class, number, size))
    if field is None or len(wire) < _HEAD.size + size:
        raise CodecError(f"an action that Headgate does not write: {wire.hex()}")
    return SetField(field, int.from_bytes(wire[_HEAD.size : _HEAD.size + size], "big"))
