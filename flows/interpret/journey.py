"""Leads the first packet of a connection over the bridges that it passes, through the flows that these have.

The packet is one that no bridge has seen before: connection tracking starts empty, and no meter drops anything. Between
bridges goes what the mode of the network says (`flows.bridge.routing`): frames over the uplink, packets through the
tunnel, or from node to node. Only the bridges of both ends are known here; what leaves for others is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from flows.bridge.claim_contest import BridgeName
from flows.bridge.routing import NetworkMode
from flows.bridge.state import Binding, PodBinding
from flows.cluster.net import ADDRESS_BITS, Net
from flows.interpret import packet as packets
from flows.interpret.flow_lookup import Ambiguous
from flows.interpret.interpreter import Interpreter, Result, TooDeep
from flows.interpret.packet import Packet
from flows.openflow.port_numbers import LOCAL_32
from flows.pipeline.gateway import GATEWAY_MAC
from flows.policy.probe import Endpoint, Probe

CLIENT_PORT = 45678  # the source port of the packet: one that clients have
OUTSIDE_MAC, UNKNOWN_MAC = 0x02FF00000001, 0x02FF00000002  # of a machine outside; of an end whose MAC nobody told
MAX_LEGS = 6  # bridges that a packet may enter


@dataclass(frozen=True, slots=True)
class Site:
    """A bridge with the flows that it has."""

    name: BridgeName
    node: str
    binding: Binding
    interpreter: Interpreter

    def pod(self, end: Endpoint) -> PodBinding | None:
        """The port of a pod here."""
        return next((one for one in self.binding.pods if one.pod == end.pod), None)


class Leg(NamedTuple):
    """What one bridge did with the packet: `result` is None where its flows leave that open, with the reason."""

    site: Site
    in_port: int
    result: Result | None
    reason: str = ""


class Journey(NamedTuple):
    """The whole way: its legs in order, who got the packet, and why nobody did where nobody did."""

    legs: tuple[Leg, ...]
    arrived: tuple[Endpoint, ...]
    delivered: bool
    reason: str = ""


class Arrival(NamedTuple):
    """A packet that enters a bridge at a port."""

    site: Site
    port: int
    packet: Packet


def travel(sites: Sequence[Site], probe: Probe) -> Journey:
    """The way of the packet that opens a connection. `sites` are the bridges of both ends, each once."""
    started = start(sites, probe)
    if isinstance(started, str):
        return Journey((), (), False, started)
    pending, legs, arrived = [started], list[Leg](), list[Endpoint]()
    while pending and len(legs) < MAX_LEGS:
        at = pending.pop(0)
        try:
            result = at.site.interpreter.receive(at.port, at.packet)
        except (Ambiguous, TooDeep) as error:
            legs.append(Leg(at.site, at.port, None, f"what its flows do is not defined: {error}"))
            continue
        legs.append(Leg(at.site, at.port, result))
        for port, packet in result.outputs:
            next_one = onward(sites, probe, at.site, port, packet)
            if isinstance(next_one, Arrival):
                pending.append(next_one)
            elif next_one is not None:
                arrived.append(next_one)
    delivered = any(_same(one, probe.destination) for one in arrived)
    return Journey(tuple(legs), tuple(arrived), delivered, "" if delivered else _why(legs))


def _why(legs: list[Leg]) -> str:
    last = legs[-1] if legs else None
    if last is None or last.result is None:
        return last.reason if last is not None else "no bridge got the packet"
    return "; ".join(last.result.reasons) or "it was sent to where no known bridge or pod is"


def _same(one: Endpoint, other: Endpoint) -> bool:
    return (one.pod, one.node) == (other.pod, other.node)


def start(sites: Sequence[Site], probe: Probe, client_port: int = CLIENT_PORT) -> Arrival | str:
    """Where the packet enters its first bridge, or why it enters none. `client_port` is its source port, or of an echo
    request its identifier."""
    source, target = _site(sites, probe.source), _site(sites, probe.destination)
    first = source or target
    if first is None:
        return "no known bridge has an end of the connection"
    routing = first.binding.routing
    packet = _first_packet(probe, client_port)
    packet = replace(packet, eth_dst=GATEWAY_MAC if routing.routes else _mac(target, probe.destination))
    packet = replace(packet, eth_src=_mac(source, probe.source))
    if probe.source.pod is not None:
        if source is None or (here := source.pod(probe.source)) is None:
            return f"{probe.source.pod} has no port on a known bridge"
        return Arrival(source, here.ofport, packet)
    if probe.source.node is not None and source is not None and _enters_at_home(source, target):
        return Arrival(source, LOCAL_32, packet)
    if target is None:
        return "no known bridge has the destination"
    if routing.routes:  # its node got the packet from the network, and hands it to its bridge
        return Arrival(target, LOCAL_32, replace(packet, eth_src=target.binding.local_mac or UNKNOWN_MAC))
    if target.binding.uplink is None:
        return f"the bridge of {target.node} has no uplink"
    return Arrival(target, target.binding.uplink, packet)


def _enters_at_home(source: Site, target: Site | None) -> bool:
    """Between nodes that route, packets go from node to node beside the bridges."""
    return source is target or source.binding.routing.mode is not NetworkMode.ROUTED


def _site(sites: Sequence[Site], end: Endpoint) -> Site | None:
    if end.pod is not None:
        return next((one for one in sites if one.pod(end) is not None), None)
    return next((one for one in sites if end.node is not None and one.node == end.node), None)


def _mac(site: Site | None, end: Endpoint) -> int:
    if end.pod is not None:
        found = site.pod(end) if site is not None else None
        return UNKNOWN_MAC if found is None or found.mac is None else found.mac
    return OUTSIDE_MAC if site is None else site.binding.local_mac or UNKNOWN_MAC


def _first_packet(probe: Probe, client_port: int) -> Packet:
    source, target = probe.source.address, probe.destination.address
    if probe.protocol in packets.ICMP.values():
        return packets.echo(source, target, client_port)
    return packets.transport(source, target, probe.protocol, client_port, probe.port or 0, packets.SYN)


def onward(sites: Sequence[Site], probe: Probe, site: Site, port: int, packet: Packet) -> Arrival | Endpoint | None:
    """Where a packet that a bridge sends arrives: at a bridge, at an end, or None for nowhere that is known."""
    binding = site.binding
    address = Net(packet.version, packet.target, ADDRESS_BITS[packet.version]) if packet.version else None
    pod = next((one.pod for one in binding.pods if one.ofport == port), None)
    if address is None:
        return None
    if pod is not None:
        return Endpoint(address, pod=pod)
    target = _site(sites, probe.destination)
    if port == LOCAL_32:
        return _from_node(site, target, packet, Endpoint(address), probe.destination)
    if port == binding.tunnel:
        ends = {one.binding.routing.own.tunnel_end: one for one in sites if one.binding.routing.own is not None}
        far, own = ends.get(packet.tunnel_to), binding.routing.own
        if far is None or far.binding.tunnel is None or own is None:
            return None
        return Arrival(far, far.binding.tunnel, replace(packet, tunnel_from=own.tunnel_end))
    if port == binding.uplink:
        if target is None:
            return Endpoint(address)
        if target is not site and target.binding.uplink is not None:
            return Arrival(target, target.binding.uplink, packet)
    return None


def _from_node(
    site: Site, target: Site | None, packet: Packet, beyond: Endpoint, destination: Endpoint
) -> Arrival | Endpoint:
    """What a bridge hands to its node: it is for the node itself, or where the switch routes, for somebody `beyond`."""
    itself = replace(beyond, node=site.node)
    if not site.binding.routing.routes or destination.node == site.node or target is site:
        return itself
    if target is None:
        return beyond
    if destination.node is not None:
        return replace(beyond, node=destination.node)
    mac = target.binding.local_mac or UNKNOWN_MAC
    return Arrival(target, LOCAL_32, replace(packet, eth_src=mac, eth_dst=GATEWAY_MAC))
