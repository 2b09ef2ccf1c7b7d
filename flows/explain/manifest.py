"""A policy as the manifest that Headgate understood, a line each with its place in the spec: so that the lines which
decide about a connection can be marked.

It is written from the value, not from what the author wrote: fields that Headgate does not know are not in it, and
a rule that could not be understood is a comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from flows.cluster.model import (
    AuditMode,
    ClusterPolicy,
    ClusterRule,
    Direction,
    DomainPeer,
    NodePeer,
    Operator,
    Peer,
    Policy,
    PortSpec,
    Rule,
    Selector,
)
from flows.cluster.net import Net
from flows.cluster.staging import AUDIT, MODE_ANNOTATION, mode_of
from flows.parse.audit import AUDIT_ANNOTATION

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*\Z")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})  # YAML 1.1 reads them as no text


class ManifestLine(NamedTuple):
    """A line, and the place that it belongs to, below `spec`: `ingress[0].from[1]`; "" above the spec."""

    text: str
    place: str = ""


class _Comment(NamedTuple):
    """An entry of a list that is not there, and why."""

    text: str


def policy_manifest(policy: Policy) -> list[ManifestLine]:
    """The lines of a NetworkPolicy; of a staged one as it will be, with the annotation that stages it."""
    return _lines(policy_object(policy))


def policy_object(policy: Policy) -> dict[str, Any]:
    """The same as plain values; a rule that could not be understood is no plain value."""
    meta: dict[str, Any] = {"namespace": policy.key.namespace, "name": policy.key.name}
    annotations = _annotations(policy)
    if mode := mode_of(policy):
        annotations[MODE_ANNOTATION] = mode
        policy = policy.promoted if mode == AUDIT else policy
    if annotations:
        meta["annotations"] = annotations
    spec: dict[str, Any] = {"podSelector": _selector(policy.subjects)}
    spec["policyTypes"] = [one.value.capitalize() for one in Direction if one in policy.isolates]
    for direction in Direction:
        rules = policy.ingress if direction is Direction.INGRESS else policy.egress
        if rules or direction in policy.isolates:
            spec[direction.value] = [_rule(one, direction, n, policy.errors) for n, one in enumerate(rules)]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def cluster_policy_manifest(policy: ClusterPolicy) -> list[ManifestLine]:
    """The lines of a ClusterNetworkPolicy. A policy of an older API is written as one, too."""
    subject = _pods_or_namespaces(policy.subject.namespaces, policy.subject.pods)
    spec: dict[str, Any] = {"tier": policy.tier.value, "priority": policy.priority, "subject": subject}
    for direction in Direction:
        if rules := policy.rules(direction):
            spec[direction.value] = [_cluster_rule(one, direction, n, policy.errors) for n, one in enumerate(rules)]
    annotations = _annotations(policy)
    whole = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": policy.key.name, **({"annotations": annotations} if annotations else {})},
        "spec": spec,
    }
    return _lines(whole)


def _annotations(policy: Policy | ClusterPolicy) -> dict[str, str]:
    return {} if policy.audit is AuditMode.OFF else {AUDIT_ANNOTATION: policy.audit.value}


# -- values ------------------------------------------------------------------------------------------------------------


def _selector(selector: Selector) -> dict[str, Any]:
    labels: dict[str, str] = {}
    expressions: list[dict[str, Any]] = []
    for one in selector.requirements:
        if one.operator is Operator.IN and len(one.values) == 1 and one.key not in labels:
            labels[one.key] = one.values[0]
        else:
            values = {"values": list(one.values)} if one.values else {}
            expressions.append({"key": one.key, "operator": one.operator.value, **values})
    found: dict[str, Any] = {}
    if labels:
        found["matchLabels"] = labels
    if expressions:
        found["matchExpressions"] = expressions
    return found


def _invalid(direction: Direction, number: int, errors: tuple[str, ...]) -> _Comment:
    place = f"spec.{direction.value}[{number}]"
    reason = next((one for one in errors if one.startswith(place)), "it could not be understood")
    return _Comment(f"{direction.value}[{number}] is not valid: {reason}")


def _rule(rule: Rule | None, direction: Direction, number: int, errors: tuple[str, ...]) -> dict[str, Any] | _Comment:
    if rule is None:
        return _invalid(direction, number, errors)
    found: dict[str, Any] = {}
    if rule.peers:
        found[_peers_field(direction)] = [_peer(one) for one in rule.peers]
    if rule.ports:
        found["ports"] = [_port(one) for one in rule.ports]
    return found


def _peers_field(direction: Direction) -> str:
    return "from" if direction is Direction.INGRESS else "to"


def _peer(peer: Peer) -> dict[str, Any]:
    if peer.ip_block is not None:
        block: dict[str, Any] = {"cidr": _cidr(peer.ip_block.cidr)}
        if peer.ip_block.excepts:
            block["except"] = [_cidr(one) for one in peer.ip_block.excepts]
        return {"ipBlock": block}
    found: dict[str, Any] = {}
    if peer.namespaces is not None:
        found["namespaceSelector"] = _selector(peer.namespaces)
    if peer.pods is not None:
        found["podSelector"] = _selector(peer.pods)
    return found


def _cidr(net: Net) -> str:
    text = str(net)
    return text if "/" in text else f"{text}/{net.prefix}"


def _port(port: PortSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"protocol": port.protocol.name}
    if port.port is not None:
        found["port"] = port.port
    if port.end_port is not None:
        found["endPort"] = port.end_port
    return found


def _cluster_rule(
    rule: ClusterRule, direction: Direction, number: int, errors: tuple[str, ...]
) -> dict[str, Any] | _Comment:
    if rule.unreadable:
        return _invalid(direction, number, errors)
    found: dict[str, Any] = {"name": rule.name} if rule.name else {}
    found["action"] = rule.action.value
    found[_peers_field(direction)] = [_cluster_peer(one) for one in rule.peers]
    if rule.ports:
        found["protocols"] = [_protocol(one) for one in rule.ports]
    return found


def _cluster_peer(peer: Peer | NodePeer | DomainPeer) -> dict[str, Any]:
    if isinstance(peer, DomainPeer):
        return {"domainNames": [peer.pattern]}
    if isinstance(peer, NodePeer):
        return {"nodes": _selector(peer.nodes)}
    if peer.ip_block is not None:
        return {"networks": [_cidr(peer.ip_block.cidr)]}
    return _pods_or_namespaces(peer.namespaces or Selector(), peer.pods)


def _pods_or_namespaces(namespaces: Selector, pods: Selector | None) -> dict[str, Any]:
    if pods is None or not pods.requirements:
        return {"namespaces": _selector(namespaces)}
    return {"pods": {"namespaceSelector": _selector(namespaces), "podSelector": _selector(pods)}}


def _protocol(port: PortSpec) -> dict[str, Any]:
    if isinstance(port.port, str):
        return {"destinationNamedPort": port.port}
    if port.port is None:
        return {port.protocol.name.lower(): {"destinationPort": {"range": {"start": 1, "end": 65535}}}}
    number = {"number": port.port} if port.end_port is None else {"range": {"start": port.port, "end": port.end_port}}
    return {port.protocol.name.lower(): {"destinationPort": number}}


# -- text --------------------------------------------------------------------------------------------------------------


def _lines(whole: dict[str, Any]) -> list[ManifestLine]:
    return list(_mapping(whole, 0, ""))


def _mapping(value: dict[str, Any], depth: int, place: str) -> Iterator[ManifestLine]:
    indent = "  " * depth
    for key, one in value.items():
        inner = _below(place, key, depth)
        if isinstance(one, dict) and one:
            yield ManifestLine(f"{indent}{_scalar(key)}:", inner)
            yield from _mapping(one, depth + 1, inner)
        elif isinstance(one, list) and one:
            yield from _sequence(key, one, depth, inner)
        else:
            yield ManifestLine(f"{indent}{_scalar(key)}: {_scalar(one)}", inner)


def _below(place: str, key: str, depth: int) -> str:
    """The place of a field. Places begin below `spec`, and end at what one entry of a list is about."""
    if depth == 0:
        return ""
    if depth == 1:
        return key
    return f"{place}.{key}" if key in ("from", "to", "ports", "protocols") else place


def _sequence(key: str, items: list[Any], depth: int, place: str) -> Iterator[ManifestLine]:
    indent = "  " * depth
    real = any(not isinstance(one, _Comment) for one in items)
    yield ManifestLine(f"{indent}{_scalar(key)}:" + ("" if real else " []"), place)
    for number, one in enumerate(items):
        inner = f"{place}[{number}]" if place else ""
        if isinstance(one, _Comment):
            yield ManifestLine(f"{indent}# {_printable(one.text)}", inner)
        elif isinstance(one, dict) and one:
            first, *rest = _mapping(one, depth + 1, inner)
            yield ManifestLine(f"{indent}- {first.text.lstrip()}", first.place or inner)
            yield from rest
        else:
            yield ManifestLine(f"{indent}- {_scalar(one)}", inner)


def _scalar(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        plain = _PLAIN.match(value) and value.lower() not in _WORDS
        return value if plain else json.dumps(value)
    return "{}" if isinstance(value, dict) else "[]"


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)
