"""From a switch and the policy of its pods to the flows that it shall have.

The one entry to rendering: the flows that every switch has stand here, those of ports in `render_ports`, those of
rules in `render_rules`, those of packets whose part in a connection is in doubt in `render_readings`. All are functions
of their arguments alone.
"""

from __future__ import annotations

from flows.bridge.state import Binding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Ct, Load, Output, OutputRegister, Resubmit
from flows.openflow.match import exactly, in_range, masked
from flows.openflow.port_numbers import LOCAL_16, LOCAL_32
from flows.pipeline import priorities, tables
from flows.pipeline.pod_limits import sctp_opening
from flows.pipeline.registers import (
    BEHIND_NODE,
    CONNTRACK_ZONE,
    DESTINATION_OFPORT,
    EMPTY_CONNTRACK_ZONE,
    MALFORMED,
    NODE_ITSELF,
    OUTPUT_OFPORT,
    SCTP_ASSOCIATION,
    SOURCE_OFPORT,
    SctpAssociation,
)
from flows.render.address_probes import render_address_probes
from flows.render.discovery import DISCOVERY_TYPES, discovery, guard_discovery
from flows.render.flow_set import FlowSet
from flows.render.midstream import render_errors, render_interpretations
from flows.render.node import render_neighbors, render_node
from flows.render.rules import render_stages
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


def render_fixed(flows: FlowSet, userspace: bool) -> None:
    """The flows that all bridges of a kind of datapath have: most of those that no pod and no rule is in."""
    _misses(flows)
    flows.add(tables.CLASSIFY, priorities.CLASSIFY_VLAN, [masked(oxm.VLAN_VID, oxm.VLAN_PRESENT, oxm.VLAN_PRESENT)])
    guard_discovery(flows)
    _tracking(flows, userspace)
    _state(flows)
    render_interpretations(flows, userspace)
    _recording(flows, userspace)
    render_stages(flows)


def render_bridge(flows: FlowSet, binding: Binding) -> None:
    """The flows in which the bridge's uplink, its own MAC address and its node's addresses are."""
    _admission(flows, binding)
    _delivery(flows, binding)
    render_errors(flows, binding)
    render_node(flows, binding)
    render_address_probes(flows, binding)
    render_neighbors(flows, binding)


def _misses(flows: FlowSet) -> None:
    """Each table's declared miss; tables that nothing follows drop."""
    onward = {tables.EGRESS: tables.EGRESS_DEFAULT, tables.INGRESS: tables.INGRESS_DEFAULT}
    onward |= {tables.EGRESS_DEFAULT: tables.DENY, tables.INGRESS_DEFAULT: tables.DENY, tables.COMMIT: tables.OUTPUT}
    onward[tables.LIMIT] = tables.COMMIT
    for table in tables.TABLES:
        if table is tables.OUTPUT:
            flows.add(table, priorities.MISS, (), [OutputRegister(OUTPUT_OFPORT)])
            # Every ct() may put expired fragments of somebody else among the packets that leave it.
            flows.add(table, priorities.OUTPUT_INVALID, [IS_INVALID])
        elif table.number not in tables.TABLES_WITHOUT_MISS:
            flows.add(table, priorities.MISS, (), goto=onward.get(table))


def _admission(flows: FlowSet, binding: Binding) -> None:
    """What may come in, apart from pods: the uplink and the node. VLAN tags and unguarded discovery never, on any
    bridge."""
    sources = [(LOCAL_32, BEHIND_NODE)]
    if binding.uplink is not None:
        sources.append((binding.uplink, binding.uplink))
    for port, source in sources:
        here = exactly(oxm.IN_PORT, port)
        for kind in DISCOVERY_TYPES:
            flows.add(
                tables.CLASSIFY, priorities.CLASSIFY_OUTSIDE_DISCOVERY, [here, *discovery(kind)], goto=tables.NEIGHBOR
            )
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_OUTSIDE, [here, IS_ARP], goto=tables.NEIGHBOR)
        for family in IP_FAMILIES:
            flows.add(
                tables.CLASSIFY,
                priorities.CLASSIFY_OUTSIDE,
                [here, family],
                [Load(SOURCE_OFPORT, source)],
                tables.CONNTRACK,
            )


def _tracking(flows: FlowSet, userspace: bool) -> None:
    """One look-up for each packet. Userspace conntrack would take one SCTP association for another, so there SCTP is
    looked up in a zone that stays empty, and the learned table tells replies."""
    for family in IP_FAMILIES:
        flows.add(tables.CONNTRACK, priorities.CONNTRACK_IP, [family], [Ct(CONNTRACK_ZONE, tables.DESTINATION.number)])
        if userspace:
            known = in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)
            flows.add(
                tables.CONNTRACK,
                priorities.CONNTRACK_SCTP,
                [family, IS_SCTP],
                [Resubmit(tables.SCTP_REPLIES.number)],
                tables.SCTP,
            )
            flows.add(
                tables.SCTP, priorities.SCTP_REPLY, [family, known], [Ct(CONNTRACK_ZONE, tables.DESTINATION.number)]
            )
            flows.add(
                tables.SCTP, priorities.SCTP_OTHER, [family], [Ct(EMPTY_CONNTRACK_ZONE, tables.DESTINATION.number)]
            )


def _delivery(flows: FlowSet, binding: Binding) -> None:
    """Where packets go that are for no local pod. Between the node and the uplink no pod is concerned: straight
    through."""
    to_node = [Output(LOCAL_32)]
    if binding.local_mac is not None:
        local = exactly(oxm.ETH_DST, binding.local_mac)
        behind = [Load(DESTINATION_OFPORT, BEHIND_NODE), Load(OUTPUT_OFPORT, LOCAL_16)]
        flows.add(tables.DESTINATION, priorities.DESTINATION_BEHIND_NODE, [local], behind, tables.STATE)
        if binding.uplink is not None:
            flows.add(
                tables.DESTINATION,
                priorities.DESTINATION_LOCAL_FROM_UPLINK,
                [in_range(SOURCE_OFPORT, binding.uplink), local],
                to_node,
            )
    if binding.uplink is None:
        return
    away = [Load(DESTINATION_OFPORT, binding.uplink), Load(OUTPUT_OFPORT, binding.uplink)]
    flows.add(tables.DESTINATION, priorities.DESTINATION_FROM_UPLINK, [in_range(SOURCE_OFPORT, binding.uplink)])
    for source in (NODE_ITSELF, BEHIND_NODE):
        flows.add(
            tables.DESTINATION,
            priorities.DESTINATION_NODE_TO_UPLINK,
            [in_range(SOURCE_OFPORT, source)],
            [Output(binding.uplink)],
        )
    flows.add(tables.DESTINATION, priorities.DESTINATION_UPLINK, [], away, tables.STATE)
    for node in binding.node_addresses:
        family = IS_IPV4 if node.version == 4 else IS_IPV6
        field = oxm.IPV4_DST if node.version == 4 else oxm.IPV6_DST
        here = [in_range(SOURCE_OFPORT, binding.uplink), family, exactly(field, node.value)]
        flows.add(tables.DESTINATION, priorities.DESTINATION_NODE_FROM_UPLINK, here, to_node)


def _state(flows: FlowSet) -> None:
    """Invalid packets end here. Later fragments have no ports: they go on to the second reassembly, which lets none out
    without the first fragment, and that one is judged."""
    flows.add(tables.STATE, priorities.STATE_INVALID_UNTRACKED, [IS_INVALID])
    # Only what was tracked is counted: the others may be expired fragments of another pod.
    flows.add(tables.STATE, priorities.STATE_INVALID, [IS_INVALID_AND_TRACKED], goto=tables.INVALID)
    for family in IP_FAMILIES:
        # UDP has no state that a packet could be at odds with.
        flows.add(
            tables.STATE,
            priorities.STATE_MALFORMED_UDP,
            [IS_INVALID_AND_TRACKED, family, IS_UDP],
            [Load(MALFORMED, 1)],
            tables.INVALID,
        )
        flows.add(tables.STATE, priorities.STATE_LATER_FRAGMENT, [family, IS_LATER_FRAGMENT], goto=tables.COMMIT)


def _recording(flows: FlowSet, userspace: bool) -> None:
    """Allowed connections enter the zone. Fragments pass conntrack again, whose reassembly needs all of them to be
    allowed."""
    commit, output = tables.COMMIT, tables.OUTPUT.number
    for family in IP_FAMILIES:
        flows.add(
            commit,
            priorities.COMMIT_NEW_FRAGMENT,
            [family, IS_NEW, IS_FRAGMENT],
            [Ct(CONNTRACK_ZONE, output, commit=True)],
        )
        flows.add(commit, priorities.COMMIT_FRAGMENT, [family, IS_FRAGMENT], [Ct(CONNTRACK_ZONE, output)])
        if not userspace:
            flows.add(commit, priorities.COMMIT_NEW, [family, IS_NEW], [Ct(CONNTRACK_ZONE, commit=True)], tables.OUTPUT)
            continue
        # The packets that leave userspace conntrack may be others than those that entered it: expired fragments
        # are among them, so whatever follows must look at them anew.
        flows.add(commit, priorities.COMMIT_NEW, [family, IS_NEW], [Ct(CONNTRACK_ZONE, output, commit=True)])
        flows.add(commit, priorities.COMMIT_SCTP, [family, IS_SCTP], sctp_opening(4 if family is IS_IPV4 else 6))
    if userspace:
        for family in IP_FAMILIES:
            # It is looked up where nothing is ever recorded, so every packet looks new; what is learned is limited.
            flows.add(tables.LIMIT, priorities.LIMIT_SCTP, [family, IS_SCTP], goto=commit)
        flows.add(
            commit,
            priorities.COMMIT_SCTP_REPLY,
            [in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)],
            goto=tables.OUTPUT,
        )
