"""Node objects: addresses and ranges of pods. See `untrusted` for how errors are reported."""

from __future__ import annotations

import re

from flows.cluster.model import Node
from flows.cluster.net import Net
from flows.parse.names import label_value_error
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    cidr_at,
    cidrs_at,
    cluster_name,
    describe,
    host_address_at,
    labels_at,
    list_at,
    object_at,
    quote,
    require_object,
    string_at,
)

ZONE_LABEL = "topology.kubernetes.io/zone"
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def parse_node(untrusted: object, errors: Errors) -> Node:
    """A Node. Invalid addresses and ranges are left out and appended to `errors`.

    Raises ParseError when metadata is not usable.
    """
    whole = require_object(untrusted, "Node")
    metadata, name = cluster_name(whole, "Node")
    status = object_at(whole, "status", "", errors)
    addresses: dict[str, list[Net]] = {"InternalIP": [], "ExternalIP": []}
    for index, entry in enumerate(list_at(status, "addresses", "status", errors)):
        where = f"status.addresses[{index}]"
        if not isinstance(entry, dict):
            errors.append(FieldError(where, f"must be an object, not {describe(entry)}"))
            continue
        # Host names and DNS names are of other types. An ExternalIP may be the address of a NAT device in front of the
        # node, which other hosts share: it is the node's only for policies that name nodes.
        kind = string_at(entry, "type", where, errors)
        found = host_address_at(entry.get("address"), f"{where}.address", errors) if kind in addresses else None
        if found is not None:
            addresses[kind].append(found)
    spec = object_at(whole, "spec", "", errors)
    internal, external = (tuple(dict.fromkeys(found)) for found in addresses.values())
    created, zone, labels = (
        _created(metadata, errors),
        _zone(metadata),
        labels_at(metadata, "labels", "metadata", errors),
    )
    return Node(name, internal, _pod_cidrs(spec, errors), created, zone, labels, external)


def _zone(metadata: JsonObject) -> str:
    """The node's zone. The API server keeps label values valid; any other text is no zone that a hint can name."""
    labels = metadata.get("labels")
    zone = labels.get(ZONE_LABEL) if isinstance(labels, dict) else None
    return zone if isinstance(zone, str) and not label_value_error(zone) else ""


def _pod_cidrs(spec: JsonObject, errors: Errors) -> tuple[Net, ...]:
    """The ranges in spec.podCIDRs; in spec.podCIDR, which repeats the first one, if the list is absent or empty."""
    found = cidrs_at(spec, "podCIDRs", "spec", errors)
    if found or spec.get("podCIDRs") or spec.get("podCIDR") in (None, ""):
        return found
    single = cidr_at(spec["podCIDR"], "spec.podCIDR", errors)
    return () if single is None else (single,)


def _created(metadata: JsonObject, errors: Errors) -> str:
    """metadata.creationTimestamp, which the API server sets: RFC 3339 in UTC, to the second. "" when absent."""
    text = string_at(metadata, "creationTimestamp", "metadata", errors)
    if not text or _CREATED.fullmatch(text):
        return text
    errors.append(FieldError("metadata.creationTimestamp", f"{quote(text)} is not a time like 2026-01-31T12:00:00Z"))
    return ""
