"""The transaction ids that Headgate gives its own requests, beside those of os-ken, which count up from 1, and those of
`switch_requests`, from 2**31 on. Declared in one place, so that no two are equal: an error of a switch names nothing
but this number."""

from __future__ import annotations

import enum


@enum.unique
class Xid(enum.IntEnum):
    """What a request with this id is for."""

    CHALLENGE = 0x7FFFFFFF  # an echo request to a session whose datapath id another peer claims
    MONITOR = 0x7FFFFFFE  # the flow monitor
    PROBE = 0x7FFFFFFD  # packet-outs that ask a node for an address
    FLUSH = 0x7FFFFFFC  # flushes of connections
    DNS = 0x7FFFFFFB  # packet-outs and the listening flow: their errors are of no use
    LIVE = 0x7FFFFFFA  # packet-outs of live probes
    ROLE_ASKED = 0x7FFFFFF0
    ROLE_SECONDARY = 0x7FFFFFF1
    ROLE_PRIMARY = 0x7FFFFFF2
    ROLE_REFUSED = 0x7FFFFFF3
