"""Packets by policy, rule and pod: Prometheus counters that go on where the counters of a switch's flows begin anew.

Theory of operation. Each dump of a switch gives a CounterSample for every flow or meter that counts for a series. A
counter grows by the difference between two samples of the same flow. Two cases need care:

- A flow was added again, or the switch restarted: the sample's duration or packets are less than in the last sample.
  All its packets are new then.
- A flow gets another policy, rule or pod, as when a second policy allows the same or a rule gets the number of a
  deleted one. Packets from before do not count for the new one.

Example: samples (packets, duration in seconds) 5, 10 then 9, 12 then 2, 1 add 5, 4 and 2 packets.

A series that no flow feeds stays while its pod or rule exists, for flows may come again; `retire` drops the others.
When other policies isolate a pod, its old series goes at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from controller.metrics.packet_totals import PacketTotals
from controller.metrics.series import (
    ALLOWED_PACKETS,
    DENIED_PACKETS,
    FORGED_PACKETS,
    INVALID_PACKETS,
    LIMITED_PACKETS,
    STAGED_PACKETS,
    TIER_PACKETS,
    Series,
)


class DeniedLabels(NamedTuple):
    """Labels of a deny flow. `direction` is "ingress" or "egress"; `policies` isolate the pod, as text."""

    namespace: str
    pod: str
    direction: str
    policies: str = ""


class AllowedLabels(NamedTuple):
    """Labels of an allowing flow; `rule` is the rule's index in the manifest, from 0."""

    namespace: str
    policy: str
    direction: str
    rule: int


class StagedLabels(NamedTuple):
    """Labels of a flow that counts what the promotion of staged policies would change; `change` is deny or allow."""

    namespace: str
    pod: str
    direction: str
    change: str


class TierLabels(NamedTuple):
    """Labels of a flow of a ClusterNetworkPolicy's rule; `rule` is its index in the manifest, `name` its name or ""."""

    tier: str
    policy: str
    direction: str
    rule: int
    name: str
    action: str


class LimitedLabels(NamedTuple):
    """Labels of a meter; `kind` is what it limits."""

    namespace: str
    pod: str
    kind: str


class InvalidLabels(NamedTuple):
    """Labels of a flow that drops invalid packets; `reason` is "broken" or "connection"."""

    namespace: str
    pod: str
    reason: str


class ForgedLabels(NamedTuple):
    """Labels of a flow that drops what is not from an address of the sender's own; `kind` is "sent" where the pod sent
    it, "address" where another port sent it from the pod's address."""

    namespace: str
    pod: str
    kind: str


PacketLabels = DeniedLabels | AllowedLabels | StagedLabels | TierLabels | LimitedLabels | InvalidLabels | ForgedLabels
_SERIES_OF: dict[type[PacketLabels], Series] = {
    DeniedLabels: DENIED_PACKETS,
    StagedLabels: STAGED_PACKETS,
    AllowedLabels: ALLOWED_PACKETS,
    TierLabels: TIER_PACKETS,
    LimitedLabels: LIMITED_PACKETS,
    InvalidLabels: INVALID_PACKETS,
    ForgedLabels: FORGED_PACKETS,
}

PACKET_SERIES = frozenset(_SERIES_OF.values())


class CounterSample(NamedTuple):
    """One flow or meter in a dump: the series that it counts for, packets and seconds since it was added.

    `source` identifies what it counts for, since another rule may get the number of a deleted one.
    """

    counts: tuple[PacketLabels, ...]
    packets: int
    duration: int
    source: Hashable = None


class PacketCounters:
    """The counters of all switches. Calls may come from any thread."""

    def __init__(self, totals: Mapping[Series, PacketTotals]) -> None:
        self._totals = {labels: totals[series] for labels, series in _SERIES_OF.items()}
        self._lock = threading.Lock()
        self._samples: dict[tuple[str, str], dict[Hashable, CounterSample]] = {}  # of the last dump, by switch and flow
        self._feeds: dict[PacketLabels, int] = {}  # how many switches feed a series
        self._unfed: set[PacketLabels] = set()  # series that no switch feeds any more

    def observe(self, node: str, bridge: str, samples: Mapping[Hashable, CounterSample]) -> None:
        """Take the samples of one switch's dump, by flow."""
        with self._lock:
            self._observe(node, bridge, samples)

    def last_samples(self, node: str, bridge: str) -> Mapping[Hashable, CounterSample]:
        """The samples of one switch's last dump, by flow. Nobody changes them any more."""
        return self._samples.get((node, bridge), {})

    def forget_switch(self, node: str, bridge: str) -> None:
        """The switch is no longer ours: its flows feed no series."""
        self.observe(node, bridge, {})
        self._samples.pop((node, bridge), None)

    def _observe(self, node: str, bridge: str, samples: Mapping[Hashable, CounterSample]) -> None:
        before = self._samples.get((node, bridge), {})
        same = len(before) == len(samples)
        for flow, now in samples.items():
            last = before.get(flow)
            if last is not None and last.counts == now.counts:
                if last.packets == now.packets and last.duration <= now.duration and last.source == now.source:
                    continue  # most flows, of most dumps
            else:
                same = False
            goes_on = last is not None and _goes_on(last, now)
            packets = now.packets - (last.packets if last is not None and goes_on else 0)
            for counts in now.counts:
                # A new owner of a flow counts from the next sample on.
                is_new = goes_on and last is not None and (_is_new(counts, last) or last.source != now.source)
                self._totals[type(counts)].add(counts, 0 if is_new else packets)
        self._samples[node, bridge] = dict(samples)
        if not same:
            self._count_feeds(_series(before), _series(samples))

    def _count_feeds(self, before: set[PacketLabels], now: set[PacketLabels]) -> None:
        for counts in now - before:
            self._feeds[counts] = self._feeds.get(counts, 0) + 1
            self._unfed.discard(counts)
        still_denied = {_owner(counts) for counts in now if isinstance(counts, DeniedLabels)}
        for counts in before - now:
            self._feeds[counts] -= 1
            if self._feeds[counts]:
                continue
            del self._feeds[counts]
            if isinstance(counts, DeniedLabels) and _owner(counts) in still_denied:
                self._totals[DeniedLabels].remove(counts)  # other policies isolate the pod now
            else:
                self._unfed.add(counts)

    def retire(self, exists: Callable[[PacketLabels], bool]) -> None:
        """Drop the series that no flow feeds and whose pod or rule does not exist any more."""
        with self._lock:
            unfed = list(self._unfed)
        # Without the lock, so that a dump need not wait.
        gone = [counts for counts in unfed if not exists(counts)]
        with self._lock:
            for counts in gone:
                if counts in self._unfed:
                    self._unfed.discard(counts)
                    self._totals[type(counts)].remove(counts)


def _owner(counts: PacketLabels) -> tuple[object, ...]:
    """The pod or rule that a flow counts for. Packets denied before are not those of policies that isolate it later."""
    return counts[:3] if isinstance(counts, DeniedLabels) else counts


def _is_new(counts: PacketLabels, last: CounterSample) -> bool:
    return all(_owner(counts) != _owner(one) for one in last.counts)


def _goes_on(last: CounterSample, now: CounterSample) -> bool:
    return now.duration >= last.duration and now.packets >= last.packets


def _series(samples: Mapping[Hashable, CounterSample]) -> set[PacketLabels]:
    return {counts for sample in samples.values() for counts in sample.counts}
