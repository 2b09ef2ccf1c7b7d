"""AdminNetworkPolicy and BaselineAdminNetworkPolicy (`policy.networking.k8s.io/v1alpha1`) as ClusterPolicies.

Both became ClusterNetworkPolicy. An AdminNetworkPolicy is one of tier Admin; the BaselineAdminNetworkPolicy, of which a
cluster has one, is one of tier Baseline that comes after all others, and knows neither Pass nor domain names. Their
names get a prefix, as in `adminnetworkpolicy:x`, which no object's name can have. Allow is Accept, ports are written
otherwise, and no selector may be absent; everything else is read as in `cluster_network_policy`, and fails closed as
there.
Source: the types of sigs.k8s.io/network-policy-api v0.1.7.
"""

from __future__ import annotations

from flows.cluster.model import Action, ClusterPolicy, Key, PortSpec, Tier
from flows.parse.cluster_network_policy import (
    CLUSTER_POLICY_GROUP,
    MAX_PRIORITY,
    Dialect,
    cluster_policy,
    priority_at,
    spec_at,
    with_metadata,
)
from flows.parse.cluster_policy_ports import named_port, only_field, port_range
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    check_known_fields,
    cluster_name,
    describe,
    port_number_error,
    protocol_at,
    require_object,
)

V1ALPHA1 = f"{CLUSTER_POLICY_GROUP}/v1alpha1"
ADMIN_POLICY, BASELINE_POLICY = "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"
BASELINE_NAME = "default"
MAX_ENTRIES = 100  # rules of a direction, peers and ports of a rule
_SPEC = frozenset({"subject", "ingress", "egress"})
_PORT = frozenset({"portNumber", "namedPort", "portRange"})


def parse_admin_policy(untrusted: object, errors: Errors) -> ClusterPolicy:
    """An AdminNetworkPolicy. Errors are as with `parse_cluster_policy`. Raises ParseError."""
    whole = require_object(untrusted, ADMIN_POLICY)
    metadata, name = cluster_name(whole, ADMIN_POLICY)
    found: Errors = []
    spec = spec_at(whole, _SPEC | {"priority"}, found)
    place = Tier.ADMIN, priority_at(spec, found)
    key = Key("", f"{ADMIN_POLICY.lower()}:{name}")
    policy = cluster_policy(key, ADMIN_POLICY, place, spec, _DIALECT, found, errors)
    return with_metadata(policy, metadata, errors)


def parse_baseline_policy(untrusted: object, errors: Errors) -> ClusterPolicy:
    """The BaselineAdminNetworkPolicy. Errors are as with `parse_cluster_policy`. Raises ParseError."""
    whole = require_object(untrusted, BASELINE_POLICY)
    metadata, name = cluster_name(whole, BASELINE_POLICY)
    found: Errors = []
    if name != BASELINE_NAME:
        found.append(FieldError("metadata.name", f"must be {BASELINE_NAME}: a cluster has one {BASELINE_POLICY}"))
    spec = spec_at(whole, _SPEC, found)
    key = Key("", f"{BASELINE_POLICY.lower()}:{name}")
    place = Tier.BASELINE, MAX_PRIORITY + 1
    policy = cluster_policy(key, BASELINE_POLICY, place, spec, _BASELINE, found, errors)
    return with_metadata(policy, metadata, errors)


def _port(fields: JsonObject, path: str, errors: Errors) -> tuple[PortSpec, ...]:
    given = only_field(fields, _PORT, path, errors)
    if not given:
        return ()
    path, value = f"{path}.{given}", fields[given]
    if given == "namedPort":
        return named_port(value, path, errors)
    if not isinstance(value, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(value)}"))
        return ()
    numbers = {"port"} if given == "portNumber" else {"start", "end"}
    check_known_fields(value, frozenset({"protocol", *numbers}), path, errors)
    protocol = protocol_at(value, path, errors)
    if protocol is None:
        return ()
    if given == "portRange":
        return port_range(value, protocol, path, errors)
    number = value.get("port")
    if error := "is required" if number is None else port_number_error(number):
        errors.append(FieldError(f"{path}.port", error))
    return (PortSpec(protocol, number),) if isinstance(number, int) and not error else ()


_DIALECT = Dialect(
    {"Allow": Action.ACCEPT, "Deny": Action.DENY, "Pass": Action.PASS},
    "ports",
    _port,
    MAX_ENTRIES,
    unmasked=True,
    every_namespace=False,
)
_BASELINE = _DIALECT._replace(actions={"Allow": Action.ACCEPT, "Deny": Action.DENY}, names=False)
