"""Answers of a made-up controller, for tests of HTTP and the commands. It refuses what the real one refuses."""

from __future__ import annotations

import time
from dataclasses import replace

from controller.runtime.audit_log import AuditLog
from controller.status.audit_model import AuditAnswer, AuditEnd, AuditEvent, DropsAnswer, DropTotal, ForeignDrop
from controller.status.cluster_model import cluster_json
from controller.status.detail_model import (
    BadQuestion,
    BridgeRecord,
    ConditionsPart,
    InterfaceRecord,
    IsolationView,
    Live,
    PeerView,
    PodDetail,
    PolicyDetail,
    PolicySwitchView,
    RuleView,
    SubjectView,
    SupportView,
    UnknownObject,
)
from controller.status.model import (
    FlowStream,
    FlowView,
    OvsdbView,
    PodView,
    PolicyView,
    PortView,
    ProblemView,
    SourceView,
    StatusView,
    SwitchUnavailable,
    SwitchView,
    UnknownNode,
    WaitResult,
)
from controller.status.verify_model import VerifyView
from flows.bridge.network import FLAT_NETWORK
from flows.cluster.model import Cluster
from flows.explain.model import Explanation, LiveProbe, SwitchWalk
from flows.explain.question import explain
from flows.policy.probe import ProbeError

STATUS = StatusView(
    version="1.2.3",
    uptime=192.5,
    sources=(SourceView("manifests", "folder", synced=True, age=0.4, problems=1),),
    ovsdb=(OvsdbView("tcp:192.0.2.2:6640", connected=False, synced=True, reason="connection refused"),),
    switches=(
        SwitchView(
            node="node-1", bridge="br-int", dpid="00000000000000a1", ovsdb="tcp:192.0.2.1:6640", ovsdb_connected=True,
            openflow_connected=True, datapath_type="netdev", ovs_version="3.1.0", uplink="up0", desired_flows=84,
            actual_flows=84, foreign_flows=2, in_sync=True, commit_age=2.0, compare_age=31.0,
            unbound_ports=(PortView("stray0", 9, "no iface-id in external_ids"),),
        ),
        SwitchView(
            node="node-2", bridge="br-int", dpid="", ovsdb="tcp:192.0.2.2:6640", ovsdb_connected=False,
            openflow_connected=False, error="the switch refused a bundle: no space",
        ),
    ),
    policies=(
        PolicyView("tenant-a/pol1", realized=True, isolates=("ingress",), pods=2),
        PolicyView("tenant-a/odd", realized=False, reason="spec.ingress[0].ports[0].port: 99999 is no port", pods=1),
    ),
    pods=(
        PodView(
            "tenant-a/backend-1", "node-1", port="veth-backend-1", ofport=3, addresses=("10.0.0.3", "fd00::3"),
            mac="02:00:00:00:00:03", isolated=("ingress",), installed=True, programmed_after=0.031,
        ),
        PodView("tenant-a/lost", "node-2", reason="no port"),
    ),
    problems=(ProblemView("odd.yaml, document 1", "NetworkPolicy tenant-a/odd", "spec.ingress[0].ports", "99999"),),
)  # fmt: skip

CLAUSE = FlowView(
    node="node-1", bridge="br-int", table=60, table_name="ingress", priority=100, match="tcp,reg3=0x3/0xffff",
    actions="conjunction(1,2/3)", cookie=0x4847020000000000, kind="clause", packets=0, bytes=0, duration=9,
    pods=("tenant-a/backend-1",), policies=("tenant-a/pol1",), rules=("tenant-a/pol1 ingress[0]",),
)  # fmt: skip
DENY = replace(
    CLAUSE, table=90, table_name="deny", kind="deny_ingress", match="reg3=0x3/0xffff", actions="", packets=7, bytes=518,
    rules=(), note="dropped by isolation",
)  # fmt: skip


RULE = RuleView(
    "ingress", ("tenant-a/pol1 ingress[0]",),
    (PeerView("10.0.0.2", ("tenant-a/frontend-1",)), PeerView("192.0.2.0/24")), 2, ("80/TCP",), 7, 518,
)  # fmt: skip
POD = PodDetail(
    STATUS.pods[0], "br-int", "uid-1", {"segment": "backend"}, ("http:80/TCP",), in_force=True,
    isolation=(IsolationView("ingress", ("tenant-a/pol1",), 7, 518), IsolationView("egress")), rules=(RULE,),
)  # fmt: skip
POLICY = PolicyDetail(
    STATUS.policies[0], (SubjectView("tenant-a/backend-1", "node-1", "veth-backend-1"),), (RULE,),
    ("ingress[1]: it could not be understood",), (PolicySwitchView("node-1", "br-int", in_force=True, pods=2),),
)  # fmt: skip
SUPPORT = SupportView(
    {"headgate": "1.2.3"}, {"kubeconfig": "/etc/headgate/kubeconfig"},
    (
        BridgeRecord(
            "tcp:192.0.2.1:6640", "br-int", "00000000000000a1", "node-1", "sys-1", "netdev", "3.1.0",
            (InterfaceRecord("veth-backend-1", 3, "", {"iface-id": "tenant-a/backend-1"}),),
        ),
    ),
    ("12:00:00 [info] switch connected", "12:00:01 [info] changing flows"),
)  # fmt: skip


VERIFIED = VerifyView(1, ("node-1 (br-int)",), 0, 0, 3, 5, 0, complete=False)


EVENT = AuditEvent(
    0, "2026-11-29T12:00:00.250Z", "denied", "policy", "node-1", "ingress is isolated by tenant-a/pol1", "ingress",
    "TCP", AuditEnd("pod", "tenant-a/frontend-1", "10.0.0.2", 40000, "Deployment/frontend"),
    AuditEnd("pod", "tenant-a/backend-1", "10.0.0.3", 80), ("tenant-a/pol1",),
)  # fmt: skip
TOTAL = DropTotal("tenant-a/backend-1", "policy", "ingress", 7, "tenant-a/pol1")


class FakeAudit:
    """Audit of a made-up controller: a real log, to which a test appends."""

    def __init__(self) -> None:
        self.log = AuditLog(100)
        self.problems: tuple[str, ...] = ()

    def audit(self, after: int, most: int, wait: float = 0.0) -> AuditAnswer:
        return replace(self.log.after(after, most, wait), audited=3, problems=self.problems)

    def drops(self, pod: str | None, most: int, count_now: bool = True) -> DropsAnswer:
        totals = (TOTAL,) if pod in (None, TOTAL.pod) else ()
        return DropsAnswer(totals, (ForeignDrop("node-1", "ingress", "ip", "drop", 9),), self.log.after(0, most).events)


class FakeViews:
    """A controller whose state a test sets.

    `realized_at` is when a wait succeeds, in time.monotonic's seconds; a `hopeless` one is answered at once.
    """

    def __init__(self, status: StatusView = STATUS) -> None:
        self.state = status
        self.missing: tuple[str, ...] = ()
        self.realized_at = 0.0
        self.hopeless = False
        self.broken: Exception | None = None
        self.waits: list[float] = []
        self.away: tuple[str, ...] = ()
        self.snapshot = Cluster()
        self.walk: SwitchWalk | None = None
        self.audit = FakeAudit()
        self.probed = LiveProbe(True, True, True)
        self.live: list[Live] = []  # of each question

    def status(self, local: bool = False) -> StatusView:
        if self.broken is not None:
            raise self.broken
        return self.state

    def wait(self, timeout: float, local: bool = False) -> WaitResult:
        if timeout < 0:
            raise ValueError("a wait takes no negative time")
        self.waits.append(timeout)
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            if not self.missing and now >= self.realized_at:
                return WaitResult(realized=True)
            if now >= deadline or self.hopeless:
                return WaitResult(realized=False, missing=self.missing or ("switch node-1: 3 flows to send",))
            time.sleep(min(0.01, deadline - now))

    def flows(self, node: str | None) -> FlowStream:
        nodes = [switch.node for switch in self.state.switches]
        if node is not None and node not in nodes:
            raise UnknownNode(f"no switch is of node {node!r}; there are {', '.join(nodes)}")
        if node == "node-2":
            raise SwitchUnavailable("the switch of node-2 has no OpenFlow session")
        return FlowStream([CLAUSE, DENY], self.away)

    def pod(self, key: str) -> PodDetail:
        if key != POD.pod.key:
            raise UnknownObject(f"there is no pod {key}; `headgate status --pods` lists those there are")
        return POD

    def policy(self, key: str) -> PolicyDetail:
        if key != POLICY.policy.key:
            raise UnknownObject(f"there is no policy {key}; `headgate status --policies` lists those there are")
        return POLICY

    def explain(
        self,
        source: str,
        destination: str,
        port: str,
        version: int | None,
        switches: bool = True,
        live: Live = Live.NO,
    ) -> Explanation:
        self.live.append(live)
        try:
            found = explain(self.snapshot, source, destination, port, version)
        except ProbeError as error:
            raise BadQuestion(str(error)) from None
        if live is not Live.NO:
            probed = (replace(one, live=self.probed) for one in found.connections)
            return replace(found, connections=tuple(probed))
        if self.walk is None or not switches:
            return found
        return replace(found, connections=tuple(replace(one, switches=self.walk) for one in found.connections))

    def conditions(self) -> ConditionsPart:
        return ConditionsPart("", (), {})

    def cluster(self) -> bytes:
        return cluster_json(self.snapshot, (), FLAT_NETWORK)

    def verify(self, node: str | None, count: int, seed: int) -> VerifyView:
        if node is not None and node not in [switch.node for switch in self.state.switches]:
            raise BadQuestion(f"there is no switch of node {node}")
        return replace(VERIFIED, possible=seed, asked=count)

    def support(self) -> SupportView:
        return SUPPORT

    def ready(self) -> list[str]:
        return list(self.state.waiting_for)
