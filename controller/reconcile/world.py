"""The cluster and the bridges put together: which pods stand where, with which addresses, and what policy says of them.

A pod's addresses come from its status, else from its port on whatever switch has it; only then can policies be
compiled. Pure: values
in, values out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from controller.reconcile.events import FlowKey, WireFlow
from flows.attach import BridgeState, Reading, SwitchView, read_bridge
from flows.compile import NodePolicy, PolicyCompiler
from flows.flow import Flow, FlowError
from flows.model import Cluster, Key
from flows.net import Net
from flows.pipeline import PipelineError
from flows.render import render

BridgeName = tuple[str, str]  # the OVSDB's name and the bridge's


@dataclass(slots=True)
class Plan:
    """What one bridge shall have, and what it was made from; equal inputs give the same plan object."""

    view: SwitchView
    policy: NodePolicy
    flows: dict[FlowKey, WireFlow]
    error: str = ""


@dataclass(slots=True)
class World:
    """The newest cluster and bridges, with what follows from them computed on demand.

    `by_dpid` names the bridges that claim a datapath id; more than one is a mistake, and only the first by name is
    served.
    """

    encode: Callable[[Flow], WireFlow]
    cluster: Cluster | None = None
    bridges: dict[BridgeName, BridgeState] = field(default_factory=dict)
    by_dpid: dict[int, tuple[BridgeName, ...]] = field(default_factory=dict)
    _compiler: PolicyCompiler | None = None
    _addresses: dict[Key, tuple[Net, ...]] = field(default_factory=dict)
    _plans: dict[BridgeName, Plan] = field(default_factory=dict)
    _readings: dict[BridgeName, Reading] = field(default_factory=dict)

    def set_cluster(self, cluster: Cluster) -> None:
        """A new snapshot: everything that depends on pods, nodes or policies is to be computed again."""
        self.cluster = cluster
        self._compiler = None
        self._readings.clear()

    def set_bridge(self, bridge: BridgeState) -> set[BridgeName]:
        """A bridge is new or has changed. Returns the bridges whose flows that concerns: itself, or all when the
        addresses of
        pods changed with it."""
        name = (bridge.ovsdb, bridge.name)
        self.bridges[name] = bridge
        return self._changed(name)

    def remove_bridge(self, name: BridgeName) -> set[BridgeName]:
        """A bridge is gone, and the addresses that only its ports knew with it. Returns the bridges that this
        concerns."""
        self.bridges.pop(name, None)
        self._plans.pop(name, None)
        return self._changed(name)

    def _changed(self, name: BridgeName) -> set[BridgeName]:
        self._readings.pop(name, None)
        by_dpid: dict[int, tuple[BridgeName, ...]] = {}
        for one in sorted(self.bridges):
            dpid = self.bridges[one].dpid
            if dpid:
                by_dpid[dpid] = (*by_dpid.get(dpid, ()), one)
        same_owners = by_dpid == self.by_dpid
        self.by_dpid = by_dpid
        return {name} if same_owners and self._port_addresses() == self._addresses else set(self.bridges)

    def reading(self, name: BridgeName) -> Reading:
        """Which pod is behind which port of a bridge."""
        found = self._readings.get(name)
        if found is None:
            found = read_bridge(self.bridges[name], self.cluster or Cluster())
            self._readings[name] = found
        return found

    def compiler(self) -> PolicyCompiler:
        """The policies of the cluster, compiled once for as long as neither it nor a port's address changes."""
        addresses = self._port_addresses()
        if self._compiler is None or addresses != self._addresses:
            self._addresses = addresses
            self._compiler = PolicyCompiler(with_addresses(self.cluster or Cluster(), addresses))
        return self._compiler

    def unplaced(self) -> list[Key]:
        """Running pods without any address, neither in their status nor on a port."""
        known = self._port_addresses()
        pods = self.cluster.pods.values() if self.cluster else ()
        return [pod.key for pod in pods if pod.networked and not pod.addresses and pod.key not in known]

    def _port_addresses(self) -> dict[Key, tuple[Net, ...]]:
        cluster = self.cluster or Cluster()
        found: dict[Key, tuple[Net, ...]] = {}
        for name in sorted(self.bridges):
            for attachment in self.reading(name).view.attachments:
                if attachment.addresses and not cluster.pods[attachment.pod].addresses:
                    found[attachment.pod] = attachment.addresses
        return found

    def plan(self, name: BridgeName) -> Plan:
        """The flows that a bridge shall have now."""
        view = self.reading(name).view
        policy = self.compiler().for_pods([attachment.pod for attachment in view.attachments])
        old = self._plans.get(name)
        if old is not None and old.view == view and old.policy == policy:
            return old
        plan = self._render(view, policy)
        self._plans[name] = plan
        return plan

    def planned(self, name: BridgeName) -> Plan | None:
        """The newest plan of a bridge, without making one."""
        return self._plans.get(name)

    def _render(self, view: SwitchView, policy: NodePolicy) -> Plan:
        """Rules that cannot be rendered leave their pods isolated; everything else of the switch goes on."""
        error = ""
        try:
            flows = render(view, policy)
        except (FlowError, PipelineError) as problem:
            error = f"policy rules cannot be rendered, isolated pods are cut off: {problem}"
            flows = render(view, NodePolicy(policy.isolated, ()))
        return Plan(view, policy, _by_key(map(self.encode, flows)), error)


def _by_key(flows: Iterable[WireFlow]) -> dict[FlowKey, WireFlow]:
    return {(flow.table, flow.priority, flow.match): flow for flow in flows}


def with_addresses(cluster: Cluster, addresses: dict[Key, tuple[Net, ...]]) -> Cluster:
    """The cluster with addresses filled in for pods whose status has none."""
    if not addresses:
        return cluster
    pods = dict(cluster.pods)
    for key, found in addresses.items():
        pods[key] = replace(pods[key], addresses=found)
    return replace(cluster, pods=MappingProxyType(pods))
