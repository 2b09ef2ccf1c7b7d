"""Which pod is behind which port: the reading of a bridge's Interface records against the cluster.

Input is what OVSDB says, as plain values; output is what the renderer needs of a switch. OVSDB contents are untrusted:
whatever does not fit is named as a problem and gets no attachment, so that its port passes nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import Net, not_of_a_host, parse_address
from flows.pipeline.pod_limits import Limit, limits_of
from flows.pipeline.registers import MAX_OFPORT

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """One OVSDB Interface of the bridge. `ofport` is None until the switch has given one (or failed to, -1)."""

    uuid: str
    name: str
    ofport: int | None = None
    mac_in_use: str = ""
    external_ids: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class BridgeState:
    """One bridge that Headgate owns, as OVSDB has it. The interface that has the bridge's own name is its LOCAL port.

    `ovsdb` names the OVSDB connection (unique within the process), `dpid` is the datapath id, 0 while unknown;
    `datapath_type` is OVSDB's ("" and
    "system" are the kernel's, "netdev" and "dummy" userspace). `metered` and `meant` do not come from OVSDB: the limits
    for which the switch has meters, and the Node whose name the host name means, where it is not the same.
    `said_addresses` is what stands there of more addresses of the node, `node_addresses` are those of them that count;
    `said_own` are those that the node itself answered for when it was asked, `answered` are those of them that count.
    """

    ovsdb: str
    name: str
    dpid: int = 0
    hostname: str = ""
    system_id: str = ""
    datapath_type: str = ""
    ovs_version: str = ""
    interfaces: tuple[InterfaceState, ...] = ()
    metered: tuple[Limit, ...] = ()
    meant: str = ""
    said_addresses: str = ""
    node_addresses: tuple[Net, ...] = ()
    said_own: tuple[Net, ...] = ()
    answered: tuple[Net, ...] = ()

    @property
    def answers(self) -> tuple[Net, ...] | None:
        """The addresses that the node answered for and that count; None where it cannot be asked."""
        return self.answered if Limit.QUESTIONS in self.metered else None

    @property
    def node(self) -> str:
        """The node's name: the Node that the host name means, else what it claims."""
        return self.meant or self.claimed

    @property
    def claimed(self) -> str:
        """What it says of its node: Open_vSwitch.external_ids:hostname, else system-id."""
        return self.hostname or self.system_id


class Agreement(NamedTuple):
    """In what a port's own words are the Pod's: its addresses are the status's (1), others (-1), or not said or not
    known (0); and it names the pod's uid."""

    addresses: int = 0
    uid: bool = False


NO_AGREEMENT = Agreement()
_AGREEMENTS = {(a, u): Agreement(a, u) for a in (-1, 0, 1) for u in (False, True)}  # shared, for ports are many


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod on a port. `mac` is None where nothing says it; `addresses` may be empty, then nothing passes yet. `limits`
    are those that hold for it, `problem` says which of its addresses count for nothing, and why. `agrees` says in what
    the port says of itself what the Pod says, which decides between several ports of one pod."""

    ofport: int
    interface: str
    pod: Key
    mac: int | None
    addresses: tuple[Net, ...]
    limits: tuple[Limit, ...] = ()
    problem: str = ""
    agrees: Agreement = NO_AGREEMENT


@dataclass(frozen=True, slots=True)
class SwitchView:
    """What rendering needs to know of one switch. `answered` are addresses that the node answered for; None where it is
    not asked."""

    node_addresses: tuple[Net, ...] = ()
    local_mac: int | None = None
    uplink: int | None = None
    attachments: tuple[Attachment, ...] = ()
    userspace: bool = False
    answered: tuple[Net, ...] | None = None


@dataclass(frozen=True, slots=True)
class PortProblem:
    """A port that passes nothing, or not everything, and why."""

    interface: str
    reason: str


class Reading(NamedTuple):
    """What a bridge's interfaces come to: the switch to render, and the ports that do not fit."""

    view: SwitchView
    problems: tuple[PortProblem, ...]


# What stands on one port: a pod, nothing usable, an uplink, or the bridge itself (None).
PortReading = Attachment | PortProblem | InterfaceState | None


class _Refused(Exception):
    """Why an interface is no pod's port."""


_MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}")
USERSPACE_DATAPATHS = frozenset({"netdev", "dummy"})
NODE_ADDRESSES = "headgate-node-addresses"  # external_ids of a Bridge: more addresses of its node
MOST_ADDRESSES = 64  # of them that count
MOST_NAMED = 5  # of the ports that claim the same; each of them is told of the others
NO_NODE = (
    "nobody says which node this bridge is on, so it has no pods; set external_ids:hostname of its Open_vSwitch record "
    "to the node's name"
)


def read_bridge(bridge: BridgeState, cluster: Cluster) -> Reading:
    """Match the interfaces of one bridge with the pods of the cluster. What does not fit is refused by name, never
    guessed."""
    interfaces = sorted(bridge.interfaces, key=attrgetter("name"))
    ports = [read_port(interface, bridge, cluster) for interface in interfaces]
    claimed = {net for port in ports if isinstance(port, Attachment) for net in port.addresses}
    return judge(bridge, own_addresses(bridge, cluster, claimed.__contains__), ports)


def own_addresses(bridge: BridgeState, cluster: Cluster, is_pods: Callable[[Net], bool]) -> tuple[Net, ...]:
    """The addresses of the node that a bridge is on: those of its Node, and those that stand at the bridge and are no
    pod's there."""
    node = cluster.nodes.get(bridge.node)
    known = node.addresses if node else ()
    if not bridge.node_addresses:
        return known
    return _each_once((*known, *(net for net in bridge.node_addresses if not is_pods(net))))


@lru_cache(1 << 10)
def said_addresses(text: str) -> tuple[tuple[Net, ...], str]:
    """The addresses in `headgate-node-addresses`, and what of it does not count and why; "" where all does."""
    words = text.replace(",", " ").split()
    found, problem = dict[Net, None](), ""
    for word in words[:MOST_ADDRESSES]:
        try:
            net = parse_address(word.partition("/")[0])
        except ValueError as error:
            problem = problem or str(error)
            continue
        refused = not_of_a_host(net)
        problem = problem or refused
        if not refused:
            found[net] = None
    if len(words) > MOST_ADDRESSES:
        problem = problem or f"{len(words)} addresses, of which the first {MOST_ADDRESSES} count"
    return tuple(found), f"external_ids:{NODE_ADDRESSES} of the bridge: {problem}" if problem else ""


def read_port(interface: InterfaceState, bridge: BridgeState, cluster: Cluster) -> PortReading:
    """What one interface comes to, whatever the others are. Never raises: what cannot be read is a problem."""
    try:
        return _read_port(interface, bridge, cluster)
    except Exception as error:  # noqa: BLE001 - contents are a node's, and must not harm another port
        return PortProblem(interface.name, f"it cannot be read: {type(error).__name__}: {error}")


def _read_port(interface: InterfaceState, bridge: BridgeState, cluster: Cluster) -> PortReading:
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


def judge(bridge: BridgeState, own: tuple[Net, ...], ports: Iterable[PortReading]) -> Reading:
    """What the ports of a bridge come to together, in the order of their names. `own` are the node's addresses."""
    found: list[Attachment] = []
    problems: list[PortProblem] = []
    uplinks: list[InterfaceState] = []
    for port in ports:
        if isinstance(port, Attachment):
            found.append(port)
            if port.problem:
                problems.append(PortProblem(port.interface, port.problem))
        elif isinstance(port, PortProblem):
            problems.append(port)
        elif port is not None:
            uplinks.append(port)
    if not _all_apart(found, uplinks, own):
        found, uplinks = _without_twins(found, uplinks, problems)
        found = _without_node(_without_earlier(found, problems), own, problems)
        found = _without_rivals(found, problems)
    problems.extend(PortProblem(i.name, f"{uplinks[0].name} is the uplink already; one is used") for i in uplinks[1:])
    local = next((i for i in bridge.interfaces if i.name == bridge.name), None)
    return Reading(
        SwitchView(
            node_addresses=own,
            local_mac=read_mac(local.mac_in_use) if local else None,
            uplink=uplinks[0].ofport if uplinks else None,
            attachments=tuple(sorted(found, key=attrgetter("ofport"))),
            userspace=bridge.datapath_type in USERSPACE_DATAPATHS,
            answered=bridge.answers,
        ),
        tuple(sorted(problems, key=attrgetter("interface"))),
    )


def pod_named(external_ids: Mapping[str, str]) -> Key | None:
    """The pod an interface says it belongs to: `pod-namespace` and `pod-name`, or `iface-id` as namespace/pod or
    namespace_pod."""
    namespace, name = external_ids.get("pod-namespace", ""), external_ids.get("pod-name", "")
    if namespace and name:
        return Key(namespace, name)
    identity = external_ids.get("iface-id", "")
    for separator in "/_":
        namespace, found, name = identity.partition(separator)
        if found and namespace and name:
            return Key(namespace, name)
    return None


def port_addresses(external_ids: Mapping[str, str]) -> tuple[Net, ...]:
    """The addresses in `ip_addresses` or `ip-address`, with or without prefix length. Raises ValueError on anything
    else."""
    text = external_ids.get("ip_addresses") or external_ids.get("ip-address") or ""
    words = text.replace(",", " ").split()
    return tuple(dict.fromkeys(parse_address(word.partition("/")[0]) for word in words))


def _attach(interface: InterfaceState, ofport: int, bridge: BridgeState, cluster: Cluster) -> Attachment:
    ids, node = interface.external_ids, bridge.node
    if not node:
        raise _Refused(NO_NODE)
    key = pod_named(ids)
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
    mac = read_mac(ids.get("attached-mac", ""))
    if mac is None and ids.get("attached-mac"):
        raise _Refused(f"attached-mac {ids['attached-mac']!r} is no unicast MAC address")
    said, told = _told(ids, pod)
    refused = next(filter(None, map(not_of_a_host, told)), "")
    addresses = _each_once(pod.addresses or tuple(net for net in told if not not_of_a_host(net)))
    limits = limits_of(bridge.metered, bridge.datapath_type in USERSPACE_DATAPATHS)
    problem = f"its external_ids name an address that does not count: {refused}" if refused else ""
    same = 0 if not said or not pod.addresses else 1 if set(said) <= set(pod.addresses) else -1
    agrees = _AGREEMENTS[same, bool(uid) and uid == pod.uid]
    return Attachment(ofport, interface.name, pod.key, mac, addresses, limits, problem, agrees)


def _told(external_ids: Mapping[str, str], pod: Pod) -> tuple[tuple[Net, ...], tuple[Net, ...]]:
    """The addresses that a port says, and those of them that count: none where the Pod's status has any. What is not
    understood matters only where it would count."""
    try:
        said = port_addresses(external_ids)
    except ValueError as error:
        if pod.addresses:
            return (), ()
        raise _Refused(f"its ip_addresses are not understood: {error}") from error
    return said, () if pod.addresses else said


def read_mac(text: str) -> int | None:
    """A unicast MAC address as an integer, None for anything else."""
    number = int(text.replace(":", ""), 16) if _MAC.fullmatch(text) else 0
    return number if number and not number >> 40 & 1 else None


def _each_once(addresses: tuple[Net, ...]) -> tuple[Net, ...]:
    once = dict.fromkeys(addresses)
    return addresses if len(once) == len(addresses) else tuple(once)


def _all_apart(found: list[Attachment], uplinks: list[InterfaceState], own: tuple[Net, ...]) -> bool:
    """True when no pod, no address and no port number is anybody else's: nearly always."""
    addresses = list(chain(own, *[pod.addresses for pod in found]))
    numbers = [*[pod.ofport for pod in found], *[uplink.ofport for uplink in uplinks]]
    return (
        len(set(addresses)) == len(addresses)
        and len({pod.pod for pod in found}) == len(found)
        and len(set(numbers)) == len(numbers)
    )


def _without_twins(
    found: list[Attachment], uplinks: list[InterfaceState], problems: list[PortProblem]
) -> tuple[list[Attachment], list[InterfaceState]]:
    """Two ports of one number: a switch has no such thing, and a flow for one would be the other's."""
    by_number: dict[int | None, list[str]] = defaultdict(list)
    for pod in found:
        by_number[pod.ofport].append(pod.interface)
    for uplink in uplinks:
        by_number[uplink.ofport].append(uplink.name)
    for number, names in by_number.items():
        if len(names) > 1:
            problems.extend(PortProblem(name, _rivals(f"port number {number}", names)) for name in names)
    return (
        [pod for pod in found if len(by_number[pod.ofport]) == 1],
        [uplink for uplink in uplinks if len(by_number[uplink.ofport]) == 1],
    )


def latest(ports: Mapping[T, Agreement]) -> T | None:
    """Of several ports of one pod the one that is the pod's now; None where their words do not say it.

    Where a pod's network was made anew, the port that was before may be there still. The pod's now is the one that
    says more of what the Pod says than any other, and nothing less.
    """
    best = max(ports, key=lambda port: ports[port], default=None)
    if best is None:
        return None
    addresses, uid = ports[best]
    others = (found for port, found in ports.items() if port != best)
    decided = all(addresses >= a and uid >= u and (addresses, uid) != (a, u) for a, u in others)
    return best if decided else None


def _without_earlier(found: list[Attachment], problems: list[PortProblem]) -> list[Attachment]:
    """Ports that were a pod's before it got another one."""
    by_pod: dict[Key, dict[str, Agreement]] = defaultdict(dict)
    for pod in found:
        by_pod[pod.pod][pod.interface] = pod.agrees
    now = {key: latest(ports) for key, ports in by_pod.items() if len(ports) > 1}
    kept = []
    for pod in found:
        port = now.get(pod.pod)
        if port is None or port == pod.interface:
            kept.append(pod)
            continue
        reason = f"pod {pod.pod} has another port, {port}, which says the pod's addresses and uid; nothing passes here"
        problems.append(PortProblem(pod.interface, reason))
    return kept


def _without_node(found: list[Attachment], own: tuple[Net, ...], problems: list[PortProblem]) -> list[Attachment]:
    """A pod cannot have its node's address: whoever answers to it would be the node for all policies."""
    kept = []
    for pod in found:
        stolen = [net for net in pod.addresses if net in own]
        if stolen:
            reason = f"{stolen[0]} of pod {pod.pod} is an address of the node itself"
            problems.append(PortProblem(pod.interface, reason))
            pod = replace(pod, addresses=tuple(net for net in pod.addresses if net not in own))
        kept.append(pod)
    return kept


def _without_rivals(found: list[Attachment], problems: list[PortProblem]) -> list[Attachment]:
    """Two ports of one pod, or of one address: nobody can say which is right, so neither is."""
    by_pod: dict[Key, list[str]] = defaultdict(list)
    by_address: dict[Net, list[str]] = defaultdict(list)
    for pod in found:
        by_pod[pod.pod].append(pod.interface)
        for net in pod.addresses:
            by_address[net].append(pod.interface)
    kept = []
    for pod in found:
        if len(by_pod[pod.pod]) > 1:
            problems.append(PortProblem(pod.interface, _rivals(f"pod {pod.pod}", by_pod[pod.pod])))
            continue
        contested = [net for net in pod.addresses if len(by_address[net]) > 1]
        if contested:
            problems.extend(PortProblem(pod.interface, _rivals(str(net), by_address[net])) for net in contested)
            pod = replace(pod, addresses=tuple(net for net in pod.addresses if net not in contested))
        kept.append(pod)
    return kept


def _rivals(what: str, rivals: list[str]) -> str:
    names = ", ".join(sorted(rivals)[:MOST_NAMED])
    if len(rivals) > MOST_NAMED:
        names += f" and {len(rivals) - MOST_NAMED} more"
    return f"{what} is claimed by several ports: {names}; until one of them goes, nothing passes to or from it"
