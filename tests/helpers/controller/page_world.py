"""A whole controller behind the page, but for its network: the real reconciler, event loop, status and answers, over
switches that are values and count made-up packets.

    python -m tests.helpers.controller.page_world PORT [PODS]      serves the page until it is ended
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.config.addresses import HostPort
from controller.config.schema import RunConfig
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.http.ui.pages import UiPages
from controller.metrics.event_counters import EventCounters
from controller.metrics.registry import Metrics
from controller.reconcile.commands import Command, DumpFlows, WriteMarks
from controller.reconcile.events import BridgeChanged, ClusterChanged, Event, FlowsDumped, OvsdbState, SwitchUp
from controller.reconcile.reconciler import Reconciler
from controller.runtime.answers import Answers
from controller.runtime.audit_answers import AuditAnswers
from controller.runtime.audit_log import AuditLog
from controller.runtime.event_log import EventLog
from controller.runtime.event_queue import EventQueue
from controller.runtime.flow_dumps import FlowDumps
from controller.runtime.locked_reconciler import LockedReconciler
from controller.runtime.loop import EventLoop
from controller.runtime.page import Page
from controller.runtime.page_feed import PageFeed
from controller.runtime.status_cache import StatusCache
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import Cluster
from flows.pipeline.cookies import CookieKind, read_cookie
from flows.wire.values import FlowCounters, FlowKey
from tests.helpers.cluster.page_cluster import page_cluster
from tests.helpers.controller.reconcile_driver import Driver, ValueSwitch

UPLINK = 60_000
_COUNTED = {CookieKind.PIPELINE: 40, CookieKind.RULE: 25, CookieKind.SENT: 30, CookieKind.DENY_INGRESS: 3}


class _Nothing:
    """What a made-up controller has no part for: no sources, no connections, no waiting."""

    def states(self) -> Sequence[Any]:
        return ()

    def status(self) -> Sequence[Any]:
        return ()

    def rivals(self) -> list[str]:
        return []

    def claim_problems(self) -> list[Any]:
        return []


class PageWorld(Driver):
    """Switches answer at once, in the thread of the event loop."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.events = EventQueue()
        self.metrics = Metrics("1.2.3", "native")
        self.cluster = cluster
        self.made: dict[int, BridgeState] = {}
        self.began = time.monotonic()
        core = self.core = Reconciler(["db"], self.began, bridges=["br-int"])
        self.locked = LockedReconciler(core)
        self.status = StatusCache(self.locked, self.metrics, count_policy_problems=lambda: 0)
        self.loop = EventLoop(
            self.events, core, self.locked, commands=self, event_log=EventLog(core, metered=False),  # type: ignore[arg-type]
            event_counters=EventCounters(self.metrics), status=self.status,
        )  # fmt: skip
        nothing: Any = _Nothing()
        self.dumps = FlowDumps(self.locked, self.events)
        self.audit_log = AuditLog(100)
        self.answers = Answers(
            RunConfig(manifests=Path("/nowhere"), ovsdb=("tcp:127.0.0.1:6640",)), self.began, reconciler=self.locked,
            status=self.status, store=nothing, ovsdb=nothing, openflow=nothing, tls=None, realization=nothing,
            dumps=self.dumps, audit=AuditAnswers(self.audit_log, self.locked, self.metrics, self.dumps),
        )  # fmt: skip
        self.feed = PageFeed(self.status)
        self.page = Page(
            self.answers, self.feed, reconciler=self.locked, dumps=self.dumps, packets=self.metrics.packets
        )
        for thread in (self.loop, self.status, self.feed):
            thread.start()
        self._fill()

    def _fill(self) -> None:
        by_node: dict[str, list[Any]] = {}
        for pod in self.cluster.pods.values():
            by_node.setdefault(pod.node, []).append(pod)
        events: list[Event] = [ClusterChanged(self.cluster)]
        for number, (node, pods) in enumerate(sorted(by_node.items()), 1):
            ports = tuple(
                InterfaceState(
                    f"uuid-{pod.key}", f"veth{number}-{n}", n, "",
                    {"iface-id": str(pod.key), "attached-mac": f"0a:00:00:00:{n >> 8:02x}:{n & 255:02x}"},
                )
                for n, pod in enumerate(pods, 1)
            )  # fmt: skip
            uplink = InterfaceState(f"uuid-up{number}", "up0", UPLINK, "", {"headgate-role": "uplink"})
            ports = (uplink, *ports)
            self.switches[number] = ValueSwitch(number)
            self.made[number] = BridgeState("db", f"br-int{number}", number, node, "", "", "", ports)
            events.append(BridgeChanged(self.made[number]))
        events += [OvsdbState("db", True)]
        for event in (*events, *(SwitchUp(number, 1) for number in self.switches)):
            self.events.post(event)

    def change(self, cluster: Cluster) -> None:
        """The cluster is another one from now on."""
        self.cluster = cluster
        self.events.post(ClusterChanged(cluster))

    def carry_out(self, command: Command) -> None:
        """As CommandRunner: the answers come as events."""
        if isinstance(command, WriteMarks):
            self._mark(command)
        for event in self._answer(command):
            if isinstance(command, DumpFlows) and isinstance(event, FlowsDumped):
                event = replace(event, counters=self._counters(command.dpid))
            self.events.post(event)

    def _mark(self, command: WriteMarks) -> None:
        """The OVSDB has the marks from now on."""
        for bridge in list(self.made.values()):
            ports = tuple(
                replace(one, external_ids={**one.external_ids, "headgate-installed": "true"})
                if command.interfaces.get(one.uuid)
                else one
                for one in bridge.interfaces
            )
            if ports != bridge.interfaces:
                self.made[bridge.dpid] = replace(bridge, interfaces=ports)
                self.events.post(BridgeChanged(self.made[bridge.dpid]))

    def _counters(self, dpid: int) -> dict[FlowKey, FlowCounters]:
        passed = time.monotonic() - self.began
        found = {}
        for n, (key, body) in enumerate(self.switches[dpid].flows.items()):
            kind = read_cookie(body.cookie)
            pace = _COUNTED.get(kind[0], 0) * (n % 5) if kind else 0
            found[key] = FlowCounters(int(passed * pace), int(passed * pace) * 90, int(passed))
        return found

    def stop(self) -> None:
        """End the threads."""
        self.feed.stop()
        self.status.stop()
        self.loop.stop()
        self.loop.join(5)


def serve(world: PageWorld, port: int = 0, token: str | None = None) -> HttpServer:
    """The page of a world on loopback, in threads of this process."""
    application = Application(world.answers, world.metrics.registry, True, UiPages(world.page, True, token))
    server = HttpServer(HostPort("127.0.0.1", port), application)
    server.start()
    return server


if __name__ == "__main__":
    made = PageWorld(page_cluster(int(sys.argv[2]) if len(sys.argv) > 2 else 200))
    sys.stdout.write(f"http://{serve(made, int(sys.argv[1])).address}/ui/\n")
    sys.stdout.flush()
    threading.Event().wait()
