"""The multipath action (NXAST_MULTIPATH) in bytes.

Source: OVS's ofp-actions (struct nx_action_multipath), ovs-actions(7) `multipath`.
"""

from __future__ import annotations

import struct

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Multipath
from flows.openflow.register_bits import Range
from flows.pipeline import registers
from flows.wire.errors import CodecError
from flows.wire.matches import oxm_number

NXAST_MULTIPATH = 10
_EXPERIMENTER, _NICIRA = 0xFFFF, 0x00002320
# Type, length, experimenter, subtype, fields, basis, algorithm, links - 1, its argument, bits, register.
_ACTION = struct.Struct("!HHIHHH2xHHI2xHI")
_SYMMETRIC_L3L4_UDP, _MODULO = 3, 0
_REGISTERS = {oxm_number(register): register for register in oxm.REGISTERS}
_NAMED = {(one.register, one.start, one.end): one for one in registers.RANGES}


def encode_multipath(action: Multipath) -> bytes:
    """The action. Raises CodecError where the links are too many for its bits."""
    place = action.place
    if not 1 <= action.links <= min(1 << place.width, 1 << 16) or action.basis >> 16:
        raise CodecError(f"{action.links} links, basis {action.basis}, in {place.width} bits")
    return _ACTION.pack(
        _EXPERIMENTER, _ACTION.size, _NICIRA, NXAST_MULTIPATH, _SYMMETRIC_L3L4_UDP, action.basis, _MODULO,
        action.links - 1, 0, place.start << 6 | place.width - 1, oxm_number(place.register),
    )  # fmt: skip


def decode_multipath(wire: bytes) -> Multipath:
    """The inverse of `encode_multipath`. Raises CodecError for bits that Headgate never writes, struct.error."""
    *_, basis, _algorithm, most, _argument, bits, number = _ACTION.unpack(wire)
    register, start, width = _REGISTERS.get(number), bits >> 6, (bits & 63) + 1
    if register is None or start + width > register.width:
        raise CodecError(f"{width} bits of field {number:#010x} in a multipath action")
    place = _NAMED.get((register, start, start + width - 1)) or Range(register, start, start + width - 1, "")
    return Multipath(basis, most + 1, place)
