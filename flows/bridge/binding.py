"""Which pod is behind which port: the reading of a bridge's Interface records against the cluster.

Input is what OVSDB says, as plain values; output is what the renderer needs of a switch. OVSDB contents are untrusted:
whatever does not fit is named as a problem and gets no pod_binding, so that its port passes nothing.
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
from flows.cluster.model import Cluster, Pod
from flows.cluster.net import Net, host_address_error
from flows.openflow.port_numbers import MAX_OFPORT
from flows.pipeline.pod_limits import limits_of

_AGREEMENTS = {(a, u): Agreement(a, u) for a in (-1, 0, 1) for u in (False, True)}  # shared, for ports are many


class _Refused(Exception):
    """Why an interface is no pod's port."""


NO_NODE = (
    "nobody says which node this bridge is on, so it has no pods; set external_ids:hostname of its Open_vSwitch record "
    "to the node's name"
)


def read_bridge(bridge: BridgeState, cluster: Cluster) -> BindingResult:
    """Match the interfaces of one bridge with the pods of the cluster. What does not fit is refused by name, never
    guessed."""
    interfaces = sorted(bridge.interfaces, key=attrgetter("name"))
    ports = [read_port(interface, bridge, cluster) for interface in interfaces]
    claimed = {net for port in ports if isinstance(port, PodBinding) for net in port.addresses}
    return bind_ports(bridge, node_addresses_of(bridge, cluster, claimed.__contains__), ports)


def node_addresses_of(bridge: BridgeState, cluster: Cluster, is_pods: Callable[[Net], bool]) -> tuple[Net, ...]:
    """The addresses of the node that a bridge is on: those of its Node, and those that stand at the bridge and are no
    pod's there."""
    node = cluster.nodes.get(bridge.node)
    known = node.addresses if node else ()
    if not bridge.node_addresses:
        return known
    return without_repetitions((*known, *(net for net in bridge.node_addresses if not is_pods(net))))


def read_port(interface: InterfaceState, bridge: BridgeState, cluster: Cluster) -> PortUse:
    """What one interface comes to, whatever the others are. Never raises: what cannot be read is a problem."""
    try:
        return _read_port(interface, bridge, cluster)
    except Exception as error:  # noqa: BLE001 - contents are a node's, and must not harm another port
        return PortProblem(interface.name, f"it cannot be read: {type(error).__name__}: {error}")


def _read_port(interface: InterfaceState, bridge: BridgeState, cluster: Cluster) -> PortUse:
    if interface.name == bridge.name:
        return None
    if interface.ofport is None or not 0 < interface.ofport <= MAX_OFPORT:
        reason = "the switch has given it no port number; see its Interface record's error"
        return PortProblem(interface.name, reason)
    if interface.external_ids.get("headgate-role") == "uplink":
        return interface
    try:
        return _attach(interface, interface.ofport, bridge, cluster)
    except _Refused as refusal:
        return PortProblem(interface.name, str(refusal))


def bind_ports(bridge: BridgeState, own: tuple[Net, ...], ports: Iterable[PortUse]) -> BindingResult:
    """What the ports of a bridge come to together, in the order of their names. `own` are the node's addresses."""
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
        ),
        tuple(sorted(problems, key=attrgetter("interface"))),
    )


def _attach(interface: InterfaceState, ofport: int, bridge: BridgeState, cluster: Cluster) -> PodBinding:
    ids, node = interface.external_ids, bridge.node
    if not node:
        raise _Refused(NO_NODE)
    key = pod_of_interface(ids)
    if key is None:
        raise _Refused("neither uplink nor pod: its external_ids name no pod")
    pod = cluster.pods.get(key)
    if pod is None:
        raise _Refused(f"no pod {key} is known")
    if pod.host_network:
        raise _Refused(f"pod {key} has hostNetwork and so no port of its own")
    if pod.finished:
        raise _Refused(f"pod {key} has finished")
    uid = ids.get("iface-id-ver", "")
    if uid and pod.uid and uid != pod.uid:
        raise _Refused(f"it belongs to an earlier pod {key}: iface-id-ver is {uid}, the pod's uid {pod.uid}")
    if pod.node and pod.node != node:
        raise _Refused(f"pod {key} runs on node {pod.node}, this is {node}")
    mac = parse_unicast_mac(ids.get("attached-mac", ""))
    if mac is None and ids.get("attached-mac"):
        raise _Refused(f"attached-mac {ids['attached-mac']!r} is no unicast MAC address")
    said, told = _told(ids, pod)
    refused = next(filter(None, map(host_address_error, told)), "")
    addresses = without_repetitions(pod.addresses or tuple(net for net in told if not host_address_error(net)))
    limits = limits_of(bridge.metered, bridge.datapath_type in USERSPACE_DATAPATHS)
    problem = f"its external_ids name an address that does not count: {refused}" if refused else ""
    same = 0 if not said or not pod.addresses else 1 if set(said) <= set(pod.addresses) else -1
    agreement = _AGREEMENTS[same, bool(uid) and uid == pod.uid]
    return PodBinding(ofport, interface.name, pod.key, mac, addresses, limits, problem, agreement)


def _told(external_ids: Mapping[str, str], pod: Pod) -> tuple[tuple[Net, ...], tuple[Net, ...]]:
    """The addresses that a port says, and those of them that count: none where the Pod's status has any. What is not
    understood matters only where it would count."""
    try:
        said = parse_port_addresses(external_ids)
    except ValueError as error:
        if pod.addresses:
            return (), ()
        raise _Refused(f"its ip_addresses are not understood: {error}") from error
    return said, () if pod.addresses else said


def without_repetitions(addresses: tuple[Net, ...]) -> tuple[Net, ...]:
    """The addresses without repetitions; the same tuple where there are none."""
    once = dict.fromkeys(addresses)
    return addresses if len(once) == len(addresses) else tuple(once)
