"""Which ARP, neighbor discovery (ND) and MLD messages ports may send: only those that the switch can check in full.

The switch sees at most one link-layer address option of a message, and no extension headers. So lengths are checked
too: a frame exactly as long as a message with that one option has room for nothing else.

Example: a pod sends a neighbor solicitation with its MAC address in the option. `classify` binds sender and target to
the port, and has the frame measured; `nd_guard` lets it pass where hop limit, option and length are right.

How admitted messages are delivered is rendered in `pods` and `node`.
"""

from __future__ import annotations

from flows.bridge.state import PodBinding
from flows.cluster.net import ADDRESS_BITS, Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, CheckLength
from flows.openflow.match import Term, exactly, in_range
from flows.pipeline import priorities, tables
from flows.pipeline.registers import LONGER_THAN_BARE, LONGER_THAN_OPTION
from flows.render.flow_set import FlowSet
from flows.render.terms import IS_ARP, IS_ICMPV6

ROUTER_SOLICITATION, NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT, MLD2_REPORT = 133, 135, 136, 143
# Only routers listen to these: router solicitations, and MLD reports of both versions.
FOR_ROUTERS = (ROUTER_SOLICITATION, 131, 132, MLD2_REPORT)
# MLD, then router and neighbor discovery with redirects (RFC 3810, RFC 4861). These bypass conntrack, and pods may send
# them only as checked here. Conntrack calls other ICMPv6 without a connection invalid, so also 151 to 153 (RFC 4286).
DISCOVERY_TYPES = (130, 131, 132, 143, 133, 134, 135, 136, 137)
ALL_MLD2_ROUTERS = (0xFF02 << 112) | 0x16  # ff02::16, RFC 3810 section 5.2.14
_ALL_MLD2_ROUTERS_MAC = 0x333300000016  # RFC 2464 section 7
_LINK_LOCAL = 0xFE80 << 112

# Lengths of frames in bytes, with 14 of Ethernet and 40 of IPv6; an option with a MAC address has 8.
LONGEST_ARP = 60  # 42, padded to Ethernet's minimum
BARE_ROUTER_SOLICITATION = 14 + 40 + 8
BARE_NEIGHBOR = 14 + 40 + 24
NEIGHBOR_WITH_OPTION = BARE_NEIGHBOR + 8
MAX_REPORTED_GROUPS = 16  # in one report: 20 bytes each, after the router alert and the header of the report
LONGEST_REPORT = 14 + 40 + 8 + 8 + MAX_REPORTED_GROUPS * 20

_SHORT, _WITH_OPTION = in_range(LONGER_THAN_BARE, 0), in_range(LONGER_THAN_OPTION, 0)
_ONE_LINK, _FROM_LINK = exactly(oxm.IP_TTL, 1), exactly(oxm.IP_TTL, 255)


def link_local(mac: int) -> Net:
    """The link-local address made of a MAC address (modified EUI-64, RFC 4291 appendix A)."""
    upper, lower = mac >> 24 ^ 0x020000, mac & 0xFFFFFF
    return Net(6, _LINK_LOCAL | upper << 40 | 0xFFFE << 24 | lower, ADDRESS_BITS[6])


def discovery_addresses(pod_binding: PodBinding) -> list[Net]:
    """The IPv6 addresses that a pod may announce in neighbor discovery: its own, and its link-local address."""
    own = [net for net in pod_binding.addresses if net.version == 6]
    return [*own, link_local(pod_binding.mac)] if own and pod_binding.mac is not None else own


def discovery(kind: int) -> list[Term]:
    """Terms for one ICMPv6 type of discovery. Only code 0: receivers drop others (RFC 4861, section 7.1)."""
    return [*IS_ICMPV6, exactly(oxm.ICMPV6_TYPE, kind), exactly(oxm.ICMPV6_CODE, 0)]


def address_question(net: Net) -> list[Term]:
    """Terms for the question which MAC address has an IP address: an ARP request or a neighbor solicitation."""
    if net.version == 4:
        return [IS_ARP, exactly(oxm.ARP_TPA, net.value)]
    return [*discovery(NEIGHBOR_SOLICITATION), exactly(oxm.ND_TARGET, net.value)]


def guard_discovery(flows: FlowSet) -> None:
    """Drop discovery messages that no other flow admits, and the part of `nd_guard` that is the same for all pods."""
    for kind in DISCOVERY_TYPES:
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_OTHER_DISCOVERY, [*IS_ICMPV6, exactly(oxm.ICMPV6_TYPE, kind)])
    for operation in (1, 2):
        short = [IS_ARP, exactly(oxm.ARP_OP, operation), _SHORT]
        flows.add(tables.ND_GUARD, priorities.ND_GUARD_BOUNDED, short, goto=tables.NEIGHBOR)
    for kind, limit in ((ROUTER_SOLICITATION, _FROM_LINK), (MLD2_REPORT, _ONE_LINK)):
        flows.add(tables.ND_GUARD, priorities.ND_GUARD_BOUNDED, [*discovery(kind), limit, _SHORT], goto=tables.NEIGHBOR)
    # The target of a truncated message is 0 to the switch, and its options cannot be seen.
    flows.add(
        tables.ND_GUARD, priorities.ND_GUARD_NO_TARGET, [*discovery(NEIGHBOR_SOLICITATION), exactly(oxm.ND_TARGET, 0)]
    )
    for kind, option in ((NEIGHBOR_SOLICITATION, oxm.ND_SLL), (NEIGHBOR_ADVERTISEMENT, oxm.ND_TLL)):
        absent = [*discovery(kind), exactly(option, 0)]
        flows.add(tables.ND_GUARD, priorities.ND_GUARD_NO_OPTION, [*absent, _FROM_LINK, _SHORT], goto=tables.NEIGHBOR)
        flows.add(tables.ND_GUARD, priorities.ND_GUARD_HIDDEN_OPTION, absent)


def admit_arp(flows: FlowSet, pod: PodBinding, here: list[Term], port_cookie: int) -> None:
    """ARP with the pod's own sender address, and probes for it (sender address 0, RFC 5227)."""
    hardware = [] if pod.mac is None else [exactly(oxm.ARP_SHA, pod.mac)]
    measure = [CheckLength(LONGEST_ARP, LONGER_THAN_BARE)]
    for net in pod.addresses:
        if net.version != 4:
            continue
        claim = [IS_ARP, exactly(oxm.ARP_SPA, net.value)]
        probe = [IS_ARP, exactly(oxm.ARP_OP, 1), exactly(oxm.ARP_SPA, 0), exactly(oxm.ARP_TPA, net.value)]
        for terms in (claim, probe):
            flows.add(
                tables.CLASSIFY,
                priorities.CLASSIFY_OWN_ADDRESS,
                [*here, *terms, *hardware],
                measure,
                tables.ND_GUARD,
                port_cookie,
            )
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_SPOOFED, claim, cookie=port_cookie)


def admit_discovery(flows: FlowSet, pod: PodBinding, here: list[Term], port_cookie: int) -> None:
    """Solicitations and advertisements for the pod's own addresses, router solicitations, and multicast reports."""
    own = discovery_addresses(pod)
    if not own:
        return
    solicit, advertise = discovery(NEIGHBOR_SOLICITATION), discovery(NEIGHBOR_ADVERTISEMENT)
    unspecified = exactly(oxm.IPV6_SRC, 0)
    measure: list[Action] = [
        CheckLength(BARE_NEIGHBOR, LONGER_THAN_BARE),
        CheckLength(NEIGHBOR_WITH_OPTION, LONGER_THAN_OPTION),
    ]
    for net in own:
        source, target = exactly(oxm.IPV6_SRC, net.value), exactly(oxm.ND_TARGET, net.value)
        duplicate = [*solicit, unspecified, target, exactly(oxm.ND_SLL, 0)]
        for terms in ([*solicit, source], [*advertise, source, target], duplicate):
            flows.add(
                tables.CLASSIFY,
                priorities.CLASSIFY_OWN_DISCOVERY,
                [*here, *terms],
                measure,
                tables.ND_GUARD,
                port_cookie,
            )
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_SPOOFED_DISCOVERY, [*solicit, source], cookie=port_cookie)
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_SPOOFED_DISCOVERY, [*advertise, target], cookie=port_cookie)
    _admit_to_routers(flows, pod, here, own[-1], port_cookie)
    port = here[0]
    for terms, option in ((solicit, oxm.ND_SLL), (advertise, oxm.ND_TLL)):
        # Without a known MAC address any may be the pod's: its frames are not bound to one either.
        mine = [] if pod.mac is None else [exactly(option, pod.mac)]
        checked = [port, *terms, *mine, _FROM_LINK, _WITH_OPTION]
        priority = priorities.ND_GUARD_ANY_OPTION if pod.mac is None else priorities.ND_GUARD_OWN_OPTION
        flows.add(tables.ND_GUARD, priority, checked, goto=tables.NEIGHBOR, cookie=port_cookie)


def _admit_to_routers(flows: FlowSet, pod: PodBinding, here: list[Term], last: Net, port_cookie: int) -> None:
    """Router solicitations without options, and MLD reports of the pod's multicast groups, of bounded length.

    The switch sees neither the options of the one nor the groups of the other, so both are sent to routers only.
    """
    unspecified = 0
    for sender in (last.value, unspecified):
        solicit = [*discovery(ROUTER_SOLICITATION), exactly(oxm.IPV6_SRC, sender)]
        measure = [CheckLength(BARE_ROUTER_SOLICITATION, LONGER_THAN_BARE)]
        flows.add(
            tables.CLASSIFY, priorities.CLASSIFY_OWN_DISCOVERY, [*here, *solicit], measure, tables.ND_GUARD, port_cookie
        )
    routers = [exactly(oxm.ETH_DST, _ALL_MLD2_ROUTERS_MAC), exactly(oxm.IPV6_DST, ALL_MLD2_ROUTERS)]
    for sender in (unspecified,) if pod.mac is None else (link_local(pod.mac).value, unspecified):
        report = [*discovery(MLD2_REPORT), *routers, exactly(oxm.IPV6_SRC, sender)]
        measure = [CheckLength(LONGEST_REPORT, LONGER_THAN_BARE)]
        flows.add(
            tables.CLASSIFY, priorities.CLASSIFY_OWN_DISCOVERY, [*here, *report], measure, tables.ND_GUARD, port_cookie
        )
