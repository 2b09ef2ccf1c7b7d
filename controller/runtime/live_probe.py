"""`headgate explain --live`: one packet through the real tables of the switches that it would pass (docs/adr/0023).

Theory of operation. The packet enters its first switch by packet-out, as if its pod had sent it. Where the pipeline
would send it, or drops it, the switch gives a copy to the controller instead, which hands it to the next switch. So no
link and no pod sees it; with `deliver`, the last switch sends it to the pod. One question is carried out at a time, and
a switch has LIVE_SECONDS for each copy.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from controller.openflow.app import HeadgateApp
from controller.openflow.live_copies import Copy, into_tables, out_of_port
from controller.status.walks import SwitchParts
from flows.bridge.claim_contest import BridgeName
from flows.explain.model import LiveLeg, LiveProbe
from flows.explain.walk import end_name
from flows.interpret.flow_lookup import Ambiguous, Refused
from flows.interpret.frame_encoder import encode
from flows.interpret.interpreter import TooDeep
from flows.interpret.journey import MAX_LEGS, Arrival, Site, onward, start
from flows.openflow.actions import Output
from flows.openflow.port_numbers import CONTROLLER_32, IN_PORT_16, LOCAL_16, LOCAL_32
from flows.pipeline.cookies import read_cookie
from flows.pipeline.tables import OUTPUT, SEND, SERVICE, TABLE_NAMES
from flows.policy.probe import Endpoint, Probe
from flows.render.flow_set import FlowSet
from flows.render.live_probes import render_live_probes
from flows.wire.codec import encode_flow

LIVE_SECONDS = 2.0  # for a copy to come back
_POLL_SECONDS = 0.01
# Source ports above those that Linux gives to clients (net.ipv4.ip_local_port_range): no real connection has them.
FIRST_PORT, LAST_PORT = 61_000, 65_535
_AFTER_COPIES = (OUTPUT.number, SEND.number)  # tables that no probe comes to, or passes
NOT_ASKED = (
    "the packet was handed from switch to switch by the controller: links between nodes are not tested",
    "it was not recorded and passed no meter: limits, and what is known of real connections, are not tested",
)
NO_ANSWER = (
    "what the pod's answers meet is not tested: they belong to no recorded connection, so they are dropped, and "
    "counted among the pod's invalid packets"
)


class OpenSwitch(NamedTuple):
    """Where packets for a bridge are sent: its datapath id and session."""

    dpid: int
    session: int


class _NotSent(Exception):
    """The packet was not given to a switch; the message says why."""


class Busy(Exception):
    """Another live probe is under way."""


class LiveProbes:
    """Sends probes, one at a time. Every method may be called from any thread of the hub."""

    def __init__(self, openflow: HeadgateApp) -> None:
        self._openflow = openflow
        self._turn = threading.Lock()

    def send(
        self,
        sites: Sequence[Site],
        switches: Mapping[BridgeName, OpenSwitch],
        probes: Sequence[Probe],
        allowed: Sequence[bool],
        deliver: bool,
    ) -> list[LiveProbe]:
        """Send a packet of each of these connections; `allowed` is what policy says of them. Raises Busy."""
        if not self._turn.acquire(blocking=False):
            raise Busy("another live probe is under way; try again")
        try:
            found = []
            for probe, policy in zip(probes, allowed, strict=True):
                one = self._send(sites, switches, probe, deliver)
                found.append(replace(one, agrees=not one.sent or one.delivered == policy))
            return found
        finally:
            self._openflow.live.forget()
            self._turn.release()

    def _send(
        self, sites: Sequence[Site], switches: Mapping[BridgeName, OpenSwitch], probe: Probe, deliver: bool
    ) -> LiveProbe:
        if probe.source.pod is None:
            return _unsent("only packets of pods are sent live: others would enter from outside")
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        port += (port == probe.port) * (1 if port < LAST_PORT else -1)
        began = start(sites, probe, port)
        if isinstance(began, str):
            return _unsent(began)
        at, legs = began, list[_Leg]()
        while len(legs) < MAX_LEGS:
            try:
                leg, copy, reason = self._pass(at, switches.get(at.site.name))
            except _NotSent as error:
                return replace(_unsent(str(error)), source_port=port, legs=tuple(LiveLeg(*one) for one in legs))
            if copy is None or copy.table != OUTPUT.number:
                return _result(port, [*legs, leg], reason)
            out = _ofport(copy.port, at.port)
            beyond = onward(sites, probe, at.site, out, replace(at.packet, tunnel_to=copy.tunnel_to))
            if isinstance(beyond, Arrival) and _is_node(beyond, probe):
                beyond = probe.destination  # what enters there for the node itself is delivered at once
            if isinstance(beyond, Arrival):
                legs.append(leg._replace(to=f"towards {beyond.site.node}"))
                at = beyond
                continue
            if beyond is None:
                return _result(port, [*legs, leg], "it would be sent to where no known bridge or pod is")
            legs.append(leg._replace(to=_name(beyond)))
            reached = (beyond.pod, beyond.node) == (probe.destination.pod, probe.destination.node)
            shown = deliver and reached and beyond.pod is not None and self._show(at, switches, out)
            reason = "" if reached else f"it would go to {_name(beyond)}"
            return replace(_result(port, legs, reason, shown), delivered=reached)
        return _result(port, legs, f"it passed {MAX_LEGS} switches")

    def _pass(self, at: Arrival, switch: OpenSwitch | None) -> tuple[_Leg, Copy | None, str]:
        """Have one switch take the packet; returns its copy, and otherwise why there is none or where it ended. Raises
        _NotSent."""
        node = at.site.node
        leg = _Leg(node, at.site.name[1], _port_name(at.site, at.port), "", "")
        if switch is None:
            raise _NotSent(f"the switch of {node} is away, or has not yet the flows that hold probes back")
        if way_out := _way_out(at):
            raise _NotSent(f"on {node} {way_out}")
        frame = encode(replace(at.packet, tunnel_from=None, tunnel_to=None))
        self._openflow.live.expect(switch.dpid, switch.session, frame)
        ends = at.packet.tunnel_from, at.packet.tunnel_to
        message = into_tables(frame, at.port, None if ends[0] is None or ends[1] is None else (ends[0], ends[1]))
        if not self._openflow.send_packet(switch.dpid, switch.session, message):
            raise _NotSent(f"the switch of {node} is away")
        copy, refused = self._await()
        if copy is None:
            reason = (
                refused or f"dropped without a trace: no copy came back from {at.site.node} within {LIVE_SECONDS:g} s"
            )
            return leg._replace(to=reason), None, reason
        name = TABLE_NAMES.get(copy.table, str(copy.table))
        reason = "" if copy.table == OUTPUT.number else _ended(copy.table, name)
        return leg._replace(table=name, to=reason), copy, reason

    def _await(self) -> tuple[Copy | None, str]:
        deadline = time.monotonic() + LIVE_SECONDS
        while True:
            copies, refused = self._openflow.live.received()
            if copies:
                return copies[0], ""
            if refused:
                return None, f"the switch refused to take the packet: {refused}"
            if time.monotonic() >= deadline:
                return None, ""
            time.sleep(_POLL_SECONDS)

    def _show(self, at: Arrival, switches: Mapping[BridgeName, OpenSwitch], port: int) -> bool:
        """Send the packet to the pod's port."""
        switch = switches[at.site.name]
        frame = encode(replace(at.packet, tunnel_from=None, tunnel_to=None))
        return self._openflow.send_packet(switch.dpid, switch.session, out_of_port(frame, port, at.port))


def holds_back(part: SwitchParts) -> bool:
    """Whether a switch has all flows that keep a probe from being delivered, recorded or metered."""
    needed = FlowSet()
    render_live_probes(needed, part.binding.routing.routes)
    wanted = {wire.key: wire.body for wire in map(encode_flow, needed.flows())}
    return wanted.items() <= {key: body for key, body in part.flows or () if key in wanted}.items()


def _way_out(at: Arrival) -> str:
    """Why a switch could send the packet instead of a copy, as far as its flows say; "" where it could not."""
    try:
        hits = at.site.interpreter.receive(at.port, at.packet).hits
    except (Ambiguous, TooDeep, Refused) as error:
        return f"what its flows do is not defined: {error}"
    for table, flow in hits:
        if flow is not None and read_cookie(flow.cookie) is None:
            return "a foreign flow is in its way, and could deliver it"
        ports = [one.port for one in flow.actions if isinstance(one, Output)] if flow is not None else []
        if table not in _AFTER_COPIES and any(port != CONTROLLER_32 for port in ports):
            return f"table {TABLE_NAMES.get(table, table)} would deliver it"
    return ""


def _is_node(at: Arrival, probe: Probe) -> bool:
    return probe.destination.pod is None and at.site.node == probe.destination.node


class _Leg(NamedTuple):
    node: str
    bridge: str
    entered: str
    table: str
    to: str


def _unsent(reason: str) -> LiveProbe:
    return LiveProbe(False, False, True, reason=f"not sent: {reason}")


def _result(port: int, legs: Sequence[_Leg], reason: str, shown: bool = False) -> LiveProbe:
    notes = (*NOT_ASKED, *((NO_ANSWER,) if shown else ()))
    return LiveProbe(True, False, True, shown, port, tuple(LiveLeg(*one) for one in legs), reason, notes)


def _ended(table: int, name: str) -> str:
    if table == SERVICE.number:
        return "it goes to the address of a Service, which is not probed: ask for an endpoint"
    return f"dropped in table {name}"


def _ofport(port: int, in_port: int) -> int:
    """The ofport of 32 bits that a value of OUTPUT_OFPORT means."""
    return {IN_PORT_16: in_port, LOCAL_16: LOCAL_32}.get(port, port)


def _port_name(site: Site, port: int) -> str:
    pod = next((one for one in site.binding.pods if one.ofport == port), None)
    if pod is not None:
        return f"port of pod {pod.pod}"
    if port == LOCAL_32:
        return "the node's port"
    return (
        "the tunnel" if port == site.binding.tunnel else "the uplink" if port == site.binding.uplink else f"port {port}"
    )


def _name(end: Endpoint) -> str:
    return end_name(end) if end.pod is not None or end.node is not None else f"{end.address}, outside"
