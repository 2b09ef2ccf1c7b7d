"""What counts now, for the page: packets a second by table, by rule and by pod, from one dump of a switch to the next.

Switches dump their flows only while somebody looks, MAX_DUMPED at once and one group after the other, the node that is
looked at first. Between two groups passes at least RATE_SECONDS, and nine times as long as the last one took, so that
looking costs a tenth of the time at most. All who look share the same dumps.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from controller.metrics.packet_counters import (
    AllowedLabels,
    CounterSample,
    DeniedLabels,
    PacketCounters,
    PacketLabels,
    TierLabels,
)
from controller.reconcile.reconciler import Reconciler
from controller.runtime.answer_lanes import compute
from controller.runtime.flow_dumps import FlowDumps
from controller.runtime.locked_reconciler import LockedReconciler
from controller.status.page_model import MAX_FOUND, DeniedRate, NodeRates, PageRates, Rate, RuleRate
from flows.bridge.claim_contest import BridgeName
from flows.cluster.model import Direction, Key, Pod
from flows.cluster.net import Net
from flows.pipeline.tables import TABLE_NAMES
from flows.reach.ends import workload_of
from flows.wire.values import FlowCounters, FlowKey

RATE_SECONDS = 2.0
REST_FACTOR = 9
MAX_DUMPED = 8  # switches at once
LOOKED_SECONDS = 15.0  # a node stays first for so long after it was asked for
MAX_RATES = 200  # rules, and pods, that are told: the busiest
MAX_PEERS_READ = 2000  # addresses of a rule that are looked up

Totals = dict[PacketLabels, int]
_RuleLabels = AllowedLabels | TierLabels


@dataclass(slots=True)
class _Reading:
    """One dump of a bridge: when, packets by table and by label, and the samples that they came from."""

    at: float
    node: str
    tables: Counter[int]
    totals: Totals
    rates: dict[PacketLabels, float] = field(default_factory=dict)
    table_rates: dict[int, float] | None = None


class RateMeter:
    """Every method may be called from any thread of the hub."""

    def __init__(self, reconciler: LockedReconciler, dumps: FlowDumps, packets: PacketCounters) -> None:
        self._reconciler = reconciler
        self._dumps = dumps
        self._packets = packets
        self._lock = threading.Lock()
        self._next_at = 0.0
        self._readings: dict[BridgeName, _Reading] = {}
        self._turn: list[BridgeName] = []  # bridges that are dumped next
        self._looked: OrderedDict[str, float] = OrderedDict()  # nodes by when they were asked for
        self._note = ""

    def rates(self, node: str) -> PageRates:
        """What counts now. Whoever comes when it is time has the next switches dumped; others get what is known."""
        if node:
            self._look_at(node)
        if time.monotonic() >= self._next_at and self._lock.acquire(blocking=False):
            try:
                self._measure()
            finally:
                self._lock.release()
        names = set(self._reconciler.read(lambda reconciler, _: list(reconciler.world.bridges)))
        readings = {name: one for name, one in list(self._readings.items()) if name in names}
        return PageRates(
            tuple(_node_rates(name, one) for name, one in sorted(readings.items()) if one.node == node),
            self._rule_rates(readings.values()),
            self._denied_rates(readings.values()),
            sum(one.table_rates is not None for one in readings.values()),
            len(names),
            self._note,
        )

    def _look_at(self, node: str) -> None:
        self._looked[node] = time.monotonic()
        self._looked.move_to_end(node)
        while len(self._looked) > MAX_DUMPED:
            self._looked.popitem(last=False)

    # -- measuring ---------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        began = time.monotonic()
        chosen = self._reconciler.read(self._choose)
        self._note = self._dumps.refresh_counters(chosen) if chosen else ""
        for name in chosen:
            found = self._reconciler.read(partial(_counters_of, name))
            if found is None:
                self._readings.pop(name, None)
                continue
            node, counters = found
            tables, totals = compute(_summed, counters, self._packets.last_samples(node, name[1]))
            now = time.monotonic()
            self._readings[name] = _compared(self._readings.get(name), _Reading(now, node, tables, totals))
        took = time.monotonic() - began
        self._next_at = time.monotonic() + max(RATE_SECONDS, REST_FACTOR * took)

    def _choose(self, reconciler: Reconciler, now: float) -> list[BridgeName]:
        """The next bridges with a session: those of nodes that are looked at, then the others in turn."""
        bridges = reconciler.world.bridges
        for name in [name for name in self._readings if name not in bridges]:
            del self._readings[name]

        def connected(name: BridgeName) -> bool:
            switch = reconciler.switch_of(name)
            return switch is not None and switch.session is not None

        looked = {node for node, at in list(self._looked.items()) if now - at < LOOKED_SECONDS}
        found = [name for name, bridge in bridges.items() if bridge.node in looked and connected(name)][:MAX_DUMPED]
        for _ in range(2):
            while self._turn and len(found) < MAX_DUMPED:
                name = self._turn.pop()
                if name in bridges and name not in found and connected(name):
                    found.append(name)
            if len(found) == MAX_DUMPED:
                break
            self._turn = sorted(set(bridges) - set(found), reverse=True)
        return found

    # -- rates -------------------------------------------------------------------------------------------------------

    def _rule_rates(self, readings: Iterable[_Reading]) -> tuple[RuleRate, ...]:
        rates: dict[_RuleLabels, float] = {}
        totals: dict[_RuleLabels, int] = {}
        for reading in readings:
            for labels, rate in reading.rates.items():
                if isinstance(labels, AllowedLabels | TierLabels):
                    rates[labels] = rates.get(labels, 0.0) + rate
                    totals[labels] = totals.get(labels, 0) + reading.totals[labels]
        busiest = sorted(rates, key=lambda one: -rates[one])[:MAX_RATES]
        ends = self._reconciler.read(lambda reconciler, _: [_ends(reconciler, one) for one in busiest])
        return tuple(
            RuleRate(str(_policy_of(one)), one.direction, one.rule, rates[one], totals[one], *found, *_tier_of(one))
            for one, found in zip(busiest, ends, strict=True)
        )

    def _denied_rates(self, readings: Iterable[_Reading]) -> tuple[DeniedRate, ...]:
        rates, totals = _denied(readings)
        busiest = sorted(rates, key=lambda one: -rates[one])[:MAX_RATES]
        keys = [Key(one[0], one[1]) for one in busiest]
        workloads = self._reconciler.read(lambda reconciler, _: [_workload(reconciler, key) for key in keys])
        return tuple(
            DeniedRate(str(key), workload, one[2], rates[one], totals[one])
            for one, key, workload in zip(busiest, keys, workloads, strict=True)
        )


def _counters_of(
    name: BridgeName, reconciler: Reconciler, _: float
) -> tuple[str, Mapping[FlowKey, FlowCounters]] | None:
    """The node and the counters of a bridge's last dump, which nobody changes any more."""
    switch = reconciler.switch_of(name)
    if switch is None or name not in reconciler.world.bridges:
        return None
    return reconciler.world.bridges[name].node, switch.counters


def _summed(
    counters: Mapping[FlowKey, FlowCounters], samples: Mapping[Hashable, CounterSample]
) -> tuple[Counter[int], Totals]:
    tables: Counter[int] = Counter()
    for key, one in counters.items():
        tables[key[0]] += one.packets  # a key begins with the table
    totals: Totals = {}
    for sample in samples.values():
        for labels in sample.counts:
            if isinstance(labels, AllowedLabels | TierLabels | DeniedLabels):
                totals[labels] = totals.get(labels, 0) + sample.packets
    return tables, totals


def _compared(old: _Reading | None, new: _Reading) -> _Reading:
    """The new reading with its rates since the old one. Where a counter is less, its flow is a new one."""
    if old is None or (passed := new.at - old.at) <= 0:
        return new
    new.table_rates = {table: max(0, total - old.tables[table]) / passed for table, total in new.tables.items()}
    for labels, total in new.totals.items():
        grown = total - old.totals.get(labels, total)
        if grown > 0:
            new.rates[labels] = grown / passed
    return new


def _denied(readings: Iterable[_Reading]) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], int]]:
    """Rates of denied packets that are not 0, and the totals of those, over all bridges, whoever isolates the pod."""
    rates: dict[tuple[str, ...], float] = {}
    totals: dict[tuple[str, ...], int] = {}
    for reading in readings:
        for labels, rate in reading.rates.items():
            if isinstance(labels, DeniedLabels):
                place = labels[:3]
                rates[place] = rates.get(place, 0.0) + rate
                totals[place] = totals.get(place, 0) + reading.totals[labels]
    return rates, totals


def _policy_of(labels: _RuleLabels) -> Key:
    return Key("", labels.policy) if isinstance(labels, TierLabels) else Key(labels.namespace, labels.policy)


def _tier_of(labels: _RuleLabels) -> tuple[str, str]:
    """Tier and action of a ClusterNetworkPolicy's rule."""
    return (labels.tier, labels.action) if isinstance(labels, TierLabels) else ("", "")


def _node_rates(name: BridgeName, one: _Reading) -> NodeRates:
    rates = one.table_rates
    tables = {
        TABLE_NAMES.get(table, str(table)): Rate(None if rates is None else rates.get(table, 0.0), packets)
        for table, packets in one.tables.items()
    }
    return NodeRates(one.node, name[1], time.monotonic() - one.at, tables)


def _ends(reconciler: Reconciler, labels: _RuleLabels) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """The workloads of a rule's sources and destinations; None where the rule does not restrict its peers."""
    key, direction, number = _policy_of(labels), Direction(labels.direction), labels.rule
    subjects = _some(map(_named, reconciler.world.subjects_of_policy(key)))
    peers: tuple[str, ...] | None = ()
    for part in reconciler.world.rules_of_policy(key):
        if any((one.policy, one.direction, one.number) == (key, direction, number) for one in part.owners):
            if part.peers is None:
                peers = None
                break
            nets = (net for net, _ in zip(part.peers.members, range(MAX_PEERS_READ), strict=False))
            peers = _some((*(peers or ()), *_peer_names(reconciler, nets)))
    return (peers, subjects) if direction is Direction.INGRESS else (subjects, peers)


def _peer_names(reconciler: Reconciler, nets: Iterable[Net]) -> Iterator[str]:
    for net in nets:
        pods = reconciler.world.pods_with_address(net) if net.is_host else []
        if pods:
            yield from (_workload(reconciler, pod) for pod in pods)
        else:
            yield str(net)


def _some(names: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in names:
        found[name] = None
        if len(found) == MAX_FOUND:
            break
    return tuple(found)


def _named(pod: Pod) -> str:
    return f"{pod.key.namespace}/{workload_of(pod)}"


def _workload(reconciler: Reconciler, key: Key) -> str:
    pod = reconciler.world.cluster.pods.get(key) if reconciler.world.cluster else None
    return _named(pod) if pod is not None else str(key)
