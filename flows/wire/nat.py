"""The translation of a conntrack action (NXAST_NAT) in bytes.

Source: OVS's ofp-actions (struct nx_action_nat), ovs-actions(7) `ct`.
"""

from __future__ import annotations

import struct

from flows.openflow.actions import Nat, NatKind
from flows.wire.errors import CodecError

NXAST_NAT = 36
_EXPERIMENTER, _NICIRA = 0xFFFF, 0x00002320
_HEAD = struct.Struct("!HHIH2xHH")  # type, length, experimenter, subtype, flags, which parts of the range are present
_FLAGS = {NatKind.SOURCE: 1, NatKind.DESTINATION: 2}
_KINDS = {flag: kind for kind, flag in _FLAGS.items()}
_ADDRESS = {4: (1, 4), 6: (4, 16)}  # by IP version: the bit for the lowest address of a range, and its bytes
_PORT = 16


def encode_nat(nat: Nat) -> bytes:
    """The action, padded to a multiple of 8 bytes. Raises CodecError for an address or port that does not fit."""
    if nat.kind is None:
        if nat != Nat():
            raise CodecError("a translation without a kind has an address or port")
        return _HEAD.pack(_EXPERIMENTER, _HEAD.size, _NICIRA, NXAST_NAT, 0, 0)
    present, size = _ADDRESS[nat.version]
    try:
        body = nat.address.to_bytes(size, "big")
        if nat.port is not None:
            present |= _PORT
            body += nat.port.to_bytes(2, "big")
    except OverflowError:
        raise CodecError(f"no translation to IPv{nat.version} {nat.address:#x}, port {nat.port}") from None
    body += bytes(-len(body) & 7)
    return _HEAD.pack(_EXPERIMENTER, _HEAD.size + len(body), _NICIRA, NXAST_NAT, _FLAGS[nat.kind], present) + body


def decode_nat(wire: bytes) -> Nat:
    """The inverse of `encode_nat`. Raises CodecError for a translation that Headgate never writes, struct.error."""
    *_, flags, present = _HEAD.unpack_from(wire)
    if not flags:
        return Nat()
    body = wire[_HEAD.size :]
    for version, (bit, size) in _ADDRESS.items():
        if flags in _KINDS and present in (bit, bit | _PORT) and len(body) >= size + 2 * bool(present & _PORT):
            port = int.from_bytes(body[size : size + 2], "big") if present & _PORT else None
            return Nat(_KINDS[flags], version, int.from_bytes(body[:size], "big"), port)
    raise CodecError(f"a translation that Headgate does not write: {wire.hex()}")
