"""Match terms that many flows share, by name: `IS_ARP`, `IS_NEW`, a pod's address as the packet's source.

Only terms live here; which flows there are is up to the other modules of `flows.render`.
"""

from __future__ import annotations

from flows.cluster.net import Net
from flows.openflow import match_fields as oxm
from flows.openflow.match import Term, exactly, masked

IS_IPV4 = exactly(oxm.ETH_TYPE, oxm.ETH_IPV4)
IS_IPV6 = exactly(oxm.ETH_TYPE, oxm.ETH_IPV6)
IS_ARP = exactly(oxm.ETH_TYPE, oxm.ETH_ARP)
IP_FAMILIES = (IS_IPV4, IS_IPV6)
IS_ICMPV6 = (IS_IPV6, exactly(oxm.IP_PROTO, oxm.IP_PROTO_ICMPV6))
IS_MULTICAST = masked(oxm.ETH_DST, 1 << 40, 1 << 40)  # the group bit, IEEE 802.3 section 3.2.3

IS_TCP = exactly(oxm.IP_PROTO, oxm.IP_PROTO_TCP)
IS_UDP = exactly(oxm.IP_PROTO, oxm.IP_PROTO_UDP)
IS_SCTP = exactly(oxm.IP_PROTO, oxm.IP_PROTO_SCTP)
IS_SYN_WITHOUT_ACK = masked(oxm.TCP_FLAGS, oxm.TcpFlags.SYN, oxm.TcpFlags.SYN | oxm.TcpFlags.ACK)
IS_RESET = masked(oxm.TCP_FLAGS, oxm.TcpFlags.RST, oxm.TcpFlags.RST)
HAS_NO_SYN = masked(oxm.TCP_FLAGS, 0, oxm.TcpFlags.SYN)

IS_FRAGMENT = masked(oxm.IP_FRAG, oxm.Fragment.ANY, oxm.Fragment.ANY)
IS_LATER_FRAGMENT = masked(oxm.IP_FRAG, oxm.Fragment.LATER, oxm.Fragment.LATER)
IS_NO_FRAGMENT = exactly(oxm.IP_FRAG, 0)

_STATE = oxm.CtState
IS_TRACKED = masked(oxm.CT_STATE, _STATE.TRK, _STATE.TRK | _STATE.INV)
IS_UNTRACKED = masked(oxm.CT_STATE, 0, _STATE.TRK)
IS_NEW = masked(oxm.CT_STATE, _STATE.NEW | _STATE.TRK, _STATE.NEW | _STATE.TRK)
IS_RELATED = masked(oxm.CT_STATE, _STATE.REL | _STATE.TRK, _STATE.REL | _STATE.TRK | _STATE.INV)
# New and valid, so of a connection that the zone does not have.
IS_OPENING = masked(oxm.CT_STATE, _STATE.TRK | _STATE.NEW, _STATE.TRK | _STATE.NEW | _STATE.INV)
# Without TRK: userspace conntrack lets out expired fragments as invalid, but not as tracked.
IS_INVALID = masked(oxm.CT_STATE, _STATE.INV, _STATE.INV)
IS_INVALID_AND_TRACKED = masked(oxm.CT_STATE, _STATE.INV | _STATE.TRK, _STATE.INV | _STATE.TRK)

_ADDRESS_FIELDS = {
    "source": (oxm.IPV4_SRC, oxm.IPV6_SRC),
    "destination": (oxm.IPV4_DST, oxm.IPV6_DST),
    "initiator": (oxm.CT_NW_SRC, oxm.CT_IPV6_SRC),
    "responder": (oxm.CT_NW_DST, oxm.CT_IPV6_DST),
}


def ct_state_term(flags: int, mask: int) -> Term:
    """A tracked, valid packet whose ct_state has `flags` among the bits of `mask`."""
    return masked(oxm.CT_STATE, flags | _STATE.TRK, mask | _STATE.TRK | _STATE.INV)


def address_terms(role: str, net: Net) -> tuple[Term, ...]:
    """Terms that match a prefix in a role: `source` or `destination` of the packet, `initiator` or `responder` of the
    connection (its original direction)."""
    family = IS_IPV4 if net.version == 4 else IS_IPV6
    if net.prefix == 0:
        return (family,)
    field = _ADDRESS_FIELDS[role][0 if net.version == 4 else 1]
    return family, masked(field, net.value, net.mask)
