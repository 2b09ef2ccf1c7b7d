"""Measures Services: 10,000 of 10 endpoints from API objects to flows and groups on one switch, and a change of one
endpoint among them, until the switch's commit reply.

Headgate's OpenFlow application runs here as in `headgate run`, with the world and the reconciler's switch.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.openvswitch import PrivateSwitch
from bench.result import Result, memory, quantile
from bench.switch_cost import ConnectedSwitch
from bench.worlds import ipv4, node_manifest
from controller.base.garbage_collector import GC_THRESHOLDS

if TYPE_CHECKING:
    from controller.reconcile.commands import Command
    from controller.reconcile.switch import Switch
    from flows.plan.world import World

_ENDPOINTS = 10
_CHANGES = 100
_MOST_COMMANDS = 4  # a dump before the first bundle, and another before the first groups
_NAMESPACE = "shop"


def _service(number: int) -> dict[str, Any]:
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]
    address = f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{number}", "namespace": _NAMESPACE},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": ports},
    }  # fmt: skip


def _slice(number: int, other: int = 0) -> dict[str, Any]:
    """The EndpointSlice of a Service; one endpoint has the address number `other`, where one is given."""
    numbers = [_ENDPOINTS * number + place for place in range(_ENDPOINTS)]
    if other:
        numbers[number % _ENDPOINTS] = other
    endpoints = [{"addresses": [ipv4(n)], "conditions": {"ready": True}, "nodeName": "node-0"} for n in numbers]
    labels = {"kubernetes.io/service-name": f"s{number}"}
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
        "metadata": {"name": f"s{number}-1", "namespace": _NAMESPACE, "labels": labels},
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }  # fmt: skip


class ServedSwitch:
    """A switch that routes, connected, with the world that it belongs to."""

    def __init__(self, connected: ConnectedSwitch) -> None:
        from flows.bridge.network import NetworkOptions
        from flows.bridge.routing import NetworkMode
        from flows.bridge.state import BridgeState
        from flows.cluster.net import parse_network
        from flows.plan.world import World

        self._connected = connected
        options = NetworkOptions(NetworkMode.ROUTED, service_cidrs=(parse_network("10.96.0.0/12"),))
        self.world: World = World(options)
        self.world.set_bridge(BridgeState("db", "br0", 1, "node-0", datapath_type="dummy"))
        self._objects: dict[str, dict[Any, Any]] = {"services": {}, "endpoint_slices": {}, "nodes": {}}
        self._state: Switch | None = None
        self._revision = 0

    def put(self, objects: list[dict[str, Any]]) -> float:
        """Give the world these API objects, and the switch what follows; returns the seconds until its commit reply."""
        from controller.base.hub import offload

        before = time.perf_counter()
        flows = offload(self._plan, objects)  # echo requests are answered meanwhile
        state = self._take(flows)
        for _ in range(_MOST_COMMANDS):
            for command in state.next_commands(before, True):
                self._carry_out(command, state, before)
            if state.realized:
                return time.perf_counter() - before
        raise RuntimeError("the switch has not got what was changed")

    def _plan(self, objects: list[dict[str, Any]]) -> Mapping[bytes, Any]:
        """Give the world these objects; returns the flows that differ, with the bodies before."""
        from types import MappingProxyType

        from flows.cluster.model import Cluster
        from flows.parse.objects import PARSERS_WITH_SERVICES, parse_object

        changed = []
        while objects:
            read = parse_object(objects.pop(), PARSERS_WITH_SERVICES)
            if read is None or read.errors:
                raise RuntimeError(f"an object is not understood: {read}")
            section = {"Service": "services", "EndpointSlice": "endpoint_slices", "Node": "nodes"}[read.kind]
            self._objects[section][read.name] = read.value
            changed.append((read.kind, read.name))
        cluster = Cluster(**{name: MappingProxyType(dict(values)) for name, values in self._objects.items()})
        self.world.set_cluster(cluster, changed)
        return self.world.update_plans().get(("db", "br0"), {})

    def _take(self, changed: Mapping[bytes, Any]) -> Switch:
        """The reconciler's switch, with the plan's flows and groups as the desired ones."""
        from controller.reconcile.switch import Switch

        self._revision += 1
        plan = self.world.plan_of(("db", "br0"))
        if plan is None:
            raise RuntimeError("the bridge has no plan")
        if self._state is None:
            self._state = Switch(1)
            self._state.on_switch_up(self._connected.connect())
        self._state.set_groups(plan.groups.desired, plan.groups.take())
        self._state.set_desired(plan.flows, changed, self._revision)
        return self._state

    def _carry_out(self, command: Command, state: Switch, now: float) -> None:
        from controller.reconcile.commands import DumpFlows, SendBundle
        from controller.reconcile.events import BundleDone, FlowsDumped

        app, wait_for = self._connected.app, self._connected.wait_for
        if isinstance(command, DumpFlows):
            app.dump(command)
            state.on_flows_dumped(wait_for(FlowsDumped), now)
        elif isinstance(command, SendBundle):
            app.send_bundle(1, command.session, command.number, command.changes, command.meters, command.groups)
            state.on_bundle_done(wait_for(BundleDone), now)


def measure_services(scale: float) -> list[Result]:
    """All Services at once, then one endpoint after the other."""
    count = max(10, round(10_000 * scale))
    with PrivateSwitch() as switch:
        connected = ConnectedSwitch(switch)
        served = ServedSwitch(connected)
        served.put([node_manifest(0)])
        objects = [make(n) for n in range(count) for make in (_service, _slice)]
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)  # as in `headgate run`
        empty = memory()
        planning = time.process_time()
        seconds = served.put(objects)
        planning = time.process_time() - planning
        gc.collect()
        megabytes = memory() - empty
        gc.freeze()
        changes = sorted(served.put([_slice(7 * n % count, 500_000 + n)]) for n in range(_CHANGES))
        dump = switch.ofctl("dump-groups", switch.target())
        if dump.count("group_id=") != count:
            raise RuntimeError("the switch has another number of groups than Services")
        connected.app.close()
    plan = served.world.plan_of(("db", "br0"))
    return [
        Result(f"{count:,} Services of {_ENDPOINTS} endpoints: objects → committed", seconds, "s", 6.0, 2.0,
               more={"flows": len(plan.flows) if plan else 0, "groups": count, "s CPU of the controller": planning}),
        Result(f"memory of the controller for {count:,} Services", megabytes, "MB", 400, 200),
        Result(f"one endpoint changes among {count:,} Services → committed, p50", quantile(changes, 0.5) * 1e3, "ms",
               60, 25, more={"p99, ms": quantile(changes, 0.99) * 1e3}),
    ]  # fmt: skip
