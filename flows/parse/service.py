"""From an untrusted Service to a value: what a proxy needs of it, held to the API server's own validation.

A field that cannot be used is reported and left out, so that nothing is opened by a guess: a port with an error is not
served, and an unknown traffic policy counts as Local, the narrower one. Source: k8s.io/api core/v1 Service, and its
validation in pkg/apis/core/validation.
"""

from __future__ import annotations

from flows.cluster.model import NO_LABELS, Protocol, Service, ServicePort
from flows.cluster.net import Net, host_address_error, parse_address, parse_network
from flows.parse.names import dns_label_error
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    describe,
    each_object,
    list_at,
    namespaced_key,
    not_a_string,
    object_at,
    port_number_error,
    protocol_at,
    quote,
    require_object,
    string_at,
)

# With one of these labels an object is not for the cluster's own proxy (Kubernetes documentation, "Well-known labels").
FOREIGN_PROXY_LABELS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
DEFAULT_AFFINITY_SECONDS = 10800
MAX_AFFINITY_SECONDS = 86400
# The API server has no limits for these, but the author chooses how many, and each costs flows on every bridge.
MAX_PORTS = 1000
MAX_ADDRESSES = 100  # external addresses, and addresses of load balancers
MAX_SOURCE_RANGES = 500
MAX_FRONTENDS = 2000  # ports times addresses of one kind: each costs a flow on every bridge
_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_LINK_LOCAL = ((4, 0xA9FE, 16), (6, 0xFE80 >> 6, 118))  # version, first bits, how many bits follow
_HEADLESS = "None"


def parse_service(untrusted: object, errors: Errors) -> Service:
    """A Service. Invalid fields are left out and appended to `errors`.

    Raises ParseError when metadata is not usable.
    """
    whole = require_object(untrusted, "Service")
    metadata, key = namespaced_key(whole, "Service")
    spec = object_at(whole, "spec", "", errors)
    proxied = is_proxied(metadata, errors)
    kind = string_at(spec, "type", "spec", errors) or "ClusterIP"
    if kind not in _TYPES:
        errors.append(FieldError("spec.type", f"must be one of {', '.join(_TYPES)}, not {quote(kind)}"))
    addresses = _cluster_ips(spec, errors)
    if kind not in _TYPES[:3] or not addresses:
        return Service(key, proxied=proxied)
    of_balancer = kind == "LoadBalancer"
    ports = _ports(spec, kind != "ClusterIP", errors)
    external = _addresses(spec, "externalIPs", "spec", errors)
    ingress = _ingress_ips(whole, errors) if of_balancer else ()
    return Service(
        key,
        addresses,
        ports,
        _affordable(external, len(ports), "spec.externalIPs", errors),
        _affordable(ingress, len(ports), "status.loadBalancer.ingress", errors),
        _source_ranges(spec, errors) if of_balancer else None,
        _is_local(spec, "internalTrafficPolicy", errors),
        _is_local(spec, "externalTrafficPolicy", errors),
        _affinity_seconds(spec, errors),
        _health_check_port(spec, errors) if of_balancer else 0,
        proxied,
    )


def is_proxied(metadata: JsonObject, errors: Errors) -> bool:
    """Whether the labels of a Service or of a slice leave it to the cluster's proxy, which here is Headgate."""
    labels = metadata.get("labels")
    if labels is None:
        labels = NO_LABELS
    if not isinstance(labels, dict):
        object_at(metadata, "labels", "metadata", errors)
        return True
    return not any(label in labels for label in FOREIGN_PROXY_LABELS)


def proxy_address(value: object, path: str, errors: Errors) -> Net | None:
    """An address that may be translated to or from; None with an error for any other value.

    As on the API server, it is neither unspecified nor loopback, multicast or link-local; the last are also where the
    switch and its node keep their own names.
    """
    if not isinstance(value, str):
        errors.append(FieldError(path, "is required" if value is None else not_a_string(value)))
        return None
    try:
        found = parse_address(value)
    except ValueError:
        errors.append(FieldError(path, f"{quote(value)} is not an IP address"))
        return None
    reason = host_address_error(found)
    if not reason and any(
        found.version == version and found.value >> bits == first for version, first, bits in _LINK_LOCAL
    ):
        reason = f"{found} is link-local, which no Service or endpoint can have"
    if reason:
        errors.append(FieldError(path, reason))
        return None
    return found


def limited(entries: list[object], limit: int, path: str, errors: Errors) -> list[object]:
    """The list, or its first `limit` entries and an error."""
    if len(entries) > limit:
        errors.append(FieldError(path, f"has {len(entries)} entries; only the first {limit} count"))
    return entries[:limit]


def _cluster_ips(spec: JsonObject, errors: Errors) -> tuple[Net, ...]:
    """The addresses in spec.clusterIPs, or in spec.clusterIP, which repeats the first: at most one of each family."""
    entries = list_at(spec, "clusterIPs", "spec", errors)
    path = "spec.clusterIPs[{}]"
    if not entries:
        single = string_at(spec, "clusterIP", "spec", errors)
        entries, path = ([single] if single else []), "spec.clusterIP"
    if _HEADLESS in entries:
        return ()
    found: dict[int, Net] = {}
    for index, entry in enumerate(limited(entries, 2, "spec.clusterIPs", errors)):
        address = proxy_address(entry, path.format(index), errors)
        if address is None:
            continue
        if address.version in found:
            errors.append(FieldError(path.format(index), "must be of another family than the first"))
        else:
            found[address.version] = address
    return tuple(found.values())


def _addresses(parent: JsonObject, name: str, path: str, errors: Errors) -> tuple[Net, ...]:
    entries = limited(list_at(parent, name, path, errors), MAX_ADDRESSES, f"{path}.{name}", errors)
    read = (proxy_address(entry, f"{path}.{name}[{index}]", errors) for index, entry in enumerate(entries))
    return tuple(dict.fromkeys(address for address in read if address is not None))


def _affordable(addresses: tuple[Net, ...], ports: int, path: str, errors: Errors) -> tuple[Net, ...]:
    """The addresses, or the first of them where they would have too many ports together."""
    most = MAX_FRONTENDS // max(ports, 1)
    if len(addresses) > most:
        errors.append(FieldError(path, f"has {len(addresses)} addresses; with {ports} ports the first {most} count"))
    return addresses[:most]


def _ports(spec: JsonObject, has_node_ports: bool, errors: Errors) -> tuple[ServicePort, ...]:
    """The ports; of two with one name, or with one protocol and number, the first counts."""
    names: set[str] = set()
    numbers: set[tuple[Protocol, int]] = set()
    several = len(list_at(spec, "ports", "spec", [])) > 1

    def read(raw: JsonObject, path: str, errors: Errors) -> ServicePort | None:
        port = _port(raw, path, has_node_ports, errors)
        if port is None:
            return None
        if several and not port.name:
            errors.append(FieldError(f"{path}.name", "is required where there are several ports"))
        elif port.name in names:
            errors.append(FieldError(f"{path}.name", f"{quote(port.name)} is the name of an earlier port"))
        elif (port.protocol, port.number) in numbers:
            errors.append(FieldError(path, "has the protocol and number of an earlier port"))
        else:
            names.add(port.name)
            numbers.add((port.protocol, port.number))
            return port
        return None

    entries = limited(list_at(spec, "ports", "spec", errors), MAX_PORTS, "spec.ports", errors)
    return each_object({"ports": entries}, "ports", "spec", read, errors)


def _port(raw: JsonObject, path: str, has_node_ports: bool, errors: Errors) -> ServicePort | None:
    name = string_at(raw, "name", path, errors)
    if name and (error := dns_label_error(name)):
        errors.append(FieldError(f"{path}.name", f"{quote(name)} {error}"))
        return None
    protocol = protocol_at(raw, path, errors)
    number = raw.get("port")
    if error := port_number_error(number):
        errors.append(FieldError(f"{path}.port", "is required" if number is None else error))
        return None
    node_port = raw.get("nodePort")
    if node_port in (None, 0) or not has_node_ports:
        node_port = 0
    elif error := port_number_error(node_port):
        errors.append(FieldError(f"{path}.nodePort", error))
        node_port = 0
    if protocol is None or not isinstance(number, int) or not isinstance(node_port, int):
        return None
    return ServicePort(name, protocol, number, node_port)


def _ingress_ips(whole: JsonObject, errors: Errors) -> tuple[Net, ...]:
    """The addresses of the load balancer. With ipMode Proxy its packets never have its own address as destination."""
    balancer = object_at(object_at(whole, "status", "", errors), "loadBalancer", "status", errors)
    path = "status.loadBalancer"
    entries = limited(list_at(balancer, "ingress", path, errors), MAX_ADDRESSES, f"{path}.ingress", errors)

    def read(raw: JsonObject, where: str, errors: Errors) -> Net | None:
        mode = string_at(raw, "ipMode", where, errors)
        if mode not in ("", "VIP", "Proxy"):
            errors.append(FieldError(f"{where}.ipMode", f"must be VIP or Proxy, not {quote(mode)}"))
        address = raw.get("ip")
        return None if not address or mode not in ("", "VIP") else proxy_address(address, f"{where}.ip", errors)

    return tuple(dict.fromkeys(each_object({"ingress": entries}, "ingress", path, read, errors)))


def _source_ranges(spec: JsonObject, errors: Errors) -> tuple[Net, ...] | None:
    """The sources that may use the load balancer; None for all. One that cannot be read admits nobody."""
    path = "spec.loadBalancerSourceRanges"
    entries = list_at(spec, "loadBalancerSourceRanges", "spec", errors)
    if spec.get("loadBalancerSourceRanges") in (None, []):
        return None
    found = []
    for index, entry in enumerate(limited(entries, MAX_SOURCE_RANGES, path, errors)):
        if not isinstance(entry, str):
            errors.append(FieldError(f"{path}[{index}]", not_a_string(entry)))
            continue
        try:
            found.append(parse_network(entry.strip()))
        except ValueError:
            errors.append(FieldError(f"{path}[{index}]", f"{quote(entry)} is not a prefix, like 192.0.2.0/24"))
    return tuple(sorted(set(found)))


def _is_local(spec: JsonObject, name: str, errors: Errors) -> bool:
    value = spec.get(name)
    if value in (None, "", "Cluster"):
        return False
    if value != "Local":
        reason = f"must be Cluster or Local, not {describe(value)}; it counts as Local"
        errors.append(FieldError(f"spec.{name}", reason))
    return True


def _affinity_seconds(spec: JsonObject, errors: Errors) -> int:
    affinity = string_at(spec, "sessionAffinity", "spec", errors)
    if affinity in ("", "None"):
        return 0
    if affinity != "ClientIP":
        errors.append(FieldError("spec.sessionAffinity", f"must be None or ClientIP, not {quote(affinity)}"))
        return 0
    config = object_at(spec, "sessionAffinityConfig", "spec", errors)
    path = "spec.sessionAffinityConfig.clientIP"
    seconds = object_at(config, "clientIP", "spec.sessionAffinityConfig", errors).get("timeoutSeconds")
    if seconds is None:
        return DEFAULT_AFFINITY_SECONDS
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds <= MAX_AFFINITY_SECONDS:
        reason = f"must be an integer from 1 to {MAX_AFFINITY_SECONDS}, not {describe(seconds)}"
        errors.append(FieldError(f"{path}.timeoutSeconds", reason))
        return DEFAULT_AFFINITY_SECONDS
    return seconds


def _health_check_port(spec: JsonObject, errors: Errors) -> int:
    number = spec.get("healthCheckNodePort")
    if number in (None, 0):
        return 0
    if error := port_number_error(number):
        errors.append(FieldError("spec.healthCheckNodePort", error))
        return 0
    return number if isinstance(number, int) else 0
