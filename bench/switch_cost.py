"""Measures flows to a real switch: a bulk commit, a reconnect, and rules too large for a message; against ovs-ofctl.

Headgate's OpenFlow application runs here as in `headgate run`, with the reconciler's switch, under the hub that
OSKEN_HUB_TYPE names.
"""

from __future__ import annotations

import os
import queue
import time
from typing import TYPE_CHECKING

from bench.openvswitch import PrivateSwitch
from bench.result import Result
from bench.worlds import ipv4, label_selector, namespace_manifest, node_manifest, pod_manifest, policy_manifest

if TYPE_CHECKING:
    from controller.openflow.app import HeadgateApp
    from controller.reconcile.events import Event, FlowsDumped
    from flows.wire.values import Body, WireFlow

SWITCH_PATIENCE_SECONDS = 120.0


class ConnectedSwitch:
    """One switch, connected to Headgate's OpenFlow application."""

    def __init__(self, switch: PrivateSwitch) -> None:
        from controller.base.hub import install

        install(os.environ.get("OSKEN_HUB_TYPE", "eventlet"))
        from controller.config.addresses import HostPort
        from controller.openflow.app import open_app

        self.switch = switch
        self.events: queue.Queue[Event] = queue.Queue()
        self.app: HeadgateApp = open_app(self.events.put, [HostPort("127.0.0.1", 0)] * 2)
        self.bundles = self.connects = 0

    def connect(self) -> int:
        """Make the switch connect again; returns its session."""
        from controller.reconcile.events import SwitchUp

        # To the other address: a switch without a controller would delete its flows.
        self.connects += 1
        address = self.app.addresses[self.connects % 2]
        self.switch.vsctl("set-controller", "br0", f"tcp:{address.host}:{address.port}")
        session: int = self.wait_for(SwitchUp).session
        return session

    def wait_for(self, kind: type[Event]):  # type: ignore[no-untyped-def]  # an event of that kind
        """Wait for the next event of a kind. Raises queue.Empty, or RuntimeError if the switch rejected a bundle."""
        from controller.reconcile.events import BundleFailed

        deadline = time.monotonic() + SWITCH_PATIENCE_SECONDS
        while True:
            event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(event, BundleFailed):
                raise RuntimeError(event.reason)
            if isinstance(event, kind):
                return event

    def commit(self, session: int, flows: list[WireFlow], delete: bool = False) -> float:
        """Send a bundle; returns the seconds until its commit reply."""
        from controller.reconcile.events import BundleDone
        from flows.wire.values import FlowChanges

        self.bundles += 1
        changes = FlowChanges((), (), tuple(flows)) if delete else FlowChanges(tuple(flows), (), ())
        before = time.perf_counter()
        self.app.send_bundle(1, session, self.bundles, changes)
        self.wait_for(BundleDone)
        return time.perf_counter() - before

    def dump(self, session: int) -> FlowsDumped:
        """Read all of Headgate's flows on the switch."""
        from controller.reconcile.commands import DumpFlows
        from controller.reconcile.events import FlowsDumped

        self.app.dump(DumpFlows(1, session, 1, {}))
        found: FlowsDumped = self.wait_for(FlowsDumped)
        return found


def many_flows(count: int) -> list[WireFlow]:
    """Flows as rules have them: one address of a peer each, with one conjunction."""
    from flows.cluster.net import Net
    from flows.openflow.actions import Conjunction
    from flows.openflow.flow import Flow
    from flows.openflow.match import match
    from flows.pipeline.cookies import CookieKind, cookie
    from flows.pipeline.priorities import RULES
    from flows.pipeline.tables import INGRESS
    from flows.render.rules import peer_terms
    from flows.wire.codec import encode_flow

    owner = cookie(CookieKind.CLAUSE)
    nets = (Net(4, 0x0A000000 + n, 32) for n in range(count))
    return [
        encode_flow(
            Flow(
                INGRESS.number,
                RULES,
                match(*peer_terms("initiator", net)),
                (Conjunction(7 + n % 100, 2, 3),),
                None,
                owner,
            )
        )
        for n, net in enumerate(nets)
    ]


def measure_bulk(scale: float) -> list[Result]:
    """New flows until the commit reply, and a reconnect that finds all flows as desired; against ovs-ofctl."""
    from controller.reconcile.reconciler import Reconciler  # noqa: F401 - loaded before the clock runs
    from flows.wire.codec import decode_flow
    from flows.wire.text import format_flow

    flows = many_flows(round(100_000 * scale))
    desired = {flow.key: flow.body for flow in flows}
    with PrivateSwitch() as switch:
        lines = switch.folder / "flows"
        lines.write_text("".join(f"{format_flow(decode_flow(flow))}\n" for flow in flows))
        connected = ConnectedSwitch(switch)
        commits, references, resyncs, dumps = [], [], [], []
        for _ in range(3):
            switch.ofctl("del-flows", switch.target())
            before = time.perf_counter()
            switch.ofctl("--bundle", "add-flows", switch.target(), str(lines))
            references.append(time.perf_counter() - before)
            switch.ofctl("del-flows", switch.target())
            session = connected.connect()
            commits.append(connected.commit(session, flows))
            resyncs.append(_resync(connected, desired))
            before = time.perf_counter()
            switch.ofctl("dump-flows", switch.target())
            dumps.append(time.perf_counter() - before)
        connected.app.close()
    middle = len(commits) // 2
    commits, references, resyncs, dumps = (sorted(some) for some in (commits, references, resyncs, dumps))
    ratio = commits[middle] / references[middle]
    resync = resyncs[middle] / dumps[middle]
    return [
        Result(f"{len(flows)} new flows → commit reply", ratio, "x reference", 1.5, 1.0,
               more={"seconds": commits[middle], "ovs-ofctl --bundle add-flows, seconds": references[middle]}),
        Result(f"reconnect to {len(flows)} right flows", resync, "x reference", 2.0, 1.0,
               more={"seconds": resyncs[middle], "ovs-ofctl dump-flows, seconds": dumps[middle], "flows sent": 0}),
    ]  # fmt: skip


def _resync(connected: ConnectedSwitch, desired: dict[bytes, Body]) -> float:
    """Seconds from a new session until nothing is left to send. Raises RuntimeError if flows are sent."""
    from controller.reconcile.commands import DumpFlows
    from controller.reconcile.events import FlowsDumped
    from controller.reconcile.switch import Switch

    session = connected.connect()
    state = Switch(1)
    before = time.perf_counter()
    state.on_switch_up(session)
    state.set_desired(desired, {}, 1)
    (command,) = state.next_commands(before, True)
    if not isinstance(command, DumpFlows):
        raise RuntimeError("a switch that has connected is not dumped")
    connected.app.dump(command)
    state.on_flows_dumped(connected.wait_for(FlowsDumped), before)
    commands = state.next_commands(before, True)
    seconds = time.perf_counter() - before
    if commands or not state.realized:
        raise RuntimeError("flows were sent to a switch that has all of them")
    return seconds


def crowded(name: str, count: int) -> list[dict[str, object]]:
    """API objects of a world whose rules would not fit into one flow message each."""
    server = pod_manifest("one", "server", 1, 1, {"app": "server"}, ports=[])
    base = [namespace_manifest("one"), node_manifest(0), server]
    everybody = label_selector(app="server")
    blocks = [{"ipBlock": {"cidr": f"{ipv4(70_000 + 2 * n)}/32"}} for n in range(count)]
    if name == "one pod under many policies":
        rules = [{"from": [block], "ports": [{"port": 1 + n % 60_000}]} for n, block in enumerate(blocks)]
        return [*base, *(policy_manifest("one", f"p{n}", everybody, ingress=[rule]) for n, rule in enumerate(rules))]
    if name == "one policy with many peers":
        return [*base, policy_manifest("one", "p", everybody, ingress=[{"from": blocks}])]
    if name == "one rule with many ports":
        ports = [{"port": 2 * n + 1} for n in range(count)]
        return [*base, policy_manifest("one", "p", everybody, ingress=[{"from": blocks[:3], "ports": ports}])]
    raise ValueError(name)


CROWDED = {
    "one pod under many policies": 10_000,
    "one policy with many peers": 10_000,
    "one rule with many ports": 1_000,
}


def measure_crowded(scale: float) -> list[Result]:
    """Worlds with rules too large for a flow message, on a real switch: seconds from snapshot to commit reply."""
    from bench.compile_cost import parsed
    from bench.plan_cost import bridges, planned
    from controller.base.hub import offload
    from flows.wire.values import wire_flow

    found = []
    with PrivateSwitch() as switch:
        connected = ConnectedSwitch(switch)
        for name, count in CROWDED.items():
            size = max(1, round(count * scale))
            cluster = parsed(crowded(name, size))
            states = bridges(cluster)
            switch.ofctl("del-flows", switch.target())
            session = connected.connect()
            before = time.perf_counter()
            made = offload(planned, cluster, states)  # echo requests are answered meanwhile
            plan = made.plan_of((states[0].ovsdb, states[0].name))
            if plan is None or plan.error:
                raise RuntimeError(f"{name}: {plan.error if plan else 'no plan'}")
            flows = [wire_flow(key, body) for key, body in plan.flows.items()]
            connected.commit(session, flows)
            seconds = time.perf_counter() - before
            if connected.dump(session).flows != plan.flows:
                raise RuntimeError(f"{name}: the flows on the switch are not the desired ones")
            longest = max(len(flow.match) + len(flow.instructions) for flow in flows)
            found.append(Result(f"{name} ({size})", seconds, "s",
                                more={"flows": len(plan.flows), "longest flow, bytes": longest}))  # fmt: skip
        connected.app.close()
    return found
