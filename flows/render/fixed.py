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
from flows.pipeline import tables
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
from flows.pipeline.tables import MISS
from flows.render.address_probes import render_address_probes
from flows.render.discovery import DISCOVERY_TYPES, discovery, guard_discovery
from flows.render.flow_set import ARP, FAMILIES, IPV4, IPV6, FlowSet
from flows.render.midstream import (
    FRAGMENT,
    INVALID,
    INVALID_NOW,
    NEW,
    SCTP,
    UDP,
    render_errors,
    render_interpretations,
)
from flows.render.node import render_neighbors, render_node
from flows.render.rules import render_stages

LATER_FRAGMENT = masked(oxm.IP_FRAG, oxm.Fragment.LATER, oxm.Fragment.LATER)


def render_fixed(flows: FlowSet, userspace: bool) -> None:
    """The flows that all bridges of a kind of datapath have: most of those that no pod and no rule is in."""
    _misses(flows)
    flows.add(tables.CLASSIFY, 300, [masked(oxm.VLAN_VID, oxm.VLAN_PRESENT, oxm.VLAN_PRESENT)])
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
            flows.add(table, MISS, (), [OutputRegister(OUTPUT_OFPORT)])
            # Every ct() may put expired fragments of somebody else among the packets that leave it.
            flows.add(table, 100, [INVALID])
        elif table.number not in tables.TABLES_WITHOUT_MISS:
            flows.add(table, MISS, (), goto=onward.get(table))


def _admission(flows: FlowSet, binding: Binding) -> None:
    """What may come in, apart from pods: the uplink and the node. VLAN tags and unguarded discovery never, on any
    bridge."""
    sources = [(LOCAL_32, BEHIND_NODE)]
    if binding.uplink is not None:
        sources.append((binding.uplink, binding.uplink))
    for port, source in sources:
        here = exactly(oxm.IN_PORT, port)
        for kind in DISCOVERY_TYPES:
            flows.add(tables.CLASSIFY, 215, [here, *discovery(kind)], goto=tables.NEIGHBOR)
        flows.add(tables.CLASSIFY, 50, [here, ARP], goto=tables.NEIGHBOR)
        for family in FAMILIES:
            flows.add(tables.CLASSIFY, 50, [here, family], [Load(SOURCE_OFPORT, source)], tables.CONNTRACK)


def _tracking(flows: FlowSet, userspace: bool) -> None:
    """One look-up for each packet. Userspace conntrack would take one SCTP association for another, so there SCTP is
    looked up in a zone that stays empty, and the learned table tells replies."""
    for family in FAMILIES:
        flows.add(tables.CONNTRACK, 10, [family], [Ct(CONNTRACK_ZONE, tables.DESTINATION.number)])
        if userspace:
            known = in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)
            flows.add(tables.CONNTRACK, 100, [family, SCTP], [Resubmit(tables.SCTP_REPLIES.number)], tables.SCTP)
            flows.add(tables.SCTP, 100, [family, known], [Ct(CONNTRACK_ZONE, tables.DESTINATION.number)])
            flows.add(tables.SCTP, 10, [family], [Ct(EMPTY_CONNTRACK_ZONE, tables.DESTINATION.number)])


def _delivery(flows: FlowSet, binding: Binding) -> None:
    """Where packets go that are for no local pod. Between the node and the uplink no pod is concerned: straight
    through."""
    to_node = [Output(LOCAL_32)]
    if binding.local_mac is not None:
        local = exactly(oxm.ETH_DST, binding.local_mac)
        behind = [Load(DESTINATION_OFPORT, BEHIND_NODE), Load(OUTPUT_OFPORT, LOCAL_16)]
        flows.add(tables.DESTINATION, 100, [local], behind, tables.STATE)
        if binding.uplink is not None:
            flows.add(tables.DESTINATION, 140, [in_range(SOURCE_OFPORT, binding.uplink), local], to_node)
    if binding.uplink is None:
        return
    away = [Load(DESTINATION_OFPORT, binding.uplink), Load(OUTPUT_OFPORT, binding.uplink)]
    flows.add(tables.DESTINATION, 90, [in_range(SOURCE_OFPORT, binding.uplink)])
    for source in (NODE_ITSELF, BEHIND_NODE):
        flows.add(tables.DESTINATION, 75, [in_range(SOURCE_OFPORT, source)], [Output(binding.uplink)])
    flows.add(tables.DESTINATION, 70, [], away, tables.STATE)
    for node in binding.node_addresses:
        family = IPV4 if node.version == 4 else IPV6
        field = oxm.IPV4_DST if node.version == 4 else oxm.IPV6_DST
        here = [in_range(SOURCE_OFPORT, binding.uplink), family, exactly(field, node.value)]
        flows.add(tables.DESTINATION, 210, here, to_node)


def _state(flows: FlowSet) -> None:
    """Invalid packets end here. Later fragments have no ports: they go on to the second reassembly, which lets none out
    without the first fragment, and that one is judged."""
    flows.add(tables.STATE, 200, [INVALID])
    # Only what was tracked is counted: the others may be expired fragments of another pod.
    flows.add(tables.STATE, 202, [INVALID_NOW], goto=tables.INVALID)
    for family in FAMILIES:
        # UDP has no state that a packet could be at odds with.
        flows.add(tables.STATE, 205, [INVALID_NOW, family, UDP], [Load(MALFORMED, 1)], tables.INVALID)
        flows.add(tables.STATE, 190, [family, LATER_FRAGMENT], goto=tables.COMMIT)


def _recording(flows: FlowSet, userspace: bool) -> None:
    """Allowed connections enter the zone. Fragments pass conntrack again, whose reassembly needs all of them to be
    allowed."""
    commit, output = tables.COMMIT, tables.OUTPUT.number
    for family in FAMILIES:
        flows.add(commit, 200, [family, NEW, FRAGMENT], [Ct(CONNTRACK_ZONE, output, commit=True)])
        flows.add(commit, 190, [family, FRAGMENT], [Ct(CONNTRACK_ZONE, output)])
        if not userspace:
            flows.add(commit, 100, [family, NEW], [Ct(CONNTRACK_ZONE, commit=True)], tables.OUTPUT)
            continue
        # The packets that leave userspace conntrack may be others than those that entered it: expired fragments
        # are among them, so whatever follows must look at them anew.
        flows.add(commit, 100, [family, NEW], [Ct(CONNTRACK_ZONE, output, commit=True)])
        flows.add(commit, 150, [family, SCTP], sctp_opening(4 if family is IPV4 else 6))
    if userspace:
        for family in FAMILIES:
            # It is looked up where nothing is ever recorded, so every packet looks new; what is learned is limited.
            flows.add(tables.LIMIT, 200, [family, SCTP], goto=commit)
        flows.add(commit, 160, [in_range(SCTP_ASSOCIATION, SctpAssociation.REPLY)], goto=tables.OUTPUT)
