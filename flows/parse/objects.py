"""From untrusted Kubernetes objects to the values of `flows.cluster`: parse_object for any kind, and a parser for each.

Input is the output of a JSON or YAML parser: any type may be anywhere. A value that cannot be used is reported by the
path of its field and left out, never guessed; the rest of the object is kept. Policies are parsed in `network_policy`
and `original_api`. No file, socket or list of objects is read here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from flows.cluster.model import (
    CLUSTER_NETWORK_POLICY,
    NAMESPACE_NAME_LABEL,
    ClusterPolicy,
    ContainerPort,
    EndpointSlice,
    Key,
    Namespace,
    Node,
    Pod,
    Policy,
    Protocol,
    Service,
    ServiceCidr,
    Workload,
)
from flows.cluster.net import Net
from flows.cluster.original_api import ALPHA_API, BETA_API, OriginalPolicy
from flows.cluster.tuples import new_tuple
from flows.parse.admin_network_policy import (
    ADMIN_POLICY,
    BASELINE_POLICY,
    V1ALPHA1,
    parse_admin_policy,
    parse_baseline_policy,
)
from flows.parse.audit import audit_at
from flows.parse.bandwidth import limits_bandwidth
from flows.parse.cluster_network_policy import V1ALPHA2, V1BETA1, parse_cluster_policy
from flows.parse.endpoint_slice import SERVICE_NAME_LABEL, parse_endpoint_slice
from flows.parse.host_ports import host_ports
from flows.parse.misspelt_kinds import group_of, intended_kind
from flows.parse.names import port_name_error, subdomain_error
from flows.parse.network_policy import parse_policy
from flows.parse.node import parse_node
from flows.parse.original_api import parse_alpha_policy, parse_beta_policy, parse_isolation
from flows.parse.owner import owner_at
from flows.parse.service import parse_service
from flows.parse.service_cidr import parse_service_cidr
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    ParseError,
    cluster_name,
    describe,
    first_errors,
    host_address_at,
    labels_at,
    list_at,
    namespaced_key,
    not_a_string,
    object_at,
    port_number_error,
    protocol_at,
    quote,
    require_object,
    shared_subdomain,
    string_at,
)

__all__ = [
    "ClusterObject",
    "FieldError",
    "ParseError",
    "ParsedObject",
    "parse_namespace",
    "parse_node",
    "parse_object",
    "parse_pod",
    "parse_policy",
]

ClusterObject = (
    Pod | Namespace | Node | Policy | OriginalPolicy | ClusterPolicy | Service | EndpointSlice | ServiceCidr | Workload
)
_FINISHED = ("Succeeded", "Failed")


class ParsedObject(NamedTuple):
    """An object and its identity, `kind` and `name`.

    `kind` includes the group for the original policy API, as in `NetworkPolicy.extensions`. `name` is a Key, or the
    plain name of an object outside namespaces. `errors` has what was left out of `value`.
    """

    kind: str
    name: Key | str
    value: ClusterObject
    errors: tuple[FieldError, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def parse_pod(untrusted: object, errors: Errors) -> Pod:
    """A Pod. Invalid labels, addresses and ports are left out and appended to `errors`.

    Raises ParseError when metadata is not usable.
    """
    whole = require_object(untrusted, "Pod")
    metadata, key = namespaced_key(whole, "Pod")
    spec = object_at(whole, "spec", "", errors)
    status = object_at(whole, "status", "", errors)
    host_network = spec.get("hostNetwork")
    if host_network is not None and not isinstance(host_network, bool):
        errors.append(FieldError("spec.hostNetwork", f"must be true or false, not {describe(host_network)}"))
    labels = labels_at(metadata, "labels", "metadata", errors)
    return new_tuple(
        Pod,
        (
            key,
            labels,
            _node_name(spec, errors),
            _uid(metadata, errors),
            _pod_addresses(status, errors),
            _container_ports(spec, errors),
            # Any other value keeps the pod a subject of policy.
            host_network is True,
            string_at(status, "phase", "status", errors) in _FINISHED,
            "deletionTimestamp" in metadata and bool(string_at(metadata, "deletionTimestamp", "metadata", errors)),
            owner_at(metadata, labels, errors),
            limits_bandwidth(metadata),
            audit_at(metadata, errors) if "annotations" in metadata else None,
            () if host_network is True else host_ports(spec, errors),
        ),
    )


def _node_name(spec: JsonObject, errors: Errors) -> str:
    name = spec.get("nodeName")
    if isinstance(name, str) and (shared := shared_subdomain(name)):
        return shared
    name = string_at(spec, "nodeName", "spec", errors)
    if name:
        errors.append(FieldError("spec.nodeName", f"{quote(name)} is not valid: {subdomain_error(name)}"))
    return ""


def _uid(metadata: JsonObject, errors: Errors) -> str:
    """The UID. The API prescribes no syntax, so only text that is not printable is refused."""
    uid = metadata.get("uid")
    if not isinstance(uid, str):
        uid = string_at(metadata, "uid", "metadata", errors)
    if uid.isprintable():
        return uid
    errors.append(FieldError("metadata.uid", f"{quote(uid)} is not printable"))
    return ""


def _pod_addresses(status: JsonObject, errors: Errors) -> tuple[Net, ...]:
    """The addresses in status.podIPs; in status.podIP, which repeats the first one, if the list is absent or empty."""
    entries = status.get("podIPs")
    if not isinstance(entries, list):
        entries = list_at(status, "podIPs", "status", errors)
    if len(entries) == 1 and isinstance(only := entries[0], dict):
        found = host_address_at(only.get("ip"), "status.podIPs[0].ip", errors)
        return () if found is None else (found,)
    if not entries:
        single = status.get("podIP")
        found = host_address_at(single, "status.podIP", errors) if single else None
        return () if found is None else (found,)
    addresses = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            errors.append(FieldError(f"status.podIPs[{index}]", f"must be an object, not {describe(entry)}"))
        elif (found := host_address_at(entry.get("ip"), f"status.podIPs[{index}].ip", errors)) is not None:
            addresses.append(found)
    return tuple(dict.fromkeys(addresses))


def _container_ports(spec: JsonObject, errors: Errors) -> tuple[ContainerPort, ...]:
    """The named ports of the containers, then of the init containers that keep running (restartPolicy Always)."""
    ports: list[ContainerPort] = []
    for field in ("containers", "initContainers"):
        if field not in spec:
            continue
        for index, container in enumerate(list_at(spec, field, "spec", errors)):
            if not isinstance(container, dict):
                errors.append(FieldError(f"spec.{field}[{index}]", f"must be an object, not {describe(container)}"))
            elif container.get("ports", []) == []:
                continue
            elif field == "containers" or container.get("restartPolicy") == "Always":
                _named_ports(container, f"spec.{field}[{index}]", ports, errors)
    return tuple(dict.fromkeys(ports)) if ports else ()


def _named_ports(container: JsonObject, path: str, ports: list[ContainerPort], errors: Errors) -> None:
    for index, port in enumerate(list_at(container, "ports", path, errors)):
        if not isinstance(port, dict):
            errors.append(FieldError(f"{path}.ports[{index}]", f"must be an object, not {describe(port)}"))
            continue
        name = port.get("name")
        if name is None or name == "":
            continue  # no policy can refer to it
        number = port.get("containerPort")
        where = f"{path}.ports[{index}]"
        protocol = protocol_at(port, where, errors)
        if not isinstance(name, str):
            errors.append(FieldError(f"{where}.name", not_a_string(name)))
        elif error := port_name_error(name):
            errors.append(FieldError(f"{where}.name", f"{quote(name)} {error}"))
        elif error := port_number_error(number):
            errors.append(FieldError(f"{where}.containerPort", "is required" if number is None else error))
        elif protocol is not None and isinstance(number, int):
            ports.append(_shared_port(name, number, protocol))


@lru_cache(1 << 14)
def _shared_port(name: str, number: int, protocol: Protocol) -> ContainerPort:
    return ContainerPort(sys.intern(name), number, protocol)


def parse_workload(untrusted: object, errors: Errors) -> Workload:
    """A Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job or CronJob: its name, its own owner,
    and the pod that its template describes, without an address.

    Raises ParseError when its metadata is not usable, or its template is no object.
    """
    whole = require_object(untrusted, "workload")
    kind = str(whole.get("kind"))
    metadata, key = namespaced_key(whole, kind)
    spec = object_at(whole, "spec", "", errors)
    path = "spec.template"
    outer = spec
    if kind == "CronJob":
        path = "spec.jobTemplate.spec.template"
        outer = object_at(object_at(spec, "jobTemplate", "spec", errors), "spec", "spec.jobTemplate", errors)
    template = outer.get("template")
    if not isinstance(template, dict):
        reason = "is required" if template is None else f"must be an object, not {describe(template)}"
        raise ParseError(f"{kind} {key}", (FieldError(path, reason),))
    inside = object_at(template, "metadata", path, errors)
    found: Errors = []
    named = {**inside, "name": key.name, "namespace": key.namespace}
    pod = parse_pod({"metadata": named, "spec": template.get("spec")}, found)
    errors.extend(FieldError(f"{path}.{one.field}", one.reason) for one in found)
    replicas = spec.get("replicas", 1)
    several = kind == "DaemonSet" or (isinstance(replicas, int) and replicas > 1)
    return Workload(kind, key, pod, owner_at(metadata, pod.labels, errors), several)


def parse_namespace(untrusted: object, errors: Errors) -> Namespace:
    """A Namespace. Invalid labels are left out; errors in labels and isolation annotations are appended to `errors`.

    Raises ParseError when metadata is not usable.
    """
    metadata, name = cluster_name(require_object(untrusted, "Namespace"), "Namespace")
    labels = labels_at(metadata, "labels", "metadata", errors, unique=True)  # they include its name
    # The API server sets this label to the namespace's name, whatever was given.
    if labels.get(NAMESPACE_NAME_LABEL) != name:
        labels = MappingProxyType({**labels, NAMESPACE_NAME_LABEL: name})
    return Namespace(name, labels, parse_isolation(metadata, errors), audit_at(metadata, errors))


Parser = Callable[[object, Errors], ClusterObject | None]  # None for an object that is not wanted
Parsers = Mapping[tuple[str, str], Parser]  # by apiVersion and kind

# The parsers of the kinds that policy needs, by apiVersion and kind.
PARSERS: Parsers = {
    ("v1", "Pod"): parse_pod,
    ("v1", "Namespace"): parse_namespace,
    ("v1", "Node"): parse_node,
    ("networking.k8s.io/v1", "NetworkPolicy"): parse_policy,
    (ALPHA_API, "NetworkPolicy"): parse_alpha_policy,
    (BETA_API, "NetworkPolicy"): parse_beta_policy,
    (V1BETA1, CLUSTER_NETWORK_POLICY): parse_cluster_policy,
    (V1ALPHA2, CLUSTER_NETWORK_POLICY): parse_cluster_policy,
    (V1ALPHA1, ADMIN_POLICY): parse_admin_policy,
    (V1ALPHA1, BASELINE_POLICY): parse_baseline_policy,
}


# With the kinds that only Services need. Where the switches translate no Services, their objects are not read.
PARSERS_WITH_SERVICES: Parsers = {
    **PARSERS,
    ("v1", "Service"): parse_service,
    ("discovery.k8s.io/v1", "EndpointSlice"): parse_endpoint_slice,
    ("networking.k8s.io/v1", "ServiceCIDR"): parse_service_cidr,
}


def parsers_with_service(wanted: Key) -> Parsers:
    """With what is of one Service. Where the switches translate none, only that of DNS is read."""

    def service(untrusted: object, errors: Errors) -> Service | None:
        return parse_service(untrusted, errors) if _names_of(untrusted)[0] == wanted else None

    def endpoint_slice(untrusted: object, errors: Errors) -> EndpointSlice | None:
        return parse_endpoint_slice(untrusted, errors) if _names_of(untrusted)[1] == wanted else None

    return {**PARSERS, ("v1", "Service"): service, ("discovery.k8s.io/v1", "EndpointSlice"): endpoint_slice}


def _names_of(untrusted: object) -> tuple[Key, Key]:
    """The key of an object, and that of the Service that its label names; empty parts where there is none."""
    metadata = untrusted.get("metadata") if isinstance(untrusted, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    labels = metadata.get("labels")
    service = labels.get(SERVICE_NAME_LABEL) if isinstance(labels, dict) else None
    namespace = str(metadata.get("namespace") or "default")
    return Key(namespace, str(metadata.get("name") or "")), Key(namespace, str(service or ""))


# With the kinds that make pods: where manifests are read before there are pods.
PARSERS_WITH_WORKLOADS: Parsers = {
    **PARSERS_WITH_SERVICES,
    ("apps/v1", "Deployment"): parse_workload,
    ("apps/v1", "StatefulSet"): parse_workload,
    ("apps/v1", "DaemonSet"): parse_workload,
    ("apps/v1", "ReplicaSet"): parse_workload,
    ("v1", "ReplicationController"): parse_workload,
    ("batch/v1", "Job"): parse_workload,
    ("batch/v1", "CronJob"): parse_workload,
}


def parse_object(untrusted: object, parsers: Parsers = PARSERS) -> ParsedObject | None:
    """An object of any kind in `parsers`; None for an object of another kind.

    Raises ParseError for a value that is not an object, has no kind or apiVersion, has metadata that is not usable, has
    a supported kind with a version that its group does not have, or has a misspelt kind or version.
    """
    whole = require_object(untrusted)
    kind, version = whole.get("kind"), whole.get("apiVersion")
    reader = parsers.get((version, kind)) if isinstance(kind, str) and isinstance(version, str) else None
    if reader is None or not isinstance(kind, str):
        _refuse(kind, version, parsers)
        return None
    errors: Errors = []
    value = reader(untrusted, errors)
    if value is None:
        return None
    name: Key | str
    if isinstance(value, ClusterPolicy):
        kind, name = CLUSTER_NETWORK_POLICY, value.key
    elif isinstance(value, (Pod, Policy, Service, EndpointSlice, Workload)):
        name = value.key
    elif isinstance(value, OriginalPolicy):
        kind, name = value.kind, value.key
    else:
        name = value.name
    return new_tuple(ParsedObject, (sys.intern(kind), name, value, first_errors(errors)))


def _refuse(kind: object, version: object, parsers: Parsers) -> None:
    """Raise ParseError for a missing, unsupported or misspelt kind or version; other kinds pass."""
    for field, value in (("kind", kind), ("apiVersion", version)):
        if not isinstance(value, str) or not value:
            reason = "is required" if value is None or value == "" else not_a_string(value)
            raise ParseError("", (FieldError(field, reason),))
    kind, version = str(kind), str(version)
    versions = [known for known, one in parsers if one == kind]
    if versions and any(group_of(version) == group_of(known) for known, _ in parsers):
        known = next((known for known in versions if group_of(known) == group_of(version)), versions[0])
        raise ParseError(kind, (FieldError("apiVersion", f"must be {known} for a {kind}, not {quote(version)}"),))
    if near := intended_kind(kind, version, tuple(parsers)):
        reason = (
            f"did you mean apiVersion {near[0]}, kind {near[1]}? Kubernetes has no {quote(kind)} in {quote(version)}"
        )
        raise ParseError("", (FieldError("kind" if kind != near[1] else "apiVersion", reason),))
