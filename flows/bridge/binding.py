"""Which pod is behind which port: binds the interfaces of a bridge to the pods of the cluster.

Input is a BridgeState and the Cluster, output a BindingResult. OVSDB contents are untrusted: an interface that names no
pod of this node becomes a problem, and its port passes nothing. This is the reference that `reader` is held to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from flows.bridge.conflicts import (
    has_no_conflicts,
    without_duplicates,
    without_node_addresses,
    without_shared_ofports,
    without_stale_ports,
)
from flows.bridge.external_ids import parse_port_addresses, parse_unicast_mac, pod_of_interface
from flows.bridge.routing import TUNNEL_INTERFACE, NetworkMode
from flows.bridge.state import (
    USERSPACE_DATAPATHS,
    Agreement,
    Binding,
    BindingResult,
    BridgeState,
    InterfaceState,
    PodBinding,
    PortProblem,
    PortUse,
)
from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import Net, host_address_error
from flows.cluster.tuples import new_tuple
from flows.openflow.port_numbers import MAX_OFPORT
from flows.pipeline.pod_limits import limits_of

_AGREEMENTS = {(a, u): Agreement(a, u) for a in (-1, 0, 1) for u in (False, True)}  # shared, for ports are many


class _NoPodError(Exception):
    """Why an interface is not the port of a pod."""


NO_NODE = (
    "the node of this bridge is not known, so it has no pods; its Open_vSwitch record has neither "
    "external_ids:headgate-node-name nor hostname: set the former to the node's name"
)


def read_bridge(bridge: BridgeState, cluster: Cluster) -> BindingResult:
    """Bind all interfaces of one bridge. An interface without a pod is a problem; nothing is guessed."""
    interfaces = sorted(bridge.interfaces, key=attrgetter("name"))
    ports = [read_port(interface, bridge, cluster) for interface in interfaces]
    claimed = {net for port in ports if isinstance(port, PodBinding) for net in port.addresses}
    return bind_ports(bridge, node_addresses_of(bridge, cluster, claimed.__contains__), ports)


def node_addresses_of(bridge: BridgeState, cluster: Cluster, is_pods: Callable[[Net], bool]) -> tuple[Net, ...]:
    """The addresses of the bridge's node: those of its Node object, and those in external_ids of the bridge that no
    pod of the bridge has."""
    node = cluster.nodes.get(bridge.node)
    of_object = node.addresses if node else ()
    if not bridge.node_addresses:
        return of_object
    return without_repetitions((*of_object, *(net for net in bridge.node_addresses if not is_pods(net))))


def read_port(interface: InterfaceState, bridge: BridgeState, cluster: Cluster, named: Key | None = None) -> PortUse:
    """What one interface is used for, without regard to the others. `named` is the pod that it names, where that is
    known. Never raises: an error becomes a problem."""
    try:
        return _read_port(interface, bridge, cluster, named)
    except Exception as error:  # noqa: BLE001 - a node's contents must not harm another port
        return PortProblem(interface.name, f"it cannot be read: {type(error).__name__}: {error}")


def _read_port(interface: InterfaceState, bridge: BridgeState, cluster: Cluster, named: Key | None) -> PortUse:
    name, ofport = interface.name, interface.ofport
    if name == bridge.name or (name == TUNNEL_INTERFACE and is_tunnel(interface, bridge)):
        return None
    if ofport is None or not 0 < ofport <= MAX_OFPORT:
        reason = "the switch has given it no ofport; see its Interface record's error"
        return PortProblem(name, reason)
    if interface.external_ids.get("headgate-role") == "uplink":
        if bridge.routing.routes:
            return PortProblem(name, f"no port is an uplink where the network is {bridge.routing.mode}")
        return interface
    try:
        return _bind_pod(interface, ofport, bridge, cluster, named)
    except _NoPodError as refusal:
        return PortProblem(name, str(refusal))


def _has_ofport(interface: InterfaceState) -> bool:
    return interface.ofport is not None and 0 < interface.ofport <= MAX_OFPORT


def is_tunnel(interface: InterfaceState, bridge: BridgeState) -> bool:
    """Whether an interface is the one that the bridge's tunnels go through."""
    return bridge.routing.mode is NetworkMode.OVERLAY and interface.name == TUNNEL_INTERFACE


def tunnel_of(bridge: BridgeState) -> int | None:
    """The ofport that the bridge's tunnels go through; None in other modes, and while the switch has none."""
    if bridge.routing.mode is not NetworkMode.OVERLAY:
        return None
    return next((i.ofport for i in bridge.interfaces if is_tunnel(i, bridge) and _has_ofport(i)), None)


def bind_ports(bridge: BridgeState, own: tuple[Net, ...], ports: Iterable[PortUse]) -> BindingResult:
    """Bind the ports of a bridge together: conflicts between them are decided here. `ports` are in the order of their
    names, `own` the node's addresses."""
    found: list[PodBinding] = []
    problems: list[PortProblem] = []
    uplinks: list[InterfaceState] = []
    for port in ports:
        if isinstance(port, PodBinding):
            found.append(port)
            if port.problem:
                problems.append(PortProblem(port.interface, port.problem))
        elif isinstance(port, PortProblem):
            problems.append(port)
        elif port is not None:
            uplinks.append(port)
    if not has_no_conflicts(found, uplinks, own):
        found, uplinks = without_shared_ofports(found, uplinks, problems)
        found = without_node_addresses(without_stale_ports(found, problems), own, problems)
        found = without_duplicates(found, problems)
    problems.extend(PortProblem(i.name, f"{uplinks[0].name} is the uplink already; one is used") for i in uplinks[1:])
    local = next((i for i in bridge.interfaces if i.name == bridge.name), None)
    return BindingResult(
        Binding(
            node_addresses=own,
            local_mac=parse_unicast_mac(local.mac_in_use) if local else None,
            uplink=uplinks[0].ofport if uplinks else None,
            pods=tuple(sorted(found, key=attrgetter("ofport"))),
            userspace=bridge.datapath_type in USERSPACE_DATAPATHS,
            confirmed_addresses=bridge.confirmed_if_probed,
            routing=bridge.routing,
            tunnel=tunnel_of(bridge),
        ),
        tuple(sorted(problems, key=attrgetter("interface"))),
    )


def _bind_pod(
    interface: InterfaceState, ofport: int, bridge: BridgeState, cluster: Cluster, named: Key | None
) -> PodBinding:
    ids, node = interface.external_ids, bridge.node
    if not node:
        raise _NoPodError(NO_NODE)
    key = named or pod_of_interface(ids)
    if key is None:
        raise _NoPodError("neither uplink nor pod: its external_ids name no pod")
    pod = cluster.pods.get(key)
    if pod is None:
        raise _NoPodError(f"the cluster has no pod {key}")
    if pod.host_network:
        raise _NoPodError(f"pod {key} has hostNetwork and so no port of its own")
    if pod.finished:
        raise _NoPodError(f"pod {key} has finished")
    uid = ids.get("iface-id-ver", "")
    if uid and pod.uid and uid != pod.uid:
        raise _NoPodError(f"it belongs to an earlier pod {key}: iface-id-ver is {uid}, the pod's uid {pod.uid}")
    if pod.node and pod.node != node:
        raise _NoPodError(f"pod {key} runs on node {pod.node}, this is {node}")
    text = ids.get("attached-mac", "")
    mac = parse_unicast_mac(text) if text else None
    if mac is None and text:
        raise _NoPodError(f"attached-mac {text!r} is no unicast MAC address")
    if mac is None and bridge.routing.routes:
        raise _NoPodError("it has no attached-mac, which the switch needs to route to it")
    of_port, needed = _addresses_of_port(ids, pod)
    refused = next(filter(None, map(host_address_error, needed)), "") if needed else ""
    addresses = pod.addresses or tuple([net for net in needed if not host_address_error(net)])
    if len(addresses) > 1:
        addresses = without_repetitions(addresses)
    limits = limits_of(bridge.metered, bridge.datapath_type in USERSPACE_DATAPATHS)
    problem = f"its external_ids name an address that no pod can have: {refused}" if refused else ""
    same = 0 if not of_port or not pod.addresses else 1 if set(of_port) <= set(pod.addresses) else -1
    agreement = _AGREEMENTS[same, bool(uid) and uid == pod.uid]
    return new_tuple(PodBinding, (ofport, interface.name, pod.key, mac, addresses, limits, problem, agreement))


def _addresses_of_port(external_ids: Mapping[str, str], pod: Pod) -> tuple[tuple[Net, ...], tuple[Net, ...]]:
    """The addresses in a port's external_ids, and those of them that are needed: none where the Pod's status has
    addresses. A value that cannot be parsed is a problem only where it is needed."""
    try:
        of_port = parse_port_addresses(external_ids)
    except ValueError as error:
        if pod.addresses:
            return (), ()
        raise _NoPodError(f"its ip_addresses cannot be parsed: {error}") from error
    return of_port, () if pod.addresses else of_port


def without_repetitions(addresses: tuple[Net, ...]) -> tuple[Net, ...]:
    """The addresses without repetitions; the same tuple where there are none."""
    if len(addresses) < 2:
        return addresses
    once = dict.fromkeys(addresses)
    return addresses if len(once) == len(addresses) else tuple(once)
