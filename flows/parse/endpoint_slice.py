"""From an untrusted EndpointSlice to a value, held to the API server's own validation.

An endpoint or a port that cannot be used is reported and left out. A condition that is no boolean counts against the
endpoint. Source: k8s.io/api discovery/v1, and its validation in pkg/apis/discovery/validation.
"""

from __future__ import annotations

import sys

from flows.cluster.model import Endpoint, EndpointPort, EndpointSlice
from flows.cluster.tuples import new_tuple
from flows.parse.names import dns_label_error, label_value_error, subdomain_error
from flows.parse.service import is_proxied, limited, proxy_address
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    describe,
    each_object,
    list_at,
    namespaced_key,
    object_at,
    port_number_error,
    protocol_at,
    quote,
    require_object,
    shared_subdomain,
    string_at,
)

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MAX_ENDPOINTS = 1000  # of a slice, by the API's validation
MAX_PORTS = 1000  # of a slice: as many as a Service may have here
MAX_HINTS = 8  # of each kind, by the API's validation
_VERSIONS = {"IPv4": 4, "IPv6": 6}
_FQDN = "FQDN"


def parse_endpoint_slice(untrusted: object, errors: Errors) -> EndpointSlice:
    """An EndpointSlice. Invalid endpoints, ports and hints are left out and appended to `errors`.

    Raises ParseError when metadata is not usable.
    """
    whole = require_object(untrusted, "EndpointSlice")
    metadata, key = namespaced_key(whole, "EndpointSlice")
    kind = string_at(whole, "addressType", "", errors)
    version = _VERSIONS.get(kind, 0)
    if not version and kind != _FQDN:
        errors.append(FieldError("addressType", f"must be IPv4, IPv6 or FQDN, not {quote(kind)}"))
    endpoints = _endpoints(whole, version, errors) if version else ()
    ports = _ports(whole, errors) if version else ()
    return EndpointSlice(key, _service(metadata, errors), endpoints, ports, is_proxied(metadata, errors))


def _service(metadata: JsonObject, errors: Errors) -> str:
    labels = metadata.get("labels")
    if not isinstance(labels, dict):
        return ""  # reported by `is_proxied`
    name = labels.get(SERVICE_NAME_LABEL)
    path = f"metadata.labels[{SERVICE_NAME_LABEL}]"
    if name is None or name == "":
        return ""
    if not isinstance(name, str):
        errors.append(FieldError(path, f"must be a string, not {describe(name)}"))
        return ""
    if error := dns_label_error(name):
        errors.append(FieldError(path, f"{quote(name)} is not a Service's name: {error}"))
        return ""
    return sys.intern(name)


def _endpoints(whole: JsonObject, version: int, errors: Errors) -> tuple[Endpoint, ...]:
    entries = limited(list_at(whole, "endpoints", "", errors), MAX_ENDPOINTS, "endpoints", errors)
    found = []
    for index, raw in enumerate(entries):
        path = f"endpoints[{index}]"
        if not isinstance(raw, dict):
            errors.append(FieldError(path, f"must be an object, not {describe(raw)}"))
        elif (endpoint := _endpoint(raw, version, path, errors)) is not None:
            found.append(endpoint)
    return tuple(found)


def _endpoint(raw: JsonObject, version: int, path: str, errors: Errors) -> Endpoint | None:
    addresses = list_at(raw, "addresses", path, errors)
    address = proxy_address(addresses[0] if addresses else None, f"{path}.addresses[0]", errors)
    if address is None:
        return None
    if address.version != version:
        errors.append(FieldError(f"{path}.addresses[0]", f"{address} is not of the slice's addressType"))
        return None
    conditions = object_at(raw, "conditions", path, errors)
    ready, serving, terminating = True, True, False
    if conditions:
        where = f"{path}.conditions"
        ready = _condition(conditions, "ready", True, where, errors)
        serving = _condition(conditions, "serving", True, where, errors)
        terminating = _condition(conditions, "terminating", False, where, errors)
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    if raw.get("hints") is not None:
        hints = object_at(raw, "hints", path, errors)
        zones = _hints(hints, "forZones", f"{path}.hints", errors)
        nodes = _hints(hints, "forNodes", f"{path}.hints", errors)
    node = _node(raw, path, errors)
    return new_tuple(Endpoint, (address, node, ready, serving, terminating, zones, nodes))


def _node(raw: JsonObject, path: str, errors: Errors) -> str:
    name = raw.get("nodeName")
    if isinstance(name, str) and (shared := shared_subdomain(name)):
        return shared
    name = string_at(raw, "nodeName", path, errors)
    if name:
        errors.append(FieldError(f"{path}.nodeName", f"{quote(name)} is not valid: {subdomain_error(name)}"))
    return ""


def _condition(conditions: JsonObject, name: str, absent: bool, path: str, errors: Errors) -> bool:
    value = conditions.get(name)
    if value is None:
        return absent
    if isinstance(value, bool):
        return value
    errors.append(FieldError(f"{path}.{name}", f"must be true or false, not {describe(value)}"))
    return False


def _hints(hints: JsonObject, name: str, path: str, errors: Errors) -> tuple[str, ...]:
    entries = limited(list_at(hints, name, path, errors), MAX_HINTS, f"{path}.{name}", errors)

    def read(raw: JsonObject, where: str, errors: Errors) -> str | None:
        text = string_at(raw, "name", where, errors)
        if not text:
            errors.append(FieldError(f"{where}.name", "is required"))
        elif error := subdomain_error(text) if name == "forNodes" else label_value_error(text):
            errors.append(FieldError(f"{where}.name", f"{quote(text)} {error}"))
        else:
            return sys.intern(text)
        return None

    return tuple(dict.fromkeys(each_object({name: entries}, name, path, read, errors)))


def _ports(whole: JsonObject, errors: Errors) -> tuple[EndpointPort, ...]:
    """The ports. One without a number means every port in the API, which no Service's port is translated to."""
    entries = limited(list_at(whole, "ports", "", errors), MAX_PORTS, "ports", errors)
    found: dict[str, EndpointPort] = {}
    for index, raw in enumerate(entries):
        path = f"ports[{index}]"
        if not isinstance(raw, dict):
            errors.append(FieldError(path, f"must be an object, not {describe(raw)}"))
            continue
        port = _port(raw, path, errors)
        if port is not None and port.name in found:
            errors.append(FieldError(f"{path}.name", f"{quote(port.name)} is the name of an earlier port"))
        elif port is not None:
            found[port.name] = port
    return tuple(found.values())


def _port(raw: JsonObject, path: str, errors: Errors) -> EndpointPort | None:
    name = string_at(raw, "name", path, errors)
    protocol, number = protocol_at(raw, path, errors), raw.get("port")
    if name and (error := dns_label_error(name)):
        errors.append(FieldError(f"{path}.name", f"{quote(name)} {error}"))
        return None
    if number is None or protocol is None:
        return None
    if error := port_number_error(number):
        errors.append(FieldError(f"{path}.port", error))
        return None
    return EndpointPort(sys.intern(name), protocol, number) if isinstance(number, int) else None
