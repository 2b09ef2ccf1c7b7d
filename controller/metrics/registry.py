"""The Prometheus registry of Headgate: one method for each thing that changes a metric.

Nothing here reads a clock, asks a switch or decides when a metric is set: see `event_counters`
(counters, as events are handled) and `gauges` (the reconciler's state, once a second). The series are declared
in `series`.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from controller.metrics.labelled import labelled, remove_labelled
from controller.metrics.packet_counters import PACKET_SERIES, PacketCounters
from controller.metrics.packet_totals import PacketTotals
from controller.metrics.series import (
    ACTUAL_FLOWS,
    AUDIT_EVENTS,
    AUDIT_UNREPORTED,
    BUNDLE_RESULTS,
    BUNDLES,
    CONTAINED,
    DECLARED_SERIES,
    DENIED_PACKETS,
    DESIRED_FLOWS,
    DNS_LEARNED,
    DNS_PACKETS,
    DNS_REFUSED,
    DNS_WAITING,
    DRIFT,
    DRIFT_CHANGES,
    DURATION_BUCKETS,
    FLOW_MOD_CHANGES,
    FLOW_MODS,
    FOREIGN_FLOWS,
    FORGED_PACKETS,
    INVALID_PACKETS,
    LEASE_AGE,
    LIMITED_PACKETS,
    LOG_DROPPED,
    NODE_READY,
    OPENFLOW_SESSIONS,
    OVSDB_CONNECTIONS,
    PEERS_REFUSED,
    PODS_BOUND,
    POLICIES_KNOWN,
    POLICIES_UNREALIZED,
    PORT_TO_PROGRAMMED,
    RECONCILE_TIME,
    REPLICA_EPOCH,
    REPLICA_MEMBERS,
    REPLICAS_ALIVE,
    ROLES_LOST,
    SERVICE_PROBLEMS,
    SERVICES_KNOWN,
    SOURCE_AGE,
    SOURCE_PROBLEMS,
    SOURCE_SYNCED,
    SWITCH_AWAY,
    SWITCH_CONNECTED,
    SWITCH_IN_SYNC,
    SWITCH_PRIMARY,
    SWITCHES_OWNED,
    TAKEOVER_TIME,
    TAKEOVERS_WAITING,
    TLS_BROKEN,
    TLS_EXPIRES,
    TLS_REFUSED,
    Series,
)

# Otherwise the client library adds an undeclared series with the creation time of each.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All declared series, in a registry of their own. Calls are cheap and may come from any thread."""

    def __init__(self, version: str, hub: str) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[Series, Counter] = {}
        self._packet_totals: dict[Series, PacketTotals] = {}
        self._gauges: dict[Series, Gauge] = {}
        self._histograms: dict[Series, Histogram] = {}
        for series in DECLARED_SERIES:
            self._create(series, {"version": version, "python": platform.python_version(), "hub": hub})
        ProcessCollector(registry=self.registry)
        self.packets = PacketCounters(self._packet_totals)
        self._log_dropped = 0
        self._dns_refused = 0
        self._away: dict[tuple[str, str], str] = {}  # by switch: the reason of its headgate_switch_away series

    def _create(self, series: Series, build: Mapping[str, str]) -> None:
        if series in PACKET_SERIES:
            self._packet_totals[series] = PacketTotals(series)
            self.registry.register(self._packet_totals[series])
        elif series.kind is Counter:
            self._counters[series] = Counter(series.name, series.help, series.labels, registry=self.registry)
        elif series.kind is Gauge:
            self._gauges[series] = Gauge(series.name, series.help, series.labels, registry=self.registry)
        elif series.kind is Histogram:
            self._histograms[series] = Histogram(
                series.name, series.help, series.labels, registry=self.registry, buckets=DURATION_BUCKETS
            )
        else:
            Info(series.name, series.help, registry=self.registry).info(dict(build))

    def switch(self, node: str, bridge: str, desired: int, actual: int | None, foreign: int, in_sync: bool) -> None:
        """The flow counts of one switch now; `actual` is None before its first dump."""
        values = {DESIRED_FLOWS: desired, ACTUAL_FLOWS: actual, FOREIGN_FLOWS: foreign, SWITCH_IN_SYNC: int(in_sync)}
        for series, value in values.items():
            if value is not None:
                labelled(self._gauges[series], node, bridge).set(value)

    def primary(self, node: str, bridge: str, primary: bool) -> None:
        """Whether this replica is the primary of a switch."""
        labelled(self._gauges[SWITCH_PRIMARY], node, bridge).set(int(primary))

    def forget_flows(self, node: str, bridge: str) -> None:
        """Another replica serves the switch, and has the series of its flows."""
        for series in (DESIRED_FLOWS, ACTUAL_FLOWS, FOREIGN_FLOWS, SWITCH_IN_SYNC):
            remove_labelled(self._gauges[series], (node, bridge))

    def replicas(self, members: int, alive: int, epoch: int, lease_age: float) -> None:
        """How many replicas are members and alive, the epoch of their view, and seconds since the Lease was renewed."""
        for series, value in (
            (REPLICA_MEMBERS, members), (REPLICAS_ALIVE, alive), (REPLICA_EPOCH, epoch), (LEASE_AGE, lease_age),
        ):  # fmt: skip
            self._gauges[series].set(value)

    def roles(self, owned: int, waiting: int, refused: int) -> None:
        """How many switches belong to this replica, how many it has still to take over, and how many roles were
        refused or taken away since the last call."""
        self._gauges[SWITCHES_OWNED].set(owned)
        self._gauges[TAKEOVERS_WAITING].set(waiting)
        self._counters[ROLES_LOST].inc(refused)

    def taken_over(self, seconds: float) -> None:
        """A switch was taken over: its flows were realized `seconds` after that began."""
        self._histograms[TAKEOVER_TIME].observe(seconds)

    def connected(self, node: str, bridge: str, connected: bool) -> None:
        """Whether a switch has an OpenFlow session now."""
        self._gauges[SWITCH_CONNECTED].labels(node, bridge).set(int(connected))

    def away(self, node: str, bridge: str, reason: str) -> None:
        """Why a switch has no OpenFlow session now: a constant of `status.away_reasons`, empty while it has one."""
        last = self._away.pop((node, bridge), "")
        if last not in ("", reason):
            remove_labelled(self._gauges[SWITCH_AWAY], (node, bridge, last))
        if reason:
            self._away[node, bridge] = reason
            labelled(self._gauges[SWITCH_AWAY], node, bridge, reason).set(1)

    def node(self, node: str, ready: bool | None) -> None:
        """Whether a node is ready; None for one that is gone, which drops its series."""
        if ready is None:
            remove_labelled(self._gauges[NODE_READY], (node,))
        else:
            labelled(self._gauges[NODE_READY], node).set(int(ready))

    def forget_switch(self, node: str, bridge: str) -> None:
        """Drop all series of a switch that is no longer ours."""
        self.away(node, bridge, "")
        for series in (DESIRED_FLOWS, ACTUAL_FLOWS, FOREIGN_FLOWS, SWITCH_IN_SYNC, SWITCH_CONNECTED, SWITCH_PRIMARY):
            remove_labelled(self._gauges[series], (node, bridge))
        for result in BUNDLE_RESULTS:
            remove_labelled(self._counters[BUNDLES], (node, bridge, result))
        for change in FLOW_MOD_CHANGES:
            remove_labelled(self._counters[FLOW_MODS], (node, bridge, change))
        for change in DRIFT_CHANGES:
            remove_labelled(self._counters[DRIFT], (node, bridge, change))
        self.packets.forget_switch(node, bridge)

    def bundle_committed(self, node: str, bridge: str, adds: int, modifies: int, deletes: int) -> None:
        """The switch committed a bundle of that many changes."""
        labelled(self._counters[BUNDLES], node, bridge, "committed").inc()
        for change, number in zip(FLOW_MOD_CHANGES, (adds, modifies, deletes), strict=True):
            labelled(self._counters[FLOW_MODS], node, bridge, change).inc(number)

    def drift(self, node: str, bridge: str, changes: Mapping[str, int]) -> None:
        """Another program changed flows on a switch: how many, by DRIFT_CHANGES."""
        for change, number in changes.items():
            labelled(self._counters[DRIFT], node, bridge, change).inc(number)

    def bundle_failed(self, node: str, bridge: str) -> None:
        """The switch refused a bundle, or did not reply."""
        labelled(self._counters[BUNDLES], node, bridge, "failed").inc()

    def port_programmed(self, seconds: float) -> None:
        """The policy of a pod's port was realized `seconds` after the port appeared."""
        self._histograms[PORT_TO_PROGRAMMED].observe(seconds)

    def reconciled(self, seconds: float) -> None:
        """What to send to one switch was computed in `seconds`."""
        self._histograms[RECONCILE_TIME].observe(seconds)

    def source(self, name: str, synced: bool, problems: int, age: float | None) -> None:
        """The state of one source; `age` in seconds, None before the first sync."""
        labelled(self._gauges[SOURCE_SYNCED], name).set(int(synced))
        labelled(self._gauges[SOURCE_PROBLEMS], name).set(problems)
        if age is not None:
            labelled(self._gauges[SOURCE_AGE], name).set(age)

    def world(self, policies: int, unrealized: int, pods: int) -> None:
        """How many policies there are, how many of them are not realized, and how many pods have a port."""
        for series, value in ((POLICIES_KNOWN, policies), (POLICIES_UNREALIZED, unrealized), (PODS_BOUND, pods)):
            self._gauges[series].set(value)

    def services(self, number: int, with_problems: int) -> None:
        """How many Services there are, and of how many of them something has no effect."""
        self._gauges[SERVICES_KNOWN].set(number)
        self._gauges[SERVICE_PROBLEMS].set(with_problems)

    def contained(self, number: int) -> None:
        """How many objects, ports, bridges and rules are left out because handling them failed."""
        self._gauges[CONTAINED].set(number)

    def connections(self, openflow: int, ovsdb: int) -> None:
        """How many OpenFlow sessions and OVSDB connections are up."""
        self._gauges[OPENFLOW_SESSIONS].set(openflow)
        self._gauges[OVSDB_CONNECTIONS].set(ovsdb)

    def audited(self, events: Mapping[str, int], unreported: Mapping[str, int]) -> None:
        """Audit events by verdict, and packets that no event stands for by cause."""
        for verdict, number in events.items():
            self._counters[AUDIT_EVENTS].labels(verdict).inc(number)
        for cause, number in unreported.items():
            if number:
                self._counters[AUDIT_UNREPORTED].labels(cause).inc(number)

    def dropped(self) -> list[tuple[str, dict[str, str], float]]:
        """Packets of pods that were dropped: the cause, the labels of the series, and how many."""
        causes = {
            "policy": DENIED_PACKETS,
            "forged": FORGED_PACKETS,
            "invalid": INVALID_PACKETS,
            "limit": LIMITED_PACKETS,
        }
        return [
            (cause, sample.labels, sample.value)
            for cause, series in causes.items()
            for metric in self._packet_totals[series].collect()
            for sample in metric.samples
            if sample.value
        ]

    def dns(self, packets: Mapping[str, int], waiting: int, learned: int, refused: int) -> None:
        """Packets of DNS by result since the last call, those that wait, and addresses: all now, and refused so far."""
        for result, number in packets.items():
            self._counters[DNS_PACKETS].labels(result).inc(number)
        self._gauges[DNS_WAITING].set(waiting)
        self._gauges[DNS_LEARNED].set(learned)
        more, self._dns_refused = max(0, refused - self._dns_refused), refused
        self._counters[DNS_REFUSED].inc(more)

    def log_dropped(self, total: int) -> None:
        """How many log lines were dropped since the start."""
        more, self._log_dropped = max(0, total - self._log_dropped), total
        self._counters[LOG_DROPPED].inc(more)

    def tls_refused(self, channel: str, reason: str) -> None:
        """TLS refused a connection peer of `channel`, "openflow" or "ovsdb"."""
        labelled(self._counters[TLS_REFUSED], channel, reason).inc()

    def peer_refused(self, channel: str, reason: str) -> None:
        """A connection peer of `channel`, "openflow" or "ovsdb", was refused or disconnected to protect others."""
        self._counters[PEERS_REFUSED].labels(channel, reason).inc()

    def tls_files(self, expires: float, broken: bool) -> None:
        """The TLS files were read.

        `expires` is the Unix time of the certificate in use; `broken`: the newest files cannot be used.
        """
        self._gauges[TLS_EXPIRES].set(expires)
        self._gauges[TLS_BROKEN].set(int(broken))
