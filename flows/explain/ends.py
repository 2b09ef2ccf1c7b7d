"""What the operator's words mean in a cluster: a pod, a node, an address or a Service, and the connections they ask
about.

    shop/web          the pod, else the Service of that name
    pod:shop/web      the pod; `service:shop/web` and `node:n1` in the same way
    n1                the node
    10.0.0.7          the address, and whatever has it; a Service's address is the Service

A connection to a Service is one to each of its endpoints, as the node of the source would choose them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flows.cluster.model import Cluster, EndpointSlice, Key, Protocol, Service, ServicePort
from flows.cluster.net import Net, parse_address
from flows.policy.probe import ICMP, ICMPV6, EndpointName, Probe, ProbeError, endpoints_named, probe_between
from flows.services.choice import Target, choose
from flows.services.endpoints import countable, merge_slices

MAX_NAMES_COMPARED = 2000  # in search of a name that the operator may have meant
MAX_TARGETS = 50  # endpoints of a Service that are explained one by one
_PREFIXES = ("pod", "service", "node")
_PROTOCOLS = {protocol.name: int(protocol) for protocol in Protocol}


class Wanted(NamedTuple):
    """The asked protocol and port. `protocol` is a number (IANA), None for ICMP of the connection's family; `port` is
    None where the protocol has none, or where the only port of a Service is meant."""

    protocol: int | None = int(Protocol.TCP)
    port: int | None = None


class Question(NamedTuple):
    """The connections that a question stands for, and notes on how it was understood."""

    probes: tuple[Probe, ...]
    notes: tuple[str, ...] = ()


def parse_wanted(text: str) -> Wanted:
    """`80`, `80/UDP`, `icmp` or a protocol number without ports like `proto/47`. Raises ProbeError."""
    number, _, protocol = text.partition("/")
    if text.lower() in ("icmp", "icmpv6"):
        return Wanted(None)
    if number.lower() == "proto" and _is_number(protocol) and int(protocol) < 256:
        return Wanted(int(protocol))
    name = protocol.upper() or Protocol.TCP.name
    if not _is_number(number) or not 1 <= int(number) <= 65535 or name not in _PROTOCOLS:
        raise ProbeError(f"{text!r} is no port: give PORT or PORT/TCP, PORT/UDP, PORT/SCTP, or icmp")
    return Wanted(_PROTOCOLS[name], int(number))


def without_ports(source: str, destination: str, port: str) -> tuple[str, str, str]:
    """The question with addresses alone where logs have ADDRESS:PORT or [ADDRESS]:PORT.

    The destination's port is the one that is asked about; that of the source does not matter to policy. Raises
    ProbeError where `port` is another one.
    """
    near, far = _address_and_port(source), _address_and_port(destination)
    if near is not None:
        source = near[0]
    if far is None:
        return source, destination, port
    if port and parse_wanted(port) != parse_wanted(far[1]):
        raise ProbeError(f"{destination} has another port than {port!r}: give one of them")
    return source, far[0], far[1]


def _address_and_port(text: str) -> tuple[str, str] | None:
    """The parts of ADDRESS:PORT, the port perhaps with a protocol; None for everything else."""
    address, colon, port = text.rpartition(":")
    if not colon or (":" in address) != (address.startswith("[") and address.endswith("]")):
        return None
    address = address.removeprefix("[").removesuffix("]")
    try:
        parse_address(address)
        parse_wanted(port)
    except ValueError:
        return None
    return address, port


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def ask(cluster: Cluster, source: str, destination: str, wanted: Wanted, version: int | None = None) -> Question:
    """The connections from `source` to `destination`, over IP `version` (4 or 6) or each family that both have.

    Raises ProbeError with what is wrong and what could be meant.
    """
    near = find_end(cluster, source)
    if isinstance(near, Service):
        raise ProbeError(f"{source} is a Service, which opens no connections: name a pod, a node or an address")
    far = find_end(cluster, destination)
    if isinstance(far, Service):
        return _ask_service(cluster, near, far, wanted, version)
    if isinstance(far, Net) and (served := _service_at(cluster, far)) is not None:
        found = _ask_service(cluster, near, served, wanted, far.version)
        return found._replace(notes=(f"{far} is an address of Service {served.key}", *found.notes))
    if wanted.protocol in _PROTOCOLS.values() and wanted.port is None:
        raise ProbeError("give the port with -p, like -p 80 or -p 53/UDP")
    return Question(tuple(_probes(cluster, near, far, wanted, version)))


def find_end(cluster: Cluster, text: str) -> EndpointName | Service:
    """What a name means. Raises ProbeError when nothing has it."""
    kind, colon, rest = text.partition(":")
    if colon and kind in _PREFIXES:
        return _find_as(cluster, kind, rest)
    try:
        return parse_address(text)
    except ValueError:
        pass
    if "/" not in text:
        return _find_as(cluster, "node", text)
    key = _key(text)
    if key not in cluster.pods and (service := cluster.services.get(key)) is not None:
        return service
    return _find_as(cluster, "pod", text)


def _find_as(cluster: Cluster, kind: str, text: str) -> EndpointName | Service:
    if kind == "node":
        if text not in cluster.nodes:
            raise ProbeError(f"there is no node {text}{_meant(text, cluster.nodes)}; a pod is written NAMESPACE/NAME")
        return text
    key = _key(text)
    if kind == "service":
        if key not in cluster.services:
            raise ProbeError(f"there is no Service {key}{_meant(text, map(str, cluster.services))}")
        return cluster.services[key]
    if key not in cluster.pods:
        near = (str(one) for one in cluster.pods if one.namespace == key.namespace)
        raise ProbeError(f"there is no pod {key}{_meant(text, near)}")
    return key


def _key(text: str) -> Key:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ProbeError(f"{text!r} is not NAMESPACE/NAME, a node or an address")
    return Key(namespace, name)


def _meant(text: str, names: Iterable[str]) -> str:
    known = [name for name, _ in zip(names, range(MAX_NAMES_COMPARED), strict=False)]
    near = difflib.get_close_matches(text, known, 3, 0.7)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _probes(
    cluster: Cluster, near: EndpointName, far: EndpointName, wanted: Wanted, version: int | None
) -> list[Probe]:
    """One probe for each family that both ends have."""
    found, reason = [], ""
    for family in (4, 6) if version is None else (version,):
        protocol = {4: ICMP, 6: ICMPV6}[family] if wanted.protocol is None else wanted.protocol
        try:
            found.append(probe_between(cluster, near, far, protocol, wanted.port, family))
        except ProbeError as error:
            reason = reason or str(error)
    if not found:
        _check_addresses(cluster, near, far)
        raise ProbeError(reason)
    return found


def _check_addresses(cluster: Cluster, *names: EndpointName) -> None:
    for name in names:
        if not endpoints_named(cluster, name):
            raise ProbeError(f"{name} has no address yet")


# -- Services ---------------------------------------------------------------------------------------------------------


def _service_at(cluster: Cluster, address: Net) -> Service | None:
    """The Service with a cluster IP, or with an address from outside; None where the address is none of a Service."""
    for service in cluster.services.values():
        if address in service.cluster_ips or address in service.ingress_ips or address in service.external_ips:
            return service
    return None


def _ask_service(
    cluster: Cluster, near: EndpointName, service: Service, wanted: Wanted, version: int | None
) -> Question:
    port = _service_port(service, wanted)
    node = _node_of(cluster, near)
    zone = cluster.nodes[node].zone if node in cluster.nodes else ""
    probes: list[Probe] = []
    notes: list[str] = []
    for family in (4, 6) if version is None else (version,):
        targets = _targets(cluster, service, port, family, node, zone)
        if len(targets) > MAX_TARGETS:
            notes.append(f"Service {service.key} has {len(targets)} endpoints; the first {MAX_TARGETS} are explained")
        for target in targets[:MAX_TARGETS]:
            try:
                found = probe_between(cluster, near, target.address, int(port.protocol), target.number, family)
            except ProbeError as error:
                notes.append(f"endpoint {target.address}: {error}")
                continue
            probes.append(found)
    if not probes:
        reason = f": {notes[0]}" if notes else ""
        raise ProbeError(f"Service {service.key} has no endpoint for port {port.number}/{port.protocol.name}{reason}")
    where = f"port {port.number}/{port.protocol.name} of Service {service.key} is served by its endpoints"
    return Question(tuple(probes), (where, *notes))


def _service_port(service: Service, wanted: Wanted) -> ServicePort:
    if wanted.port is None and len(service.ports) == 1:
        return service.ports[0]
    for port in service.ports:
        if (port.number, int(port.protocol)) == (wanted.port, wanted.protocol):
            return port
    ports = ", ".join(f"{port.number}/{port.protocol.name}" for port in service.ports) or "none"
    raise ProbeError(f"give one of the ports of Service {service.key} with -p: {ports}")


def _node_of(cluster: Cluster, name: EndpointName) -> str:
    """The node that a connection of this end passes first; "" for one from outside."""
    ends = endpoints_named(cluster, name)
    pod = ends[0].pod if ends else None
    return cluster.pods[pod].node if pod is not None else (ends[0].node or "" if ends else "")


def _targets(
    cluster: Cluster, service: Service, port: ServicePort, version: int, node: str, zone: str
) -> Sequence[Target]:
    """The endpoints that a pod on this node may be sent to by the Service's cluster IP."""
    names = [(one.name, one.protocol) for one in service.ports]
    counted, _ = countable(slices_of(cluster, service), names)
    backends, _ = merge_slices(counted, names)
    choice = choose(service, port, backends.get(((port.name, port.protocol), version), ()), node, zone)
    return choice.local if service.internal_local else choice.cluster


def slices_of(cluster: Cluster, service: Service) -> list[EndpointSlice]:
    """The EndpointSlices of a Service that are for us, sorted by key."""
    found = [
        one
        for one in cluster.endpoint_slices.values()
        if one.proxied and one.service == service.key.name and one.key.namespace == service.key.namespace
    ]
    return sorted(found, key=lambda one: one.key)
