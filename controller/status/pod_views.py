"""One pod as `/status` shows it, with a port or without, read from the reconciler."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from controller.reconcile.reconciler import Reconciler
from controller.reconcile.switch import Switch
from controller.status.invalid_packets import invalid_reason_text
from controller.status.model import PodView
from controller.status.policy_views import direction_words
from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import BridgeState, InterfaceState, PodBinding
from flows.cluster.model import Cluster, Key
from flows.pipeline.pod_limits import METERED, meter_number

NO_BANDWIDTH = "its annotations for bandwidth (kubernetes.io/ingress-bandwidth, egress-bandwidth) have no effect here"


def pods_on(reconciler: Reconciler, name: BridgeName, pod_bindings: Iterable[PodBinding]) -> dict[Key, PodView]:
    """The pods of these ports of one bridge."""
    bridge = reconciler.world.bridges[name]
    interfaces = {interface.name: interface for interface in bridge.interfaces}
    return {
        a.pod: _pod_view(reconciler, bridge, interfaces[a.interface], a)
        for a in pod_bindings
        if a.interface in interfaces
    }


def _pod_view(
    reconciler: Reconciler, bridge: BridgeState, interface: InterfaceState, pod_binding: PodBinding
) -> PodView:
    mac = f"{pod_binding.mac:012x}" if pod_binding.mac is not None else ""
    switch = reconciler.switch_of((bridge.ovsdb, bridge.name))
    return PodView(
        key=str(pod_binding.pod),
        node=bridge.node,
        port=pod_binding.interface,
        ofport=pod_binding.ofport,
        addresses=tuple(map(str, pod_binding.addresses)),
        mac=":".join(mac[i : i + 2] for i in range(0, 12, 2)) if mac else "",
        isolated=direction_words(reconciler.world.isolation(pod_binding.pod)),
        installed=interface.external_ids.get("headgate-installed") == "true",
        programmed_after=reconciler.ports.realized_after.get((bridge.ovsdb, interface.uuid)),
        reason=_pod_reason(switch, bridge, pod_binding) or _bandwidth_reason(reconciler, pod_binding.pod),
        limited=_limited(switch, pod_binding.ofport),
        invalid=switch.invalid.total(pod_binding.ofport).invalid if switch else 0,
    )


def _pod_reason(switch: Switch | None, bridge: BridgeState, pod_binding: PodBinding) -> str:
    if not pod_binding.addresses:
        return "it has no known address yet, so all its traffic is dropped"
    invalid = switch.invalid.traffic(pod_binding.ofport) if switch else None
    return invalid_reason_text(invalid, bridge, pod_binding.interface) if invalid is not None else ""


def _bandwidth_reason(reconciler: Reconciler, key: Key) -> str:
    """In a flat network another CNI plugin attaches pods, and may limit their bandwidth."""
    world = reconciler.world
    pod = world.cluster.pods.get(key) if world.cluster is not None and world.network.routes else None
    return NO_BANDWIDTH if pod is not None and pod.limits_bandwidth else ""


def _limited(switch: Switch | None, ofport: int) -> int:
    dropped = switch.meters.dropped if switch else {}
    meters = (meter_number(limit, ofport) for limit in METERED)
    return sum(dropped[number].packets for number in meters if number in dropped)


def pods_without_port(
    cluster: Cluster, nodes: Collection[str], found: Collection[Key], keys: Iterable[Key]
) -> dict[Key, PodView]:
    """Those of the pods `keys` that have no port (are not in `found`), though their node has a bridge."""
    views = {}
    for key in keys:
        pod = cluster.pods[key]
        if key not in found and pod.networked and pod.node in nodes:
            addresses = tuple(map(str, pod.addresses))
            views[key] = PodView(
                str(key), pod.node, addresses=addresses, reason="no port on its node has this pod's name"
            )
    return views
