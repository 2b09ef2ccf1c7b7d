"""Which batches of events take some tens of milliseconds at most, so that the event loop need not hand them to another
thread.

Handing over and waiting for the result takes longer than most packets of DNS do, and every answer that is held would
wait for it. What is not certain to be brief is not: the limits here are what a pod or a switch can drive up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.reconcile.events import BundleDone, DnsPacket, Event
from controller.reconcile.switch import Switch

MAX_PACKET_BYTES = 1 << 14  # of all packets of a batch: at most a thousand addresses
MAX_FLOWS = 1000  # that its switches have to be given, or were, together
MAX_SWITCHES = 50


def are_brief(events: Iterable[Event], switches: Mapping[int, Switch], now: float) -> bool:
    """Whether these events are packets of DNS, or committed bundles, and few enough."""
    room = MAX_PACKET_BYTES
    dpids = set()
    for event in events:
        if isinstance(event, DnsPacket):
            room -= len(event.frame)
        elif not isinstance(event, BundleDone):
            return False
        dpids.add(event.dpid)
        if room < 0 or len(dpids) > MAX_SWITCHES:
            return False
    concerned = [switches[dpid] for dpid in dpids if dpid in switches]
    return sum(map(_count_flows, concerned)) <= MAX_FLOWS and not any(_is_due(one, now) for one in concerned)


def _count_flows(switch: Switch) -> int:
    sent = len(switch.in_flight.flows) if switch.in_flight is not None else 0
    return sent + len(switch.flows.differences)


def _is_due(switch: Switch, now: float) -> bool:
    """Whether a switch is to be dumped, or a command to it has failed."""
    due = switch.due_at()
    return due is not None and due <= now
