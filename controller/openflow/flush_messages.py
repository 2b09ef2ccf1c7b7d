"""The message that has a switch delete connections from its conntrack (NXT_CT_FLUSH, Open vSwitch 3.1 and newer).

Bytes only. Source: OVS's nicira-ext.h (struct nx_ct_flush): the IP protocol, then properties of type, length and value,
padded to 8 bytes: the zone, and the tuple of a reply, which has properties itself. IPv4 addresses are mapped ones.

Example: UDP connections of zone 5 whose replies come from 10.0.0.6:53.

    05 04 0050 7ffffffc 00002320 00000020        header, experimenter, NXT_CT_FLUSH
    11 00000000000000                            UDP
    0002 0008 0005 0000                          zone 5
    0001 0028                                    reply tuple, 40 bytes
        0000 0014 0000...ffff 0a000006 00000000  source address
        0002 0008 0035 0000                      source port
"""

from __future__ import annotations

import struct

from controller.openflow.xids import Xid
from flows.openflow.group import NatTarget

_VERSION, _EXPERIMENTER, _NICIRA, _CT_FLUSH, _UDP = 5, 4, 0x00002320, 32, 17
_HEAD = struct.Struct("!BBHIIIB7x")
_SHORT = struct.Struct("!HHH2x")
_ADDRESS = struct.Struct("!HH16s4x")
_NESTED = struct.Struct("!HH4x")
_REPLY_TUPLE, _ZONE = 1, 2
_SOURCE, _SOURCE_PORT = 0, 2
_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96


def flush_message(target: NatTarget) -> bytes:
    """Delete the UDP connections of a zone that are translated to `target`; all of the zone where it has no address."""
    body = _SHORT.pack(_ZONE, _SHORT.size, target.zone)
    if target.version:
        address = target.address | (_MAPPED if target.version == 4 else 0)
        ends = _ADDRESS.pack(_SOURCE, 20, address.to_bytes(16, "big"))
        ends += _SHORT.pack(_SOURCE_PORT, _SHORT.size, target.port)
        body += _NESTED.pack(_REPLY_TUPLE, _NESTED.size + len(ends)) + ends
    return _HEAD.pack(_VERSION, _EXPERIMENTER, _HEAD.size + len(body), Xid.FLUSH, _NICIRA, _CT_FLUSH, _UDP) + body
