"""The Prometheus series of Headgate, declared once: name, kind, help and labels. docs/metrics.md comes from here.

To add a metric: declare its Series here and in `DECLARED_SERIES`, and give `registry.Metrics` a method that sets it.
"""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram, Info

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Series(NamedTuple):
    """One metric. `name` of a counter is without `_total`, which the client library appends."""

    name: str
    kind: type[Counter] | type[Gauge] | type[Histogram] | type[Info]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name in /metrics."""
        return self.name + {Counter: "_total", Info: "_info"}.get(self.kind, "")


BUILD_INFO = Series("headgate_build", Info, "The version that runs (always 1).", ("version", "python", "hub"))
DESIRED_FLOWS = Series("headgate_desired_flows", Gauge, "Flows that Headgate wants on the switch.", ("node", "bridge"))
ACTUAL_FLOWS = Series(
    "headgate_actual_flows", Gauge, "Flows of Headgate on the switch, as last dumped.", ("node", "bridge")
)
FOREIGN_FLOWS = Series(
    "headgate_foreign_flows",
    Gauge,
    "Flows on the bridge that Headgate did not make; Headgate does not touch them.",
    ("node", "bridge"),
)
SWITCH_IN_SYNC = Series(
    "headgate_switch_in_sync", Gauge, "1 while the switch has all desired flows.", ("node", "bridge")
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
    "Flows that another program changed. removed, modified, added: flows of Headgate, which it restores at once. "
    "foreign: other flows in Headgate's tables, which it does not touch and reports as a problem.",
    ("node", "bridge", "change"),
)
PORT_TO_PROGRAMMED = Series(
    "headgate_port_to_programmed_seconds",
    Histogram,
    "Time from a pod port's appearance in OVSDB to its policy realized on the switch.",
)
RECONCILE_TIME = Series(
    "headgate_reconcile_seconds", Histogram, "Time to compute what to send to one switch for one batch of changes."
)
SOURCE_SYNCED = Series("headgate_source_synced", Gauge, "1 once the source was read completely.", ("source",))
SOURCE_PROBLEMS = Series("headgate_source_problems", Gauge, "Objects of the source with problems.", ("source",))
SOURCE_AGE = Series(
    "headgate_source_age_seconds", Gauge, "Seconds since the source was last known to be current.", ("source",)
)
POLICIES_KNOWN = Series("headgate_policies", Gauge, "NetworkPolicies.")
POLICIES_UNREALIZED = Series("headgate_policies_unrealized", Gauge, "NetworkPolicies that are not wholly realized.")
CONTAINED = Series(
    "headgate_contained", Gauge, "Objects, rules, ports and bridges that are left out because handling them failed."
)
SERVICES_KNOWN = Series("headgate_services", Gauge, "Services; none in mode flat, where they are not read.")
SERVICE_PROBLEMS = Series("headgate_services_with_problems", Gauge, "Services of which something has no effect.")
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
    "Connections refused or closed to protect others. connections, address, pace, unproven: a limit (see limits.md). "
    "claimed: another session has the datapath id. fault: the switch broke the protocol.",
    ("channel", "reason"),
)
TLS_BROKEN = Series(
    "headgate_tls_files_broken", Gauge, "1 while the newest TLS files cannot be used, and older ones are still in use."
)
TLS_EXPIRES = Series(
    "headgate_tls_certificate_expires_timestamp_seconds",
    Gauge,
    "Unix time when the controller's certificate expires; 0 without TLS.",
)
LOG_DROPPED = Series(
    "headgate_log_lines_dropped",
    Counter,
    "Log lines that were dropped: the reader of standard error was too slow, or the disk refused them.",
)
SWITCH_CONNECTED = Series(
    "headgate_switch_connected", Gauge, "1 while the switch has an OpenFlow session with Headgate.", ("node", "bridge")
)
SWITCH_AWAY = Series(
    "headgate_switch_away",
    Gauge,
    "1 while the switch has no OpenFlow session with Headgate. The reason, from OVSDB: ovsdb (no connection to it "
    "either), rival, contested, no_controller, elsewhere, refused, unreachable, closed, protocol, failed or waiting.",
    ("node", "bridge", "reason"),
)
NODE_READY = Series(
    "headgate_node_ready",
    Gauge,
    "1 while the node lacks nothing, in a network that routes: see headgate status --nodes. Of at most 5000 nodes.",
    ("node",),
)
AUDIT_EVENTS = Series(
    "headgate_audit_events",
    Counter,
    "Audit events, by verdict: denied, dropped, allowed, would-deny.",
    ("verdict",),
)
AUDIT_UNREPORTED = Series(
    "headgate_audit_unreported",
    Counter,
    "Packets of audited pods that no event stands for. meter: beyond what is reported of a pod or a node, as of the "
    "last dump. controller: beyond what the controller reports. repeated: of a connection that was reported already.",
    ("cause",),
)
DENIED_PACKETS = Series(
    "headgate_denied_packets",
    Counter,
    "Packets dropped because the pod is isolated, and the policies that isolate it: the first three by name. When "
    "these change, a new series counts from then on.",
    ("namespace", "pod", "direction", "policies"),
)
ALLOWED_PACKETS = Series(
    "headgate_allowed_packets",
    Counter,
    "Packets that a rule allowed, in both directions of the connections. Equal rules of several policies share flows, "
    "and each counts all packets of these, so their sum is too high.",
    ("namespace", "policy", "direction", "rule"),
)

TIER_PACKETS = Series(
    "headgate_tier_packets",
    Counter,
    "Packets that a rule of a ClusterNetworkPolicy matched, in both directions of the connections: accepted, denied or "
    "passed to the next tier, as `action` says; Deny also where the rule denies for it cannot be read. Equal rules of "
    "several policies share flows, and each counts all packets of these. What a pod with rules for domain names "
    "opens, and policy denies, is matched twice (docs/adr/0021), at most 50 packets a second of a pod.",
    ("tier", "policy", "direction", "rule", "name", "action"),
)

STAGED_PACKETS = Series(
    "headgate_staged_packets",
    Counter,
    "Packets of the pod that the promotion of staged policies would change, by what it would do: deny what passes now, "
    "or allow what the pod's isolation denies now.",
    ("namespace", "pod", "direction", "change"),
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
    "Packets of the pod that were dropped as invalid, by reason. broken: a wrong checksum or length. connection: they "
    "do not fit their connection in conntrack.",
    ("namespace", "pod", "reason"),
)
FORGED_PACKETS = Series(
    "headgate_forged_packets",
    Counter,
    "Packets that were dropped before policy, by kind. sent: the pod sent them, and not from an address of its own, or "
    "neither IP nor ARP. address: another port sent them from the pod's address. Those of an audited pod all are sent.",
    ("namespace", "pod", "kind"),
)

DNS_PACKETS = Series(
    "headgate_dns_packets",
    Counter,
    "Packets of DNS that switches handed over for rules with domain names, by what became of them. learned: held until "
    "what they say was open. released: nothing to learn. unasked: an answer to no query of the pod. dropped: too many, "
    "or out of order.",
    ("result",),
)
DNS_WAITING = Series("headgate_dns_waiting_packets", Gauge, "Packets of DNS that are held now.")
DNS_LEARNED = Series("headgate_dns_learned_addresses", Gauge, "Addresses that pods learned, those that expired too.")
DNS_REFUSED = Series("headgate_dns_refused_addresses", Counter, "Addresses in answers for which a limit left no room.")
SWITCH_PRIMARY = Series(
    "headgate_switch_primary",
    Gauge,
    "1 while this replica serves the switch. The sum over all replicas is 1 for each switch; alone, a replica serves "
    "each switch that has a session with it.",
    ("node", "bridge"),
)
REPLICA_MEMBERS = Series("headgate_replica_members", Gauge, "Replicas that own switches; 0 without replicas.")
REPLICAS_ALIVE = Series("headgate_replicas_alive", Gauge, "Replicas whose Lease is renewed; 0 without replicas.")
REPLICA_EPOCH = Series(
    "headgate_replica_epoch", Gauge, "The number of the view that this replica knows: equal on all, but for moments."
)
LEASE_AGE = Series(
    "headgate_lease_age_seconds", Gauge, "Seconds since this replica's Lease was renewed; 0 without replicas."
)
SWITCHES_OWNED = Series("headgate_switches_owned", Gauge, "Switches that belong to this replica.")
TAKEOVERS_WAITING = Series(
    "headgate_takeovers_waiting", Gauge, "Switches that belong to this replica, and that it has still to take over."
)
TAKEOVER_TIME = Series(
    "headgate_takeover_seconds",
    Histogram,
    "Time to take a switch over: from planning its flows to having compared or corrected them.",
)
ROLES_LOST = Series(
    "headgate_roles_lost",
    Counter,
    "Roles that switches refused to this replica, or took away, because another one serves them. Some for each change "
    "of the replicas.",
)

BUNDLE_RESULTS = ("committed", "failed")
DNS_RESULTS = ("learned", "released", "unasked", "dropped")
DRIFT_CHANGES = ("removed", "modified", "added", "foreign")
FLOW_MOD_CHANGES = ("add", "modify", "delete")

DECLARED_SERIES = (
    BUILD_INFO, DESIRED_FLOWS, ACTUAL_FLOWS, FOREIGN_FLOWS, SWITCH_IN_SYNC, BUNDLES, FLOW_MODS, DRIFT,
    PORT_TO_PROGRAMMED, RECONCILE_TIME,
    SOURCE_SYNCED, SOURCE_PROBLEMS, SOURCE_AGE, POLICIES_KNOWN, POLICIES_UNREALIZED, PODS_BOUND, CONTAINED,
    SERVICES_KNOWN, SERVICE_PROBLEMS,
    OPENFLOW_SESSIONS, OVSDB_CONNECTIONS, TLS_REFUSED, PEERS_REFUSED, TLS_BROKEN, TLS_EXPIRES, LOG_DROPPED,
    SWITCH_CONNECTED, SWITCH_AWAY, NODE_READY, AUDIT_EVENTS,
    AUDIT_UNREPORTED,
    DENIED_PACKETS, ALLOWED_PACKETS, TIER_PACKETS, STAGED_PACKETS, LIMITED_PACKETS,
    INVALID_PACKETS, FORGED_PACKETS, DNS_PACKETS, DNS_WAITING, DNS_LEARNED, DNS_REFUSED,
    SWITCH_PRIMARY, REPLICA_MEMBERS, REPLICAS_ALIVE, REPLICA_EPOCH, LEASE_AGE, SWITCHES_OWNED, TAKEOVERS_WAITING,
    TAKEOVER_TIME, ROLES_LOST,
)  # fmt: skip

# The client library's metrics of the process (prometheus_client.ProcessCollector); Linux only.
PROCESS_SERIES = (
    ("process_cpu_seconds_total", "counter", "Processor time used, in seconds."),
    ("process_max_fds", "gauge", "File descriptors that the process may have open."),
    ("process_open_fds", "gauge", "File descriptors that are open: some for each switch."),
    ("process_resident_memory_bytes", "gauge", "Memory in use."),
    ("process_start_time_seconds", "gauge", "Unix time of the start."),
    ("process_virtual_memory_bytes", "gauge", "Memory reserved."),
)
