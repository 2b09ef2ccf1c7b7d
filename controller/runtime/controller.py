"""The wiring of `headgate run`: makes the parts, hands each what it needs, starts and stops them. Nothing else.

The data's way: sources and OVSDB connections and OpenFlow sessions post events to the `EventQueue`; the `EventLoop`
feeds them to the `Reconciler` and gives its commands to the `CommandRunner`; HTTP asks the `Answers`. HTTP itself and
signals: see `controller.cli.run`.
"""

from __future__ import annotations

import gc
import time
from functools import partial

from controller.base import logs
from controller.base.errors import StartError, reason_of
from controller.base.garbage_collector import GC_THRESHOLDS
from controller.base.large_pages import LargePages
from controller.base.version import version
from controller.config.addresses import is_tls
from controller.config.audit import syslog_address
from controller.config.schema import RunConfig
from controller.metrics.event_counters import EventCounters
from controller.metrics.registry import Metrics
from controller.openflow.app import OpenFlowSetup, open_app
from controller.ovsdb.service import Ovsdb, OvsdbBounds
from controller.peers.limits import ConnectionLimits
from controller.reconcile.reconciler import Reconciler
from controller.replicas.fleet import Fleet
from controller.runtime.answers import Answers
from controller.runtime.audit import AuditCollector
from controller.runtime.audit_answers import AuditAnswers
from controller.runtime.audit_log import AuditLog
from controller.runtime.audit_writers import AuditWriters
from controller.runtime.command_runner import CommandRunner
from controller.runtime.event_log import EventLog, switch_fields
from controller.runtime.event_queue import EventQueue
from controller.runtime.flow_dumps import FlowDumps
from controller.runtime.locked_reconciler import LockedReconciler
from controller.runtime.loop import EventLoop
from controller.runtime.page import Page
from controller.runtime.page_feed import PageFeed
from controller.runtime.replica import make_member, set_replica_gauges
from controller.runtime.spokesman import Spokesman
from controller.runtime.status_cache import StatusCache
from controller.runtime.wait import RealizationWait
from controller.sources.folder.source import ManifestFolder
from controller.sources.kubernetes.source import KubernetesApi
from controller.sources.store import Store
from controller.tls.credentials import Credentials
from flows.pipeline.tables import TABLE_NAMES


class Controller:
    """Everything that `headgate run` runs, apart from HTTP and signals. `peer_limits` are those of each listener."""

    def __init__(self, config: RunConfig, peer_limits: ConnectionLimits | None = None) -> None:
        """Open the listeners; nothing is connected to yet. Raises StartError."""
        started = time.monotonic()
        self.metrics = Metrics(version(), config.hub)
        files = config.tls_files
        self._tls = Credentials(files, config.allowed_switch, self.metrics) if files else None
        events = EventQueue()
        self._store = Store(events.post, stage_all=config.mode == "audit")
        if config.manifests:
            ManifestFolder(config.manifests, self._store, services=config.routes, dns_service=config.dns_service_key)
        kubernetes = (
            KubernetesApi(config.kubeconfig, self._store, services=config.routes, dns_service=config.dns_service_key)
            if config.kubeconfig
            else None
        )
        self._open_switch_channels(config, events, peer_limits or ConnectionLimits())
        reconciler = Reconciler(
            config.ovsdb,
            started,
            config.ovsdb_listen is not None,
            config.rates,
            config.bridge,
            config.network_options,
            config.audit_mode,
            config.dns_min_ttl,
            takes_part=kubernetes is not None,
        )
        event_log = EventLog(reconciler, metered=bool(config.rates.metered))
        self.reconciler = LockedReconciler(reconciler)
        self._member = make_member(config, events.post, self.reconciler, self._ovsdb, self.openflow, self._store)
        fleet = Fleet(self._member) if self._member is not None else None
        self._spokesman = Spokesman(fleet, self.reconciler, kubernetes.conditions.report if kubernetes else None)
        self._status = StatusCache(
            self.reconciler,
            self.metrics,
            count_policy_problems=lambda: len(event_log.policy_problems),
            set_other_gauges=self._set_source_gauges,
            away_reasons=self._ovsdb.away,
        )
        syslog = syslog_address(config.audit_syslog) if config.audit_syslog else None
        self._audit_writers = AuditWriters(config.audit_file, config.audit_file_bytes, syslog)
        audit_log = AuditLog(config.audit_events, self._audit_writers.write)
        self._audit = AuditCollector(self.openflow.audit_inbox, self.reconciler, audit_log, self.metrics)
        self._large_pages = LargePages()
        self._loop = EventLoop(
            events,
            reconciler,
            self.reconciler,
            commands=CommandRunner(self.openflow, self._ovsdb, events.post, partial(switch_fields, reconciler)),
            event_log=event_log,
            event_counters=EventCounters(self.metrics),
            status=self._status,
            report_policies=(
                self._spokesman.reporting(kubernetes.events.report, {}) if kubernetes else lambda problems: None
            ),
        )
        dumps = FlowDumps(self.reconciler, events)
        self.answers = Answers(
            config,
            started,
            reconciler=self.reconciler,
            status=self._status,
            store=self._store,
            ovsdb=self._ovsdb,
            openflow=self.openflow,
            tls=self._tls,
            realization=RealizationWait(
                self.reconciler,
                events,
                self._store,
                self._ovsdb,
                policy_problems=lambda: event_log.policy_problems,
                switches_call_since=started if config.ovsdb_listen is not None else None,
            ),
            dumps=dumps,
            audit=AuditAnswers(audit_log, self.reconciler, self.metrics, dumps),
            fleet=fleet,
        )
        self._feed = PageFeed(self._status)
        self.page = Page(
            self.answers, self._feed, reconciler=self.reconciler, dumps=dumps, packets=self.metrics.packets
        )

    def _open_switch_channels(self, config: RunConfig, events: EventQueue, limits: ConnectionLimits) -> None:
        try:
            secured = is_tls(config.openflow_listen)
            setup = OpenFlowSetup(
                connections=limits,
                tls=self._tls if secured else None,
                refused=partial(self.metrics.peer_refused, "openflow"),
            )
            self.openflow = open_app(events.post, [config.openflow_address], setup)
            self._ovsdb = Ovsdb(
                config.ovsdb,
                post=events.post,
                listen=config.ovsdb_listen,
                bridges=config.bridge,
                tables=TABLE_NAMES,
                openflow=(self.openflow.addresses[0].host, self.openflow.addresses[0].port),
                connected=self.openflow.session_of,
                tls=self._tls,
                openflow_tls=secured,
                routes=config.routes,
                shared=config.replica_options is not None,
                bounds=OvsdbBounds(connections=limits, refused=partial(self.metrics.peer_refused, "ovsdb")),
            )
        except (OSError, ValueError) as error:
            where = config.ovsdb_listen or ", ".join(config.ovsdb)
            text = f"OVSDB at {where}: {reason_of(error)}; choose another address with --ovsdb-listen"
            raise StartError(text) from error

    def start(self) -> None:
        """Connect to sources and OVSDBs, accept switches, and go on in threads. Raises StartError."""
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            self._ovsdb.start()
            self._store.start()
            if self._member is not None:
                self._member.start()
        except (OSError, ValueError) as error:
            raise StartError(reason_of(error)) from error
        self._loop.start()
        self._large_pages.start()
        self._status.start()
        self._spokesman.start()
        self._feed.start()
        self._audit_writers.start()
        self._audit.start()

    def stop(self, timeout: float) -> None:
        """Stop all threads within `timeout` seconds. The flows on the switches stay."""
        deadline = time.monotonic() + timeout
        if self._member is not None:
            self._member.stop()
        self._large_pages.stop()
        self._feed.stop()
        self._audit.stop()
        self._audit_writers.stop()
        self._spokesman.stop()
        self._status.stop()
        self._loop.stop()
        self._store.stop()
        self._ovsdb.close()
        self.openflow.close()
        if self._tls is not None:
            self._tls.close()
        self._loop.join(max(0.0, deadline - time.monotonic()))

    def _set_source_gauges(self) -> None:
        self.metrics.log_dropped(logs.dropped())
        now = time.monotonic()
        for source in self._store.states():
            age = None if source.current_at is None else now - source.current_at
            self.metrics.source(source.name, source.synced, source.problems, age)
        if self._member is not None:
            set_replica_gauges(self.metrics, self._member, self.reconciler)
