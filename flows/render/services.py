"""Services in the switch: connections to their addresses are sent to endpoints, in a conntrack zone of their own.

A packet to an address of Services is looked up in SERVICE_ZONE before the policy's zone. A new connection takes a
bucket of its port's group, which records the endpoint there; later packets follow the record. Policy then sees the real
source and the endpoint. The policy's zone marks the connection, and a marked reply passes SERVICE_ZONE after policy,
where its source becomes the Service's address again. What is for no Service passes none of this.

Example. Pod 10.0.0.1 opens a connection to 10.96.0.5:80, and the group chooses 10.0.0.2:8080:

    request  10.0.0.1 -> 10.96.0.5:80     SERVICE_ZONE: destination 10.0.0.2:8080, then the policy's zone
    reply    10.0.0.2:8080 -> 10.0.0.1    the policy's zone, then SERVICE_ZONE: source 10.96.0.5:80

Where an endpoint is the sender itself, or is reached through the node that the packet came from, the packet would come
back to its own source address. HAIRPIN_ZONE gives it another source, so that the reply passes here. Which endpoints a
group has is decided in `flows.services`.
"""

from __future__ import annotations

from flows.bridge.state import Binding, PodBinding
from flows.cluster.net import Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Ct, Load, Move, Nat, NatKind
from flows.openflow.match import Term, exactly, in_range, masked
from flows.openflow.port_numbers import IN_PORT_16, LOCAL_16, LOCAL_32
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.gateway import HEALTH, NODE_HAIRPIN, NODE_PORTS, POD_HAIRPIN
from flows.pipeline.registers import (
    BEHIND_NODE,
    CHECK_ZONE,
    CLAIMED,
    CONNECTION_OF_SERVICE,
    CONNTRACK_ZONE,
    DESTINATION_OFPORT,
    FROM_BEHIND_NODE,
    HAIRPIN_ZONE,
    LOOKED_UP,
    NODE_ITSELF,
    OPENED_BEHIND_NODE,
    OUTPUT_OFPORT,
    RECORDED,
    REFUSAL,
    REFUSED,
    SERVICE_ZONE,
    SOURCE_OFPORT,
    THROUGH_SERVICE,
    TO_NODE,
    TO_OTHER_NODE,
)
from flows.render.flow_set import FlowSet
from flows.render.service_fragments import TRANSLATED_ONCE, render_service_fragments
from flows.render.terms import (
    IP_FAMILIES,
    IS_INVALID_AND_TRACKED,
    IS_OPENING,
    IS_SCTP,
    IS_SYN_WITHOUT_ACK,
    IS_TCP,
    IS_TRACKED,
    address_terms,
)
from flows.services.choice import Target

_STATE = oxm.CtState
# Recorded in the zone just looked at: a later packet of a connection, or an ICMP error about one.
_IS_KNOWN = masked(oxm.CT_STATE, _STATE.TRK, _STATE.TRK | _STATE.NEW | _STATE.INV)
_IS_REPLY = masked(oxm.CT_STATE, _STATE.TRK | _STATE.RPL, _STATE.TRK | _STATE.RPL | _STATE.INV)
# Also of a connection that no zone knows, such as one from the tunnel to the node.
_IS_NO_REPLY = masked(oxm.CT_STATE, 0, _STATE.RPL)
_IS_OPENERS = masked(oxm.CT_STATE, _STATE.TRK, _STATE.TRK | _STATE.RPL | _STATE.INV)  # sent by who opened
_IS_RESET = masked(oxm.TCP_FLAGS, oxm.TcpFlags.RST, oxm.TcpFlags.RST)
_NOT_LOOKED_UP = in_range(LOOKED_UP, 0)
_TRANSLATED = in_range(THROUGH_SERVICE, 1)
OF_NODE = (NODE_ITSELF, BEHIND_NODE)
# Written by whatever records a connection in the policy's zone.
CONNECTION_MARKS = (Move(THROUGH_SERVICE, CONNECTION_OF_SERVICE), Move(FROM_BEHIND_NODE, OPENED_BEHIND_NODE))
_LOOK_UP = Ct(SERVICE_ZONE, tables.SERVICE.number, nat=Nat())
# Without translation: what is sent to a node or pod may also be a reply of a Service, which policy must see as it is.
_LOOK_UP_CLAIMED = Ct(SERVICE_ZONE, tables.SERVICE.number)


def render_service_stages(flows: FlowSet, userspace: bool) -> None:
    """What is the same on all bridges of one kind of datapath that route."""
    _pass_direct(flows, userspace)
    reply_of_service = in_range(CONNECTION_OF_SERVICE, 1)
    for family in IP_FAMILIES:
        flows.add(tables.SERVICE, priorities.SERVICE_KNOWN, [family, _IS_KNOWN], TRANSLATED_ONCE, tables.CONNTRACK)
        claimed = [family, in_range(CLAIMED, 1)]
        translate: list[Action] = [*TRANSLATED_ONCE, Ct(SERVICE_ZONE, tables.CONNTRACK.number, nat=Nat())]
        flows.add(tables.SERVICE, priorities.SERVICE_KNOWN_CLAIMED, [*claimed, _IS_KNOWN], translate)
        reply = [*claimed, _IS_REPLY]
        flows.add(tables.SERVICE, priorities.SERVICE_REPLY_CLAIMED, reply, [Load(LOOKED_UP, 1)], tables.CONNTRACK)
        flows.add(tables.SERVICE, priorities.SERVICE_OTHER, [family], [Load(LOOKED_UP, 1)], tables.CONNTRACK)
        back: list[Action] = [Ct(SERVICE_ZONE, tables.OUTPUT.number, nat=Nat())]
        flows.add(tables.OUTPUT, priorities.OUTPUT_OF_SERVICE, [family, _IS_REPLY, reply_of_service], back)
        back_to_pod: list[Action] = [Ct(SERVICE_ZONE, tables.DESTINATION.number, nat=Nat())]
        flows.add(tables.HAIRPIN, priorities.HAIRPIN_OF_POD, [family, _IS_REPLY], back_to_pod)
        for source in OF_NODE:
            of_node = [family, _IS_REPLY, in_range(SOURCE_OFPORT, source)]
            back_to_node: list[Action] = [*_to_node(IN_PORT_16), Ct(SERVICE_ZONE, tables.OUTPUT.number, nat=Nat())]
            flows.add(tables.HAIRPIN, priorities.HAIRPIN_OF_NODE, of_node, back_to_node)
    for net in NODE_PORTS:
        look_up_range(flows, net, Load(TO_NODE, 1))
        _refuse_others(flows, net)
        _take_resets(flows, net)
    _send_refusals(flows)
    _take_answers(flows)
    if userspace:
        render_service_fragments(flows)
    for net in (*NODE_HAIRPIN, *POD_HAIRPIN):
        _look_up_hairpin(flows, net)
    for source in OF_NODE:
        from_node = [in_range(SOURCE_OFPORT, source)]
        back = [*_to_node(IN_PORT_16), Load(REFUSED, 1)]
        flows.add(tables.REFUSE, priorities.REFUSE_TO_NODE, from_node, back, tables.OUTPUT)
    # Anything but the node: to the port of the node. `refuse` has no other flows, so its miss would drop.
    flows.add(tables.REFUSE, priorities.REFUSE_OF_OTHERS, [], [*_to_node(LOCAL_16), Load(REFUSED, 1)], tables.OUTPUT)


def render_service_ranges(flows: FlowSet, binding: Binding) -> None:
    """What depends on the bridge: ranges of cluster IPs, the node's addresses, and the tunnel."""
    for net in binding.routing.service_cidrs:
        look_up_range(flows, net)
        _refuse_others(flows, net)
        _take_resets(flows, net)
    for net in binding.node_addresses:
        look_up_node(flows, net)
    _return_to_node(flows, binding)
    if binding.tunnel is not None:
        _masquerade(flows, binding, binding.tunnel)
        for family in IP_FAMILIES:
            # The sender's own switch has looked it up, or an endpoint that is an address of another Service would be
            # translated twice, and answered under the wrong one.
            opened = [family, in_range(SOURCE_OFPORT, binding.tunnel), IS_OPENING]
            flows.add(tables.SERVICE, priorities.SERVICE_FROM_TUNNEL, opened, [Load(LOOKED_UP, 1)], tables.CONNTRACK)


def render_pod_hairpin(flows: FlowSet, pod: PodBinding) -> None:
    """A pod's connection through a Service to itself gets the source POD_HAIRPIN. A pod always reaches itself, so
    policy has no part in it."""
    owner = cookie(CookieKind.PORT, pod.ofport)
    for net in pod.addresses:
        own = [in_range(SOURCE_OFPORT, pod.ofport), *address_terms("destination", net), _TRANSLATED]
        back: list[Action] = [
            Load(DESTINATION_OFPORT, pod.ofport),
            Load(OUTPUT_OFPORT, IN_PORT_16),
            _with_source(_of_family(POD_HAIRPIN, net.version)),
        ]
        flows.add(tables.DESTINATION, priorities.DESTINATION_HAIRPIN, own, back, cookie=owner)


def look_up_range(flows: FlowSet, net: Net, *loads: Load) -> None:
    """What is sent to these addresses, which only Services have, is looked up in their zone first, and translated."""
    to_service = [*address_terms("destination", net), _NOT_LOOKED_UP]
    flows.add(tables.CONNTRACK, priorities.CONNTRACK_SERVICE, to_service, [*loads, _LOOK_UP])


def look_up_address(flows: FlowSet, net: Net, *loads: Load) -> None:
    """What is sent to this address, which somebody else may have as well, is looked up in the policy's zone first. What
    that knows goes on as it is: a Service takes no replies to a port of another, and no connection that stands."""
    to_anybody = [*address_terms("destination", net), _NOT_LOOKED_UP]
    look_up: list[Action] = [Load(CLAIMED, 1), *loads, Ct(CONNTRACK_ZONE, tables.DIRECT.number)]
    flows.add(tables.CONNTRACK, priorities.CONNTRACK_SERVICE, to_anybody, look_up)


def look_up_node(flows: FlowSet, net: Net) -> None:
    """The same for an address of the node, with node ports."""
    look_up_address(flows, net, Load(TO_NODE, 1))


def look_up_other_node(flows: FlowSet, net: Net) -> None:
    """The same for an address of another node: pods reach its node ports without going there."""
    look_up_address(flows, net, Load(TO_NODE, 1), Load(TO_OTHER_NODE, 1))


def _pass_direct(flows: FlowSet, userspace: bool) -> None:
    """What is recorded in the policy's zone was sent to the address itself, or answers what came from there."""
    table = tables.DIRECT
    for family in IP_FAMILIES:
        recorded = [family, in_range(RECORDED, 1), IS_TRACKED]
        flows.add(table, priorities.DIRECT_RECORDED, recorded, goto=tables.DESTINATION)
        flows.add(table, priorities.DIRECT_OTHER, [family], [_LOOK_UP_CLAIMED])
        if userspace:
            # Userspace conntrack ignores SCTP's ports, so it does not know these connections.
            flows.add(table, priorities.DIRECT_SCTP, [family, IS_SCTP], [_LOOK_UP_CLAIMED])


def _take_resets(flows: FlowSet, net: Net) -> None:
    """The node refuses TCP in the name of the Service. Only resets are taken for the node's own: it may also forward
    packets from outside with such a source."""
    reset = [exactly(oxm.IN_PORT, LOCAL_32), *address_terms("source", net), IS_TCP, _IS_RESET]
    itself = [Load(SOURCE_OFPORT, NODE_ITSELF)]
    flows.add(tables.CLASSIFY, priorities.CLASSIFY_OWN_ADDRESS, reset, itself, tables.CONNTRACK)


def _take_answers(flows: FlowSet) -> None:
    """What the node answers to a pod's check of a health check node port comes from the node's address: `classify` has
    it once more then. Answers to others have no record in this zone, and go on as they came: see `hairpin`."""
    for net in HEALTH:
        answer = [exactly(oxm.IN_PORT, LOCAL_32), *address_terms("source", net), exactly(oxm.CT_ZONE, 0)]
        look_up: list[Action] = [Ct(CHECK_ZONE, tables.CLASSIFY.number, nat=Nat())]
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_CHECKED, answer, look_up)


def answer_check(flows: FlowSet, version: int, number: int, target: Target) -> None:
    """A pod's check of a health check node port, at an address of this node, goes to what answers it. After policy, for
    which it is a connection to the node; also from pods of other nodes, out of the tunnel."""
    family = IP_FAMILIES[0] if version == 4 else IP_FAMILIES[1]
    to_node = [in_range(DESTINATION_OFPORT, NODE_ITSELF), in_range(THROUGH_SERVICE, 0), _IS_NO_REPLY]
    nat = Nat(NatKind.DESTINATION, version, target.address.value, target.number)
    actions: list[Action] = [Load(THROUGH_SERVICE, 1), Ct(CHECK_ZONE, tables.OUTPUT.number, commit=True, nat=nat)]
    terms = [*to_node, family, IS_TCP, exactly(oxm.TCP_DST, number)]
    flows.add(tables.OUTPUT, priorities.OUTPUT_CHECK, terms, actions)


def _send_refusals(flows: FlowSet) -> None:
    """Conntrack calls a refusal invalid, for a refused connection is recorded nowhere. No policy applies between the
    node and its pods."""
    of_node = [in_range(SOURCE_OFPORT, NODE_ITSELF), IS_INVALID_AND_TRACKED]
    for family, icmp in zip(IP_FAMILIES, (oxm.IP_PROTO_ICMP, oxm.IP_PROTO_ICMPV6), strict=True):
        for kind in ([IS_TCP, _IS_RESET], [exactly(oxm.IP_PROTO, icmp)]):
            terms = [*of_node, family, *kind]
            flows.add(tables.STATE, priorities.STATE_REFUSAL, terms, [Load(REFUSAL, 1)], tables.OUTPUT)


def _refuse_others(flows: FlowSet, net: Net) -> None:
    """Only Services have these addresses, so a new connection to no port of theirs is refused."""
    no_port = [IS_OPENING, *address_terms("responder", net)]
    flows.add(tables.SERVICE, priorities.SERVICE_NO_PORT, no_port, goto=tables.REFUSE)


def _look_up_hairpin(flows: FlowSet, net: Net) -> None:
    reply = [*address_terms("destination", net), _NOT_LOOKED_UP]
    look_up: list[Action] = [Load(LOOKED_UP, 1), Ct(HAIRPIN_ZONE, tables.HAIRPIN.number, nat=Nat())]
    flows.add(tables.CONNTRACK, priorities.CONNTRACK_HAIRPIN, reply, look_up)


def _return_to_node(flows: FlowSet, binding: Binding) -> None:
    """What the node sends through a Service to itself, or to what is reached through it, gets the source NODE_HAIRPIN:
    the node's network stack takes no packet from outside that has its own address as source."""
    table = tables.DESTINATION
    for source in OF_NODE:
        from_node = [in_range(SOURCE_OFPORT, source), _TRANSLATED]
        for net in binding.node_addresses:
            actions = [*_to_node(IN_PORT_16), _with_source(_of_family(NODE_HAIRPIN, net.version))]
            terms = [*from_node, *address_terms("destination", net)]
            flows.add(table, priorities.DESTINATION_HAIRPIN, terms, actions)
        for family, hairpin in zip(IP_FAMILIES, NODE_HAIRPIN, strict=True):
            actions = [*_to_node(IN_PORT_16), _with_source(hairpin)]
            flows.add(table, priorities.DESTINATION_SERVICE_BEHIND_NODE, [*from_node, family], actions)


def leave_by_node(flows: FlowSet, net: Net) -> None:
    """What the node sends through a Service to another node, which has the address, goes back to it, and out by its own
    way: to what came through the tunnel the other node would answer outside of it, past this switch."""
    terms = [in_range(SOURCE_OFPORT, NODE_ITSELF), _TRANSLATED, *address_terms("destination", net)]
    actions = [*_to_node(IN_PORT_16), _with_source(_of_family(NODE_HAIRPIN, net.version))]
    flows.add(tables.DESTINATION, priorities.DESTINATION_HAIRPIN, terms, actions)


def _masquerade(flows: FlowSet, binding: Binding, tunnel: int) -> None:
    """Replies that come through the tunnel. A client outside that is sent to an endpoint on another node gets the
    address of this node's gateway as source: else the endpoint's node would answer it directly, from an address that
    the client does not know. What the node itself sends has the node's address, which leads back here as it is."""
    for net in binding.node_addresses:
        to_node = [in_range(SOURCE_OFPORT, tunnel), *address_terms("destination", net), _NOT_LOOKED_UP]
        look_up: list[Action] = [Load(LOOKED_UP, 1), Ct(SERVICE_ZONE, tables.CONNTRACK.number, nat=Nat())]
        flows.add(tables.CONNTRACK, priorities.CONNTRACK_FROM_TUNNEL, to_node, look_up)
    own = binding.routing.own
    for cidr in own.pod_cidrs if own is not None else ():
        gateway = gateway_of(cidr)
        _look_up_hairpin(flows, gateway)
        family = IP_FAMILIES[0] if cidr.version == 4 else IP_FAMILIES[1]
        outside = [in_range(SOURCE_OFPORT, BEHIND_NODE), in_range(DESTINATION_OFPORT, tunnel), _TRANSLATED, family]
        actions: list[Action] = [Load(THROUGH_SERVICE, 0), _with_source(gateway)]
        flows.add(tables.OUTPUT, priorities.OUTPUT_MASQUERADED, outside, actions)
    for family in IP_FAMILIES:
        reply = [family, _IS_REPLY, in_range(SOURCE_OFPORT, tunnel)]
        back: list[Action] = [*_to_node(LOCAL_16), Ct(SERVICE_ZONE, tables.OUTPUT.number, nat=Nat())]
        flows.add(tables.HAIRPIN, priorities.HAIRPIN_FROM_TUNNEL, reply, back)


def gateway_of(cidr: Net) -> Net:
    """The address of the gateway of a pod range: its first address after the network's own."""
    return Net(cidr.version, cidr.value + 1, 32 if cidr.version == 4 else 128)


def _to_node(ofport: int) -> list[Action]:
    return [Load(DESTINATION_OFPORT, BEHIND_NODE), Load(OUTPUT_OFPORT, ofport)]


def _with_source(source: Net) -> Ct:
    nat = Nat(NatKind.SOURCE, source.version, source.value)
    return Ct(HAIRPIN_ZONE, tables.OUTPUT.number, commit=True, nat=nat)


def _of_family(pair: tuple[Net, Net], version: int) -> Net:
    return pair[0] if version == 4 else pair[1]


def look_up_again(flows: FlowSet, opening: list[Term]) -> None:
    """UDP to a port of a Service with endpoints is looked up although the policy's zone has a record of it: one from
    before there were any, when it went to the address itself and was refused. The sender may prolong that for ever.
    Replies of such a port to others go on as they are."""
    terms = [term for term in opening if term is not IS_OPENING]
    flows.add(tables.DIRECT, priorities.DIRECT_OF_SERVICE, [*terms, _IS_OPENERS], [_LOOK_UP_CLAIMED])


def opens_to(address: Net, protocol: int, number: int) -> list[Term]:
    """A new connection to a port: by the tuple that conntrack has of it, which later fragments have, too."""
    return [IS_OPENING, *address_terms("responder", address), *_to_port(protocol, number)]


def opens_to_node(version: int, protocol: int, number: int) -> list[Term]:
    """A new connection to a node port. TCP has to begin with a SYN: other packets may answer a port of the node."""
    family = IP_FAMILIES[0] if version == 4 else IP_FAMILIES[1]
    return [IS_OPENING, family, in_range(TO_NODE, 1), *begins(protocol), *_to_port(protocol, number)]


def begins(protocol: int) -> list[Term]:
    """TCP to an address that a node has too begins with a SYN."""
    return [IS_TCP, IS_SYN_WITHOUT_ACK] if protocol == oxm.IP_PROTO_TCP else []


def _to_port(protocol: int, number: int) -> list[Term]:
    return [exactly(oxm.CT_NW_PROTO, protocol), exactly(oxm.CT_TP_DST, number)]
