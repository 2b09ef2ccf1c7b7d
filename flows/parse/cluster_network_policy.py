"""From an untrusted `policy.networking.k8s.io` ClusterNetworkPolicy (v1beta1 or v1alpha2) to a ClusterPolicy.

Parsing fails closed, by action: a rule with an error is kept as `unreadable`, which matches nothing with Accept and
denies everything with Deny, with Pass and with an action that is not known. Where the tier, the priority or the subject
cannot be read, no rule can: they are then those of the first tier, of priority 0, and of every pod. What rules mean is
decided in `flows.policy`. Peers and subjects are shared with `admin_network_policy`.
Source: the CRD and the types of sigs.k8s.io/network-policy-api v0.3.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flows.cluster.domain_names import normal_pattern
from flows.cluster.model import (
    CLUSTER_NETWORK_POLICY,
    EVERYTHING,
    Action,
    ClusterPolicy,
    ClusterRule,
    Direction,
    DomainPeer,
    IPBlock,
    Key,
    NodePeer,
    Peer,
    PortSpec,
    Selector,
    Subject,
    Tier,
)
from flows.cluster.net import Net
from flows.parse.audit import audit_at
from flows.parse.cluster_policy_ports import only_field, protocol_entry
from flows.parse.network_policy import parse_cidr
from flows.parse.selector import selector_at
from flows.parse.staging import in_force_whatever_its_annotation
from flows.parse.untrusted import (
    EMPTY_OBJECT,
    Errors,
    FieldError,
    JsonObject,
    check_known_fields,
    cluster_name,
    describe,
    first_errors,
    list_at,
    not_a_string,
    quote,
    require_object,
    string_at,
)

CLUSTER_POLICY_GROUP = "policy.networking.k8s.io"
V1BETA1, V1ALPHA2 = f"{CLUSTER_POLICY_GROUP}/v1beta1", f"{CLUSTER_POLICY_GROUP}/v1alpha2"
MAX_PRIORITY = 1000
MAX_RULE_NAME = 100
MAX_ENTRIES = 25  # rules of a direction, peers and protocols of a rule, networks of a peer
_SPEC = frozenset({"tier", "priority", "subject", "ingress", "egress"})
_SUBJECT = frozenset({"namespaces", "pods"})
_PODS = frozenset({"namespaceSelector", "podSelector"})
_INGRESS_PEER = frozenset({"namespaces", "pods"})
_EGRESS_PEER = frozenset({"namespaces", "pods", "nodes", "networks", "domainNames"})
_TIERS = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
AnyPeer = Peer | NodePeer | DomainPeer
PortReader = Callable[[JsonObject, str, Errors], tuple[PortSpec, ...]]


class Dialect(NamedTuple):
    """In what the versions of the API differ: the actions by name, the field of a rule's ports and what reads one entry
    of it, the most rules, peers and ports, and whether networks may have host bits, domain names may be peers, and a
    namespaceSelector may be absent, which then selects all namespaces."""

    actions: dict[str, Action]
    ports_field: str
    read_port: PortReader
    most: int = MAX_ENTRIES
    unmasked: bool = False
    names: bool = True
    every_namespace: bool = True


def parse_cluster_policy(untrusted: object, errors: Errors) -> ClusterPolicy:
    """A ClusterNetworkPolicy. Each error is appended to `errors`, and is in the policy's `errors` as text.

    Raises ParseError when metadata is not usable.
    """
    whole = require_object(untrusted, CLUSTER_NETWORK_POLICY)
    metadata, name = cluster_name(whole, CLUSTER_NETWORK_POLICY)
    found: Errors = []
    spec = spec_at(whole, _SPEC, found)
    tier = _TIERS.get(value) if isinstance(value := spec.get("tier"), str) else None
    if tier is None:
        reason = "is required" if value is None else f"must be Admin or Baseline, not {describe(value)}"
        found.append(FieldError("spec.tier", reason))
    priority = priority_at(spec, found)
    policy = cluster_policy(Key("", name), CLUSTER_NETWORK_POLICY, (tier, priority), spec, _DIALECT, found, errors)
    return with_metadata(policy, metadata, errors)


def with_metadata(policy: ClusterPolicy, metadata: JsonObject, errors: Errors) -> ClusterPolicy:
    """The policy with what its metadata says beside its name: its generation, and annotations of Headgate's."""
    value = metadata.get("generation")
    generation = value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
    policy = in_force_whatever_its_annotation(policy._replace(generation=generation), metadata, errors)
    audit = audit_at(metadata, errors)
    return policy if audit is None else policy._replace(audit=audit)


def spec_at(whole: JsonObject, known: frozenset[str], errors: Errors) -> JsonObject:
    """The spec, whose fields must be among `known`; empty when it is no object, which is an error."""
    spec = whole.get("spec")
    if not isinstance(spec, dict):
        errors.append(FieldError("spec", "is required" if spec is None else f"must be an object, not {describe(spec)}"))
        return EMPTY_OBJECT
    check_known_fields(spec, known, "spec", errors)
    return spec


def priority_at(spec: JsonObject, errors: Errors) -> int:
    """The priority; 0, the first of all, when it is not usable, which is an error."""
    value = spec.get("priority")
    if isinstance(value, bool) or not isinstance(value, int):
        reason = "is required" if value is None else f"must be an integer, not {describe(value)}"
    elif 0 <= value <= MAX_PRIORITY:
        return value
    else:
        reason = f"must be between 0 and {MAX_PRIORITY}"
    errors.append(FieldError("spec.priority", reason))
    return 0


def cluster_policy(
    key: Key,
    kind: str,
    place: tuple[Tier | None, int],
    spec: JsonObject,
    dialect: Dialect,
    found: Errors,
    errors: Errors,
) -> ClusterPolicy:
    """The policy with this tier and priority. `found` has the errors so far: with any of them no rule can be read."""
    subject = _subject(spec, dialect, found)
    readable = not found
    tier, priority = place
    rules = {one: _rules(spec, one, dialect, readable, found) for one in Direction}
    if not readable and any(found for found in rules.values()):
        # What the author meant is not known, so it comes before all that is.
        tier, priority = Tier.ADMIN, 0
    shown = first_errors(found)
    errors.extend(shown)
    ingress, egress = rules[Direction.INGRESS], rules[Direction.EGRESS]
    texts = tuple(map(str, shown))
    return ClusterPolicy(key, kind, tier or Tier.ADMIN, priority, subject or Subject(), ingress, egress, texts)


def _subject(spec: JsonObject, dialect: Dialect, errors: Errors) -> Subject | None:
    path, fields = "spec.subject", spec.get("subject")
    if not isinstance(fields, dict):
        reason = "is required" if fields is None else f"must be an object, not {describe(fields)}"
        errors.append(FieldError(path, reason))
        return None
    before = len(errors)
    given = only_field(fields, _SUBJECT, path, errors)
    pods = _pods(fields, given, dialect, path, errors)
    if pods is None or pods.namespaces is None or len(errors) != before:
        return None
    return Subject(pods.namespaces, pods.pods or EVERYTHING)


def _pods(fields: JsonObject, given: str, dialect: Dialect, path: str, errors: Errors) -> Peer | None:
    """The pods of the field `namespaces` or `pods`, whichever is given. An empty selector selects everything."""
    if given == "namespaces":
        namespaces = _selector(fields, "namespaces", path, errors)
        return None if namespaces is None else Peer(None, namespaces)
    if given != "pods":
        return None
    path, pods = f"{path}.pods", fields["pods"]
    if not isinstance(pods, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(pods)}"))
        return None
    before = len(errors)
    check_known_fields(pods, _PODS, path, errors)
    for name in ("podSelector",) if dialect.every_namespace else ("podSelector", "namespaceSelector"):
        if pods.get(name) is None:
            errors.append(FieldError(f"{path}.{name}", "is required"))
    # Without a namespaceSelector the pods of all namespaces are meant: the API decodes it as an empty one.
    namespaces, selected = (_selector(pods, name, path, errors) for name in ("namespaceSelector", "podSelector"))
    return Peer(selected, namespaces or EVERYTHING) if len(errors) == before else None


def _selector(fields: JsonObject, name: str, path: str, errors: Errors) -> Selector | None:
    return selector_at(fields, name, path, errors, null_values=False)


def _rules(
    spec: JsonObject, direction: Direction, dialect: Dialect, readable: bool, errors: Errors
) -> tuple[ClusterRule, ...]:
    path = f"spec.{direction.value}"
    before = len(errors)
    items = list_at(spec, direction.value, "spec", errors)
    if len(errors) != before:
        return (ClusterRule(Action.DENY, unreadable=True),)
    rules = [
        _rule(item, direction, dialect, f"{path}[{index}]", errors) for index, item in enumerate(items[: dialect.most])
    ]
    if len(items) > dialect.most:
        errors.append(FieldError(path, f"must not have more than {dialect.most} rules"))
        rest = {_action(item, dialect) for item in items[dialect.most :]}
        rules += [ClusterRule(Action.DENY, unreadable=True)] if rest != {Action.ACCEPT} else []
    return tuple(rules) if readable else tuple([ClusterRule(one.action, (), (), one.name, True) for one in rules])


def _action(untrusted: object, dialect: Dialect) -> Action | None:
    value = untrusted.get("action") if isinstance(untrusted, dict) else None
    return dialect.actions.get(value) if isinstance(value, str) else None


def _rule(untrusted: object, direction: Direction, dialect: Dialect, path: str, errors: Errors) -> ClusterRule:
    before = len(errors)
    action = _action(untrusted, dialect)
    if not isinstance(untrusted, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(untrusted)}"))
        return ClusterRule(Action.DENY, unreadable=True)
    if action is None:
        value, known = untrusted.get("action"), ", ".join(dialect.actions)
        reason = "is required" if value is None else f"must be one of {known}, not {describe(value)}"
        errors.append(FieldError(f"{path}.action", reason))
    peers_field = "from" if direction is Direction.INGRESS else "to"
    check_known_fields(untrusted, frozenset({"name", "action", peers_field, dialect.ports_field}), path, errors)
    name = string_at(untrusted, "name", path, errors)
    if len(name) > MAX_RULE_NAME:
        errors.append(FieldError(f"{path}.name", f"must be no more than {MAX_RULE_NAME} characters"))
    name = name[:MAX_RULE_NAME] if name.isprintable() else ""
    peers = _entries(untrusted, peers_field, path, dialect.most, errors, True)
    found = [peer for fields, where in peers for peer in _peers(fields, direction, dialect, where, errors)]
    protocols = _entries(untrusted, dialect.ports_field, path, dialect.most, errors, False)
    ports = [port for fields, where in protocols for port in dialect.read_port(fields, where, errors)]
    named = any(isinstance(port.port, str) for port in ports)
    if direction is Direction.EGRESS and named and not all(_selects_pods(peer) for peer in found):
        errors.append(
            FieldError(path, "must not name a port beside nodes, networks or domain names, which have no named ports")
        )
    if any(isinstance(peer, DomainPeer) for peer in found) and action not in (Action.ACCEPT, None):
        errors.append(FieldError(path, f"must not name domains with {action}: only Accept may"))
    if len(errors) != before or action is None:
        return ClusterRule(action or Action.DENY, (), (), name, unreadable=True)
    return ClusterRule(action, tuple(dict.fromkeys(found)), tuple(dict.fromkeys(ports)), name)


def _selects_pods(peer: AnyPeer) -> bool:
    return isinstance(peer, Peer) and peer.ip_block is None


def _entries(
    fields: JsonObject, name: str, path: str, most: int, errors: Errors, required: bool
) -> list[tuple[JsonObject, str]]:
    """The objects of a list, with their paths. An empty list is an error, and an absent one if it is `required`."""
    items, where = list_at(fields, name, path, errors), f"{path}.{name}"
    if fields.get(name) is None and not required:
        return []
    if not items:
        errors.append(FieldError(where, "must have an entry"))
    if len(items) > most:
        errors.append(FieldError(where, f"must not have more than {most} entries"))
    found = []
    for index, item in enumerate(items[:most]):
        if isinstance(item, dict):
            found.append((item, f"{where}[{index}]"))
        else:
            errors.append(FieldError(f"{where}[{index}]", f"must be an object, not {describe(item)}"))
    return found


def _peers(fields: JsonObject, direction: Direction, dialect: Dialect, path: str, errors: Errors) -> list[AnyPeer]:
    known = _INGRESS_PEER if direction is Direction.INGRESS else _EGRESS_PEER
    given = only_field(fields, known, path, errors)
    if given == "nodes":
        nodes = _selector(fields, "nodes", path, errors)
        return [] if nodes is None else [NodePeer(nodes)]
    if given == "networks":
        nets = _networks(fields, dialect, f"{path}.networks", errors)
        return [Peer(ip_block=IPBlock(net)) for net in nets]
    if given == "domainNames":
        return _domain_names(fields, dialect, f"{path}.domainNames", errors)
    pods = _pods(fields, given, dialect, path, errors)
    return [] if pods is None else [pods]


def _domain_names(fields: JsonObject, dialect: Dialect, path: str, errors: Errors) -> list[AnyPeer]:
    if not dialect.names:
        errors.append(FieldError(path, "is not for a BaselineAdminNetworkPolicy"))
        return []
    items = fields["domainNames"]
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ENTRIES:
        errors.append(FieldError(path, f"must be a list of 1 to {MAX_ENTRIES} domain names"))
        return []
    found: list[AnyPeer] = []
    for index, item in enumerate(items):
        try:
            if not isinstance(item, str):
                raise ValueError(not_a_string(item))
            found.append(DomainPeer(normal_pattern(item)))
        except ValueError as error:
            errors.append(
                FieldError(f"{path}[{index}]", f"{quote(item)} {error}" if isinstance(item, str) else str(error))
            )
    return found


def _networks(fields: JsonObject, dialect: Dialect, path: str, errors: Errors) -> list[Net]:
    items = fields["networks"]
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ENTRIES:
        errors.append(FieldError(path, f"must be a list of 1 to {MAX_ENTRIES} prefixes"))
        return []
    found = []
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        if not isinstance(item, str):
            errors.append(FieldError(where, not_a_string(item)))
            continue
        net = parse_cidr(item, masked=not dialect.unmasked)
        if isinstance(net, str):
            errors.append(FieldError(where, f"{quote(item)} {net}"))
        else:
            found.append(net)
    return found


_DIALECT = Dialect({one.value: one for one in Action}, "protocols", protocol_entry)
