"""Endpoints of a Service's port that no group has: those of ports with session affinity, and of ports with too many.

A connection is hashed by its addresses and ports to a place in the sorted list of endpoints (`hashed_endpoint`). With
session affinity the switch learns the client's endpoint there, and looks its next connections up in `affinity` first.
What that names is only asked for, never taken for granted: `kept_endpoint` has a flow for each endpoint that the port
has now, and whoever was given another one is hashed again.

Why no group. The first packet of a client must be hashed in the same look-up that learns from it: a group's hash is
made by the datapath, in a look-up of its own, and until the switch had noticed what it learned, further connections
would be hashed as well. And groups within groups take one hash for both, so that most endpoints were never reached.

Example. 10.0.0.1 connects to the port 0x48000006, whose endpoints are 10.0.0.2 and 10.0.0.3, at 8080:

    service          SERVICE_PORT = 0x48000006; affinity has nothing of 10.0.0.1
    kept_endpoint    ENDPOINT_INDEX = hash modulo 2, say 1
    hashed_endpoint  learn: 10.0.0.1 goes to 10.0.0.3:8080; translate to 10.0.0.3:8080
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.openflow.actions import Action, Ct, Load, Multipath, Nat, NatKind, Resubmit
from flows.openflow.match import in_range
from flows.pipeline import priorities, tables
from flows.pipeline.affinity import forget, remember, remembered
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.registers import ENDPOINT_INDEX, SERVICE_PORT, SERVICE_ZONE
from flows.pipeline.table import Table
from flows.render.flow_set import FlowSet
from flows.render.terms import IP_FAMILIES
from flows.services.choice import Target

_BASES = 1 << 16


def translate(target: Target) -> Ct:
    """Record a connection in the Services' zone with this endpoint, and send it on."""
    nat = Nat(NatKind.DESTINATION, target.address.version, target.address.value, target.number)
    return Ct(SERVICE_ZONE, tables.CONNTRACK.number, commit=True, nat=nat)


def to_endpoints(group: int, targets: Sequence[Target], affinity: bool) -> tuple[list[Action], Table]:
    """What a flow of table `service` does to send a connection to one of the targets, and where it goes on."""
    if affinity:
        return [Load(SERVICE_PORT, group), Resubmit(tables.AFFINITY.number)], tables.KEPT_ENDPOINT
    return [Load(SERVICE_PORT, group), _hash(group, targets)], tables.HASHED_ENDPOINT


def render_endpoints(flows: FlowSet, group: int, targets: Sequence[Target], seconds: int) -> None:
    """The flows of a port's endpoints; `group` is the id that its group would have. `seconds` is how long a client
    keeps its endpoint after its last connection; 0 is no session affinity."""
    owner = cookie(CookieKind.ENDPOINT, group)
    of_port = in_range(SERVICE_PORT, group)
    for place, target in enumerate(targets):
        family = IP_FAMILIES[0] if target.address.version == 4 else IP_FAMILIES[1]
        chosen = [family, of_port, in_range(ENDPOINT_INDEX, place)]
        learn: list[Action] = [remember(group, *target, seconds)] if seconds else []
        send: list[Action] = [*learn, *_forget_port(target, bool(seconds)), Load(ENDPOINT_INDEX, 0), translate(target)]
        flows.add(tables.HASHED_ENDPOINT, priorities.HASHED_ENDPOINT_SENT, chosen, send, cookie=owner)
        if seconds:
            kept = [family, of_port, *remembered(*target)]
            keep = [*_forget_port(target, True), translate(target)]
            flows.add(tables.KEPT_ENDPOINT, priorities.KEPT_ENDPOINT_SENT, kept, keep, cookie=owner)
    if seconds:
        other = [_hash(group, targets)]
        flows.add(tables.KEPT_ENDPOINT, priorities.KEPT_ENDPOINT_NONE, [of_port], other, tables.HASHED_ENDPOINT, owner)


def _hash(group: int, targets: Sequence[Target]) -> Multipath:
    return Multipath(group % _BASES, len(targets), ENDPOINT_INDEX)


def _forget_port(target: Target, affinity: bool) -> list[Action]:
    """Zero the registers, after which all connections to one endpoint look alike to the datapath."""
    return [Load(SERVICE_PORT, 0), *(forget(target.address.version) if affinity else [])]
