"""The flows of a bridge in which no pod and no rule is: those that all bridges have, and those of one bridge's ports.

`pods` and `rules` add theirs to these. Every function depends on its arguments alone. Must not live here: flows of one
pod or rule.
"""

from __future__ import annotations

from flows.bridge.state import Binding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Ct, Load, Move, Output, OutputRegister, Resubmit
from flows.openflow.match import exactly, in_range, masked
from flows.openflow.port_numbers import LOCAL_16, LOCAL_32
from flows.pipeline import priorities, tables
from flows.pipeline.pod_limits import sctp_opening
from flows.pipeline.registers import (
    BEHIND_NODE,
    BROKEN,
    CONNTRACK_ZONE,
    DESTINATION_OFPORT,
    EMPTY_CONNTRACK_ZONE,
    NODE_ITSELF,
    OUTPUT_OFPORT,
    REFUSAL,
    SCTP_ASSOCIATION,
    SOURCE_OFPORT,
    SctpAssociation,
)
from flows.render.address_probes import render_address_probes
from flows.render.flow_set import FlowSet
from flows.render.gateway import render_answers, render_hops
from flows.render.icmp_errors import refuse_unmatched_errors, render_icmp_errors
from flows.render.interpretations import (
    render_allowed_interpretations,
    render_direction,
    render_midstream,
    render_sctp_replies,
    render_stale_syns,
)
from flows.render.live_probes import render_live_probes
from flows.render.neighbors import DISCOVERY_TYPES, discovery, guard_discovery
from flows.render.node import render_neighbors, render_node
from flows.render.routing import render_routed_bridge
from flows.render.rules import render_stages
from flows.render.same_port import render_same_port
from flows.render.services import CONNECTION_MARKS, render_service_stages
from flows.render.terms import (
    IP_FAMILIES,
    IS_ARP,
    IS_FRAGMENT,
    IS_INVALID,
    IS_INVALID_AND_TRACKED,
    IS_IPV4,
    IS_IPV6,
    IS_LATER_FRAGMENT,
    IS_NEW,
    IS_SCTP,
    IS_UDP,
)


def render_fixed(flows: FlowSet, userspace: bool, routes: bool = False) -> None:
    """The flows that all bridges of one kind of datapath have. `routes`: the switch routes."""
    _misses(flows, routes)
    marks = CONNECTION_MARKS if routes else ()
    if routes:
        render_answers(flows, userspace)
        render_hops(flows)
        render_service_stages(flows, userspace)
    flows.add(tables.CLASSIFY, priorities.CLASSIFY_VLAN, [masked(oxm.VLAN_VID, oxm.VLAN_PRESENT, oxm.VLAN_PRESENT)])
    guard_discovery(flows)
    _tracking(flows, userspace)
    _state(flows)
    render_midstream(flows)
    render_direction(flows)
    render_same_port(flows)
    render_allowed_interpretations(flows, userspace)
    if userspace:
        render_stale_syns(flows, marks)
        render_sctp_replies(flows)
    if not userspace:
        refuse_unmatched_errors(flows)
    _recording(flows, userspace, marks)
    if userspace:
        _recording_sctp(flows)
    render_stages(flows)
    render_live_probes(flows, routes)


def render_bridge(flows: FlowSet, binding: Binding) -> None:
    """The flows that depend on the bridge's uplink, its LOCAL port's MAC address and its node's addresses."""
    if binding.routing.routes:
        render_routed_bridge(flows, binding)
        return
    _admission(flows, binding)
    _delivery(flows, binding)
    render_icmp_errors(flows, binding)
    render_node(flows, binding)
    render_address_probes(flows, binding)
    render_neighbors(flows, binding)


def _misses(flows: FlowSet, routes: bool) -> None:
    """The miss that each table declares; without a following table it drops."""
    onward = {tables.EGRESS: tables.EGRESS_DEFAULT, tables.INGRESS: tables.INGRESS_DEFAULT}
    onward |= {tables.EGRESS_DEFAULT: tables.DENY, tables.INGRESS_DEFAULT: tables.DENY, tables.COMMIT: tables.OUTPUT}
    onward[tables.LIMIT] = tables.COMMIT
    for table in tables.TABLES:
        if table in tables.OPTIONAL_TABLES or (table.number in tables.ROUTING_TABLES and not routes):
            continue
        if table is tables.OUTPUT:
            # Where the switch routes, every destination has a flow of its own there.
            flows.add(table, priorities.MISS, (), () if routes else [OutputRegister(OUTPUT_OFPORT)])
            # Any ct() may let out expired fragments of another connection.
            flows.add(table, priorities.OUTPUT_INVALID, [IS_INVALID, *([in_range(REFUSAL, 0)] if routes else [])])
        elif table.number not in tables.TABLES_WITHOUT_MISS:
            flows.add(table, priorities.MISS, (), goto=onward.get(table))


def _admission(flows: FlowSet, binding: Binding) -> None:
    """What may come in from the uplink and the node (LOCAL): ARP, IP, ND and MLD, without VLAN tags."""
    sources = [(LOCAL_32, BEHIND_NODE)]
    if binding.uplink is not None:
        sources.append((binding.uplink, binding.uplink))
    table = tables.CLASSIFY
    for port, source in sources:
        here = exactly(oxm.IN_PORT, port)
        for kind in DISCOVERY_TYPES:
            found = [here, *discovery(kind)]
            flows.add(table, priorities.CLASSIFY_OUTSIDE_DISCOVERY, found, goto=tables.NEIGHBOR)
        flows.add(table, priorities.CLASSIFY_OUTSIDE, [here, IS_ARP], goto=tables.NEIGHBOR)
        for family in IP_FAMILIES:
            load = [Load(SOURCE_OFPORT, source)]
            flows.add(table, priorities.CLASSIFY_OUTSIDE, [here, family], load, tables.CONNTRACK)


def _tracking(flows: FlowSet, userspace: bool) -> None:
    """One look-up in conntrack for each packet. Userspace conntrack cannot tell SCTP associations apart, for it ignores
    SCTP's ports: there SCTP is looked up in a zone that stays empty, and the learned table tells replies."""
    look_up = [Ct(CONNTRACK_ZONE, tables.DESTINATION.number)]
    for family in IP_FAMILIES:
        flows.add(tables.CONNTRACK, priorities.CONNTRACK_IP, [family], look_up)
        if userspace:
            reply = [family, in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)]
            learned = [Resubmit(tables.SCTP_REPLIES.number)]
            empty = [Ct(EMPTY_CONNTRACK_ZONE, tables.DESTINATION.number)]
            flows.add(tables.CONNTRACK, priorities.CONNTRACK_SCTP, [family, IS_SCTP], learned, tables.SCTP)
            flows.add(tables.SCTP, priorities.SCTP_REPLY, reply, look_up)
            flows.add(tables.SCTP, priorities.SCTP_OTHER, [family], empty)


def _delivery(flows: FlowSet, binding: Binding) -> None:
    """The destination of packets that are for no local pod. Between the node and the uplink no policy applies: these
    are sent at once."""
    table, uplink = tables.DESTINATION, binding.uplink
    to_node = [Output(LOCAL_32)]
    if binding.local_mac is not None:
        local = exactly(oxm.ETH_DST, binding.local_mac)
        behind = [Load(DESTINATION_OFPORT, BEHIND_NODE), Load(OUTPUT_OFPORT, LOCAL_16)]
        flows.add(table, priorities.DESTINATION_BEHIND_NODE, [local], behind, tables.STATE)
        if uplink is not None:
            from_uplink = [in_range(SOURCE_OFPORT, uplink), local]
            flows.add(table, priorities.DESTINATION_LOCAL_FROM_UPLINK, from_uplink, to_node)
    if uplink is None:
        return
    away = [Load(DESTINATION_OFPORT, uplink), Load(OUTPUT_OFPORT, uplink)]
    flows.add(table, priorities.DESTINATION_FROM_UPLINK, [in_range(SOURCE_OFPORT, uplink)])
    for source in (NODE_ITSELF, BEHIND_NODE):
        of_node = [in_range(SOURCE_OFPORT, source)]
        flows.add(table, priorities.DESTINATION_NODE_TO_UPLINK, of_node, [Output(uplink)])
    flows.add(table, priorities.DESTINATION_UPLINK, [], away, tables.STATE)
    for node in binding.node_addresses:
        family = IS_IPV4 if node.version == 4 else IS_IPV6
        field = oxm.IPV4_DST if node.version == 4 else oxm.IPV6_DST
        here = [in_range(SOURCE_OFPORT, uplink), family, exactly(field, node.value)]
        flows.add(table, priorities.DESTINATION_NODE_FROM_UPLINK, here, to_node)


def _state(flows: FlowSet) -> None:
    """Invalid packets are dropped here. Later fragments have no ports: they go on to the second reassembly, which lets
    none out without the first fragment, and the first fragment is matched."""
    table = tables.STATE
    flows.add(table, priorities.STATE_INVALID_UNTRACKED, [IS_INVALID])
    # Only tracked packets are counted: the others may be expired fragments of another pod.
    flows.add(table, priorities.STATE_INVALID, [IS_INVALID_AND_TRACKED], goto=tables.INVALID)
    for family in IP_FAMILIES:
        udp = [IS_INVALID_AND_TRACKED, family, IS_UDP]
        flows.add(table, priorities.STATE_BROKEN_UDP, udp, [Load(BROKEN, 1)], tables.INVALID)
        flows.add(table, priorities.STATE_LATER_FRAGMENT, [family, IS_LATER_FRAGMENT], goto=tables.COMMIT)


def _recording(flows: FlowSet, userspace: bool, marks: tuple[Load | Move, ...]) -> None:
    """Record allowed connections in conntrack. Fragments pass conntrack again: its reassembly lets a packet out only
    when all its fragments were allowed."""
    commit, output = tables.COMMIT, tables.OUTPUT.number
    record = [Ct(CONNTRACK_ZONE, commit=True, marks=marks)]
    record_and_return = [Ct(CONNTRACK_ZONE, output, commit=True, marks=marks)]
    for family in IP_FAMILIES:
        flows.add(commit, priorities.COMMIT_NEW_FRAGMENT, [family, IS_NEW, IS_FRAGMENT], record_and_return)
        flows.add(commit, priorities.COMMIT_FRAGMENT, [family, IS_FRAGMENT], [Ct(CONNTRACK_ZONE, output)])
        if not userspace:
            flows.add(commit, priorities.COMMIT_NEW, [family, IS_NEW], record, tables.OUTPUT)
            continue
        # Userspace conntrack may let out other packets than came in, such as expired fragments. So packets pass
        # `output` after conntrack, which drops those.
        flows.add(commit, priorities.COMMIT_NEW, [family, IS_NEW], record_and_return)


def _recording_sctp(flows: FlowSet) -> None:
    """Userspace datapath: learn SCTP associations instead of recording them."""
    for family in IP_FAMILIES:
        opening = sctp_opening(4 if family is IS_IPV4 else 6)
        flows.add(tables.COMMIT, priorities.COMMIT_SCTP, [family, IS_SCTP], opening)
        # In the zone that stays empty every packet is new; the number of learned flows is limited instead.
        flows.add(tables.LIMIT, priorities.LIMIT_SCTP, [family, IS_SCTP], goto=tables.COMMIT)
    reply = [in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)]
    flows.add(tables.COMMIT, priorities.COMMIT_SCTP_REPLY, reply, goto=tables.OUTPUT)
