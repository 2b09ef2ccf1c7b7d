"""Which batches of events take some milliseconds at most, so that the event loop need not hand them to another thread.

Handing over and waiting for the result takes longer than most packets of DNS do, and every answer that is held would
wait for it. What is not certain to be brief is not: the limits here are what a pod or a switch can drive up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.reconcile.events import BundleDone, DnsPacket, Event
from controller.reconcile.switch import Switch

MAX_PACKET_BYTES = 1 << 14  # of all packets of a batch: at most a thousand addresses
MAX_FLOWS = 1000  # that a switch has to be given, or was


def are_brief(events: Iterable[Event], switches: Mapping[int, Switch], now: float) -> bool:
    """Whether these events are packets of DNS, or committed bundles, and few enough."""
    room = MAX_PACKET_BYTES
    for event in events:
        if isinstance(event, DnsPacket):
            room -= len(event.frame)
            if room < 0:
                return False
        elif not isinstance(event, BundleDone):
            return False
        switch = switches.get(event.dpid)
        if switch is not None and not _is_brief(switch, now):
            return False
    return True


def _is_brief(switch: Switch, now: float) -> bool:
    """Whether a switch's next command is made in a moment: no dump, no large bundle, none that has failed."""
    due = switch.due_at()
    sent = len(switch.in_flight.flows) if switch.in_flight is not None else 0
    return (due is None or due > now) and sent + len(switch.flows.differences) <= MAX_FLOWS
