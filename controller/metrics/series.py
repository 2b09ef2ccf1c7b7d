"""What the controller counts and measures, declared once: the Prometheus series, their docs, and the calls that move
them.

The core calls `Metrics`; nothing here reads a clock or asks a switch. docs/metrics.md is generated from
`DECLARED_SERIES`.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from controller.base.printable import printable

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


# The times at which series were created are series of their own otherwise, as many again and none of them declared.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Series(NamedTuple):
    """One metric: name (a counter's without `_total`, as the client library wants it), kind, what it says, labels."""

    name: str
    kind: type[Counter] | type[Gauge] | type[Histogram] | type[Info]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name as Prometheus sees it."""
        return self.name + {Counter: "_total", Info: "_info"}.get(self.kind, "")


BUILD_INFO = Series("headgate_build", Info, "The version that runs (always 1).", ("version", "python", "hub"))
DESIRED_FLOWS = Series("headgate_desired_flows", Gauge, "Flows that should be on the switch.", ("node", "bridge"))
ACTUAL_FLOWS = Series(
    "headgate_actual_flows", Gauge, "Flows of ours on the switch, by its own word.", ("node", "bridge")
)
FOREIGN_FLOWS = Series(
    "headgate_foreign_flows", Gauge, "Flows on the bridge that are not ours; they are left alone.", ("node", "bridge")
)
SWITCH_IN_SYNC = Series(
    "headgate_switch_in_sync", Gauge, "1 when nothing is left to send to the switch.", ("node", "bridge")
)
BUNDLES = Series(
    "headgate_bundles", Counter, "Bundles sent, by result: committed or failed.", ("node", "bridge", "result")
)
FLOW_MODS = Series(
    "headgate_flow_mods",
    Counter,
    "Flow changes in committed bundles: add, modify or delete.",
    ("node", "bridge", "change"),
)
DRIFT = Series(
    "headgate_drift",
    Counter,
    "Flows that somebody else changed: removed, modified or added among ours (they are put right at once), foreign in "
    "tables of ours (they are left alone, and are a problem).",
    ("node", "bridge", "change"),
)
PORT_TO_PROGRAMMED = Series(
    "headgate_port_to_programmed_seconds",
    Histogram,
    "From a pod port's appearance in OVSDB to its policy in force on the switch.",
)
RECONCILE_TIME = Series(
    "headgate_reconcile_seconds", Histogram, "Time to turn one change of the world into what to send to one switch."
)
SOURCE_SYNCED = Series("headgate_source_synced", Gauge, "1 once the source was read completely.", ("source",))
SOURCE_PROBLEMS = Series(
    "headgate_source_problems", Gauge, "Objects of the source that could not be taken as they stand.", ("source",)
)
SOURCE_AGE = Series(
    "headgate_source_age_seconds", Gauge, "Seconds since the source was last known to be current.", ("source",)
)
POLICIES_KNOWN = Series("headgate_policies", Gauge, "NetworkPolicies known.")
POLICIES_UNREALIZED = Series(
    "headgate_policies_unrealized", Gauge, "NetworkPolicies not, or not wholly, in force where they should be."
)
CONTAINED = Series(
    "headgate_contained", Gauge, "Objects, rules, ports and bridges that are kept out because handling them failed."
)
PODS_BOUND = Series("headgate_pods", Gauge, "Pods bound to a port.")
OPENFLOW_SESSIONS = Series("headgate_openflow_sessions", Gauge, "OpenFlow sessions that are up.")
OVSDB_CONNECTIONS = Series("headgate_ovsdb_connections", Gauge, "OVSDB connections that are up.")
TLS_REFUSED = Series(
    "headgate_tls_refused",
    Counter,
    "Connections refused in the TLS handshake, or for their certificate.",
    ("channel", "reason"),
)
PEERS_REFUSED = Series(
    "headgate_peers_refused",
    Counter,
    "Connections refused or ended to protect the others: connections, address, pace and unproven are limits (see "
    "limits.md), claimed is a datapath id that another session has, fault is a switch that was dropped for one.",
    ("channel", "reason"),
)
TLS_BROKEN = Series(
    "headgate_tls_files_broken", Gauge, "1 while the newest TLS files cannot be used and older ones stay in use."
)
TLS_EXPIRES = Series(
    "headgate_tls_certificate_expires_timestamp_seconds", Gauge, "Unix time when our certificate ends; 0 without TLS."
)
LOG_DROPPED = Series(
    "headgate_log_lines_dropped", Counter, "Lines of the log that nobody read in time, or no disk took."
)
SWITCH_CONNECTED = Series(
    "headgate_switch_connected", Gauge, "1 while the switch has an OpenFlow session with us.", ("node", "bridge")
)
SWITCH_AWAY = Series(
    "headgate_switch_away",
    Gauge,
    "1 while the switch has no OpenFlow session with us, with the reason as far as OVSDB knows it: ovsdb (that is away "
    "too), rival, contested, no_controller, elsewhere, refused, unreachable, closed, protocol, failed or waiting.",
    ("node", "bridge", "reason"),
)
DENIED_PACKETS = Series(
    "headgate_denied_packets",
    Counter,
    "Packets that isolation of the pod dropped, and by which policies it is isolated: the first three by name. When "
    "those change, what is dropped from then on counts in a series of its own.",
    ("namespace", "pod", "direction", "policies"),
)
ALLOWED_PACKETS = Series(
    "headgate_allowed_packets",
    Counter,
    "Packets that a rule allowed since it was seen in this policy, of both directions of the connections. Rules that "
    "say the same in several policies share their flows: each counts all of these packets, so they do not add up.",
    ("namespace", "policy", "direction", "rule"),
)

LIMITED_PACKETS = Series(
    "headgate_limited_packets",
    Counter,
    "Packets of the pod that its limit dropped, by kind: new_connections or fragments.",
    ("namespace", "pod", "kind"),
)
INVALID_PACKETS = Series(
    "headgate_invalid_packets",
    Counter,
    "Packets of the pod that were dropped as invalid, by reason: broken by themselves, as by a wrong checksum, or at "
    "odds with what conntrack knows of their connection.",
    ("namespace", "pod", "reason"),
)

BUNDLE_RESULTS = ("committed", "failed")
DRIFT_CHANGES = ("removed", "modified", "added", "foreign")
FLOW_MOD_CHANGES = ("add", "modify", "delete")

DECLARED_SERIES = (
    BUILD_INFO, DESIRED_FLOWS, ACTUAL_FLOWS, FOREIGN_FLOWS, SWITCH_IN_SYNC, BUNDLES, FLOW_MODS, DRIFT,
    PORT_TO_PROGRAMMED, RECONCILE_TIME,
    SOURCE_SYNCED, SOURCE_PROBLEMS, SOURCE_AGE, POLICIES_KNOWN, POLICIES_UNREALIZED, PODS_BOUND, CONTAINED,
    OPENFLOW_SESSIONS, OVSDB_CONNECTIONS, TLS_REFUSED, PEERS_REFUSED, TLS_BROKEN, TLS_EXPIRES, LOG_DROPPED,
    SWITCH_CONNECTED, SWITCH_AWAY, DENIED_PACKETS, ALLOWED_PACKETS, LIMITED_PACKETS, INVALID_PACKETS,
)  # fmt: skip

# What the client library says of the process itself (prometheus_client.ProcessCollector); Linux only.
PROCESS_SERIES = (
    ("process_cpu_seconds_total", "counter", "Processor time used, in seconds."),
    ("process_max_fds", "gauge", "File descriptors that the process may have open."),
    ("process_open_fds", "gauge", "File descriptors that are open: some for each switch."),
    ("process_resident_memory_bytes", "gauge", "Memory in use."),
    ("process_start_time_seconds", "gauge", "Unix time of the start."),
    ("process_virtual_memory_bytes", "gauge", "Memory reserved."),
)


class DeniedLabels(NamedTuple):
    """Whose isolation a deny flow counts. `direction` is "ingress" or "egress", `policies` names who isolates."""

    namespace: str
    pod: str
    direction: str
    policies: str = ""


class AllowedLabels(NamedTuple):
    """Which rule an allowing flow counts; `rule` is its place in the manifest, from 0."""

    namespace: str
    policy: str
    direction: str
    rule: int


class LimitedLabels(NamedTuple):
    """Whose packets a meter dropped; `kind` is what it limits."""

    namespace: str
    pod: str
    kind: str


class InvalidLabels(NamedTuple):
    """Whose packets conntrack called invalid; `reason` is "broken" or "connection"."""

    namespace: str
    pod: str
    reason: str


PacketLabels = DeniedLabels | AllowedLabels | LimitedLabels | InvalidLabels
_FED = {
    DeniedLabels: DENIED_PACKETS,
    AllowedLabels: ALLOWED_PACKETS,
    LimitedLabels: LIMITED_PACKETS,
    InvalidLabels: INVALID_PACKETS,
}


class CounterSample(NamedTuple):
    """What a dump said of one flow or meter: which series it feeds, packets since it was added, seconds since then; and
    what it counts for, lest another rule that has its number now is taken for it."""

    counts: tuple[PacketLabels, ...]
    packets: int
    duration: int
    source: Hashable = None


class Metrics:
    """The process's metrics in a registry of their own. Calls are cheap and may come from any thread."""

    def __init__(self, version: str, hub: str) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[Series, Counter] = {}
        self._gauges: dict[Series, Gauge] = {}
        self._histograms: dict[Series, Histogram] = {}
        for series in DECLARED_SERIES:
            self._create(series, {"version": version, "python": platform.python_version(), "hub": hub})
        ProcessCollector(registry=self.registry)
        self._lock = threading.Lock()
        self._log_dropped = 0
        # Per switch and flow: the series it feeds and what the last dump said.
        self._readings: dict[tuple[str, str], dict[Hashable, CounterSample]] = {}
        self._feeds: dict[PacketLabels, int] = {}  # how many switches feed a series
        self._unfed: set[PacketLabels] = set()  # those that none does any more
        self._away: dict[tuple[str, str], str] = {}  # the reason that a switch's series has

    def _create(self, series: Series, build: Mapping[str, str]) -> None:
        if series.kind is Counter:
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
                _child(self._gauges[series], node, bridge).set(value)

    def connected(self, node: str, bridge: str, connected: bool) -> None:
        """Whether a switch has an OpenFlow session now."""
        self._gauges[SWITCH_CONNECTED].labels(node, bridge).set(int(connected))

    def away(self, node: str, bridge: str, reason: str) -> None:
        """Why a switch has no OpenFlow session now, a word of `status.away_reasons`; empty while it has one."""
        last = self._away.pop((node, bridge), "")
        if last not in ("", reason):
            _remove(self._gauges[SWITCH_AWAY], (node, bridge, last))
        if reason:
            self._away[node, bridge] = reason
            _child(self._gauges[SWITCH_AWAY], node, bridge, reason).set(1)

    def forget_switch(self, node: str, bridge: str) -> None:
        """Drop all series of a switch that is no longer ours, and what its flows fed."""
        self.away(node, bridge, "")
        for series in (DESIRED_FLOWS, ACTUAL_FLOWS, FOREIGN_FLOWS, SWITCH_IN_SYNC, SWITCH_CONNECTED):
            _remove(self._gauges[series], (node, bridge))
        for result in BUNDLE_RESULTS:
            _remove(self._counters[BUNDLES], (node, bridge, result))
        for change in FLOW_MOD_CHANGES:
            _remove(self._counters[FLOW_MODS], (node, bridge, change))
        for change in DRIFT_CHANGES:
            _remove(self._counters[DRIFT], (node, bridge, change))
        self.observe_counters(node, bridge, {})
        self._readings.pop((node, bridge), None)

    def bundle_committed(self, node: str, bridge: str, adds: int, modifies: int, deletes: int) -> None:
        """The switch committed a bundle of that many changes."""
        _child(self._counters[BUNDLES], node, bridge, "committed").inc()
        for change, number in zip(FLOW_MOD_CHANGES, (adds, modifies, deletes), strict=True):
            _child(self._counters[FLOW_MODS], node, bridge, change).inc(number)

    def drift(self, node: str, bridge: str, changes: Mapping[str, int]) -> None:
        """Somebody else changed flows of a switch: how many, by the words of DRIFT_CHANGES."""
        for change, number in changes.items():
            _child(self._counters[DRIFT], node, bridge, change).inc(number)

    def bundle_failed(self, node: str, bridge: str) -> None:
        """The switch refused a bundle, or did not answer."""
        _child(self._counters[BUNDLES], node, bridge, "failed").inc()

    def port_programmed(self, seconds: float) -> None:
        """A pod's port got its policy this long after it appeared."""
        self._histograms[PORT_TO_PROGRAMMED].observe(seconds)

    def reconciled(self, seconds: float) -> None:
        """What to send to one switch was computed in this time."""
        self._histograms[RECONCILE_TIME].observe(seconds)

    def source(self, name: str, synced: bool, problems: int, age: float | None) -> None:
        """The state of one source; `age` in seconds, None before the first sync."""
        _child(self._gauges[SOURCE_SYNCED], name).set(int(synced))
        _child(self._gauges[SOURCE_PROBLEMS], name).set(problems)
        if age is not None:
            _child(self._gauges[SOURCE_AGE], name).set(age)

    def world(self, policies: int, unrealized: int, pods: int) -> None:
        """How many policies there are, how many of them are not in force, and how many pods have a port."""
        for series, value in ((POLICIES_KNOWN, policies), (POLICIES_UNREALIZED, unrealized), (PODS_BOUND, pods)):
            self._gauges[series].set(value)

    def contained(self, number: int) -> None:
        """So many objects, ports, bridges and rules are kept out because handling them failed."""
        self._gauges[CONTAINED].set(number)

    def connections(self, openflow: int, ovsdb: int) -> None:
        """How many sessions and connections are up."""
        self._gauges[OPENFLOW_SESSIONS].set(openflow)
        self._gauges[OVSDB_CONNECTIONS].set(ovsdb)

    def log_dropped(self, total: int) -> None:
        """So many lines of the log were dropped since the start."""
        more, self._log_dropped = max(0, total - self._log_dropped), total
        self._counters[LOG_DROPPED].inc(more)

    def tls_refused(self, channel: str, reason: str) -> None:
        """A peer of "openflow" or "ovsdb" was refused."""
        _child(self._counters[TLS_REFUSED], channel, reason).inc()

    def peer_refused(self, channel: str, reason: str) -> None:
        """A peer of "openflow" or "ovsdb" was refused."""
        self._counters[PEERS_REFUSED].labels(channel, reason).inc()

    def tls_files(self, expires: float, broken: bool) -> None:
        """The TLS files were read: when the certificate in use ends (Unix time), whether the newest are broken."""
        self._gauges[TLS_EXPIRES].set(expires)
        self._gauges[TLS_BROKEN].set(int(broken))

    def observe_counters(self, node: str, bridge: str, readings: Mapping[Hashable, CounterSample]) -> None:
        """Take what one switch's dump says of the flows that count, by flow.

        A flow's counter begins anew when the switch restarts or the flow is added again: then it is younger than at
        the last dump, or counts less, and all that it counts is new. What a flow counted before a rule's owner came is
        not the owner's.
        """
        with self._lock:
            self._take(node, bridge, readings)

    def _take(self, node: str, bridge: str, readings: Mapping[Hashable, CounterSample]) -> None:
        before = self._readings.get((node, bridge), {})
        for flow, now in readings.items():
            last = before.get(flow)
            goes_on = last is not None and _goes_on(last, now)
            packets = now.packets - (last.packets if last is not None and goes_on else 0)
            for counts in now.counts:
                # Who comes to a flow that others had counts from now on.
                joins = goes_on and last is not None and (_joins(counts, last) or last.source != now.source)
                self._counter(counts).inc(0 if joins else packets)
        self._readings[node, bridge] = dict(readings)
        fed, feeds = _series(before), _series(readings)
        for counts in feeds - fed:
            self._feeds[counts] = self._feeds.get(counts, 0) + 1
            self._unfed.discard(counts)
        followed = {_whose(counts) for counts in feeds if isinstance(counts, DeniedLabels)}
        for counts in fed - feeds:
            self._feeds[counts] -= 1
            if self._feeds[counts]:
                continue
            del self._feeds[counts]
            if isinstance(counts, DeniedLabels) and _whose(counts) in followed:
                _remove(self._counters[DENIED_PACKETS], counts)  # other policies isolate the pod now
            else:
                self._unfed.add(counts)

    def _counter(self, counts: PacketLabels) -> Counter:
        return _child(self._counters[_FED[type(counts)]], *map(str, counts))

    def retire(self, owned: Callable[[PacketLabels], bool]) -> None:
        """Drop the series that no flow feeds and whose owner is gone. While there is an owner, flows may come again,
        and the count goes on where it was."""
        with self._lock:
            unfed = list(self._unfed)
        # Without the lock, for whoever takes a dump would wait.
        gone = [counts for counts in unfed if not owned(counts)]
        with self._lock:
            for counts in gone:
                if counts in self._unfed:
                    self._unfed.discard(counts)
                    _remove(self._counters[_FED[type(counts)]], tuple(map(str, counts)))


def _whose(counts: PacketLabels) -> tuple[object, ...]:
    """Whom a flow counts for. That other policies isolate the pod now does not make its old packets theirs."""
    return counts[:3] if isinstance(counts, DeniedLabels) else counts


def _joins(counts: PacketLabels, last: CounterSample) -> bool:
    return all(_whose(counts) != _whose(one) for one in last.counts)


def _goes_on(last: CounterSample, now: CounterSample) -> bool:
    return now.duration >= last.duration and now.packets >= last.packets


def _series(readings: Mapping[Hashable, CounterSample]) -> set[PacketLabels]:
    return {counts for reading in readings.values() for counts in reading.counts}


M = TypeVar("M", Counter, Gauge)


def _child(metric: M, *labels: str) -> M:
    """The series of these labels. They come from switches and manifests, and /metrics is read on terminals too."""
    return metric.labels(*map(printable, labels))


def _remove(metric: Counter | Gauge, labels: tuple[str, ...]) -> None:
    try:
        metric.remove(*map(printable, labels))
    except KeyError:
        # It was never set: a switch that went before its first dump, for one.
        return
