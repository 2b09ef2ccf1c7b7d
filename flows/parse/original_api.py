"""The original network policy API (alpha and beta, before `networking.k8s.io`), parsed into Policies.

In both versions a namespace isolates its pods, by an annotation, and policies only allow. `parse_isolation` reads the
annotations, `parse_alpha_policy` and `parse_beta_policy` the policies. `flows.cluster.original_api` turns both into
Policies of a snapshot; `flows.policy` knows nothing of the original API. Sources: for alpha the Kubernetes blog of
April 2016 and the Calico and Romana controllers of the time, for beta docs/proposals/network-policy.md and
pkg/apis/extensions of Kubernetes 1.3 to 1.6. See docs/semantics.md for both.
"""

from __future__ import annotations

import json
from types import MappingProxyType

from flows.cluster.model import (
    EVERYTHING,
    NETWORK_POLICY,
    Direction,
    Key,
    Labels,
    Operator,
    OriginalApi,
    Peer,
    Policy,
    PortSpec,
    Protocol,
    Requirement,
    Rule,
    Selector,
)
from flows.cluster.original_api import ALPHA_ANNOTATION, BETA_ANNOTATION, BETA_API, OriginalPolicy
from flows.parse.names import port_name_error
from flows.parse.network_policy import parse_policy
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    describe,
    first_errors,
    labels_at,
    list_at,
    namespaced_key,
    object_at,
    port_number_error,
    protocol_at,
    quote,
    require_object,
)

_INGRESS = frozenset({Direction.INGRESS})
_NOWHERE: frozenset[Direction] = frozenset()
# YAML reads each of these words, unquoted, as a boolean, so a boolean value stands for one of them.
_ALPHA_VALUES = MappingProxyType({"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False})
_NO_PODS = Selector((Requirement("nobody", Operator.IN, ()),))
_MATCH_NONE = Rule((Peer(pods=_NO_PODS),))  # a rule that matches no packet


def _original_policy(
    api: OriginalApi, key: Key, subjects: Selector, rules: tuple[Rule | None, ...], errors: Errors
) -> OriginalPolicy:
    name = Key(key.namespace, f"{api.value}:{key.name}")
    policy = Policy(name, subjects, _INGRESS, rules, (), tuple(map(str, first_errors(errors))))
    return OriginalPolicy(api, key, policy, policy._replace(isolates=_NOWHERE))


def parse_isolation(metadata: JsonObject, errors: Errors) -> frozenset[OriginalApi]:
    """The versions of the original API in which a Namespace isolates its pods for ingress.

    An invalid annotation isolates, and is appended to `errors`: pods isolated by mistake are noticed, pods open by
    mistake are not. The annotation's previous value is not used, because it is unknown after a restart.
    """
    annotations = metadata.get("annotations")
    if annotations is None:
        return frozenset()
    if not isinstance(annotations, dict):
        errors.append(FieldError("metadata.annotations", f"must be an object, not {describe(annotations)}"))
        return frozenset(OriginalApi)
    apis = set()
    if ALPHA_ANNOTATION in annotations:
        isolated = _alpha_isolates(annotations[ALPHA_ANNOTATION], f"metadata.annotations[{ALPHA_ANNOTATION}]", errors)
        apis |= {OriginalApi.ALPHA} if isolated else set()
    if BETA_ANNOTATION in annotations:
        isolated = _beta_isolates(annotations[BETA_ANNOTATION], f"metadata.annotations[{BETA_ANNOTATION}]", errors)
        apis |= {OriginalApi.BETA} if isolated else set()
    return frozenset(apis)


def _alpha_isolates(value: object, path: str, errors: Errors) -> bool:
    if isinstance(value, bool):
        return value
    found = _ALPHA_VALUES.get(value) if isinstance(value, str) else None
    if found is None:
        wanted = "must be on, yes or true to isolate, or off, no or false"
        errors.append(FieldError(path, f"{wanted}, not {describe(value)}"))
    return found is not False


def _beta_isolates(value: object, path: str, errors: Errors) -> bool:
    if not isinstance(value, str):
        isolated, reason = True, f"must be JSON in a string, not {describe(value)}"
    else:
        try:
            annotation = json.loads(value)
        except (ValueError, RecursionError):
            isolated, reason = True, f"must be JSON, not {describe(value)}"
        else:
            isolated, reason = _parsed_beta_isolates(annotation)
    if reason:
        errors.append(FieldError(path, reason))
    return isolated


def _parsed_beta_isolates(annotation: object) -> tuple[bool, str]:
    """Whether the annotation's JSON isolates, and the error in it or "". As in the API, a null is an absent field."""
    if annotation is None:
        return False, ""
    if not isinstance(annotation, dict):
        return True, f"must be an object, not {describe(annotation)}"
    ingress = annotation.get("ingress")
    if ingress is not None and not isinstance(ingress, dict):
        return True, f"must have an object as ingress, not {describe(ingress)}"
    isolation = ingress.get("isolation") if ingress else None
    if isolation not in (None, "DefaultDeny"):
        return True, f"must have DefaultDeny as ingress.isolation, not {describe(isolation)}"
    egress = annotation.get("egress") is not None
    return isolation is not None, "isolates ingress only: egress in it has no effect" if egress else ""


def parse_alpha_policy(untrusted: object, errors: Errors) -> OriginalPolicy:
    """A `net.alpha.kubernetes.io/v1alpha1` NetworkPolicy; its errors are appended to `errors`.

    It has at most one rule; with any error it allows nothing. Raises ParseError when metadata is not usable.
    """
    whole = require_object(untrusted, NETWORK_POLICY)
    _, key = namespaced_key(whole, NETWORK_POLICY)
    found: Errors = []
    spec = object_at(whole, "spec", "", found)
    if whole.get("spec") is None:
        found.append(FieldError("spec", "is required"))
    if spec and spec.get("podSelector") is None:
        found.append(FieldError("spec.podSelector", "is required; {} selects all pods of the namespace"))
    subjects = _label_map(spec, "podSelector", "spec", found) or EVERYTHING
    incoming = spec.get("allowIncoming")
    # Without allowIncoming nothing is allowed.
    rules: tuple[Rule | None, ...] = () if incoming is None else (_alpha_rule(incoming, "spec.allowIncoming", found),)
    if found:
        rules = (None,) * len(rules)
    errors.extend(first_errors(found))
    return _original_policy(OriginalApi.ALPHA, key, subjects, rules, found)


def _alpha_rule(rule: object, path: str, errors: Errors) -> Rule | None:
    if not isinstance(rule, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(rule)}"))
        return None
    before = len(errors)
    peers = [_peer(one, f"{path}.from[{n}]", errors) for n, one in enumerate(list_at(rule, "from", path, errors))]
    ports = [_port(one, f"{path}.toPorts[{n}]", errors) for n, one in enumerate(list_at(rule, "toPorts", path, errors))]
    if len(errors) != before:
        return None
    parsed = Rule(tuple(peer for peer in peers if peer), tuple(port for port in ports if port))
    return _MATCH_NONE if _has_empty_list(rule, "from", "toPorts") else parsed


def _peer(untrusted: object, path: str, errors: Errors) -> Peer | None:
    """Pods of the policy's own namespace by their labels, or all pods of namespaces by theirs.

    With both in one entry both must match, as in v1. The API of the time demanded just one and does not define both.
    """
    if not isinstance(untrusted, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(untrusted)}"))
        return None
    pods, namespaces = (_label_map(untrusted, name, path, errors) for name in ("pods", "namespaces"))
    if untrusted.get("pods") is None and untrusted.get("namespaces") is None:
        errors.append(FieldError(path, "must have pods or namespaces"))
    return Peer(pods, namespaces)


def _port(untrusted: object, path: str, errors: Errors) -> PortSpec | None:
    """A number or a container port's name; without either every port of the protocol, by default TCP."""
    if not isinstance(untrusted, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(untrusted)}"))
        return None
    protocol = protocol_at(_with_upper_case_protocol(untrusted), path, errors)
    port = untrusted.get("port")
    if isinstance(port, str):
        if error := port_name_error(port):
            errors.append(FieldError(f"{path}.port", f"{quote(port)} {error}"))
    elif port is not None and (error := port_number_error(port)):
        errors.append(FieldError(f"{path}.port", error))
    return PortSpec(protocol, port if isinstance(port, (int, str)) else None) if protocol else None


def _label_map(parent: JsonObject, name: str, path: str, errors: Errors) -> Selector | None:
    """A map of labels as a selector: all labels must be equal, so the empty map selects all. None when absent."""
    if parent.get(name) is None:
        return None
    labels: Labels = labels_at(parent, name, path, errors)
    return Selector(tuple(Requirement(key, Operator.IN, (value,)) for key, value in sorted(labels.items())))


def parse_beta_policy(untrusted: object, errors: Errors) -> OriginalPolicy:
    """An `extensions/v1beta1` NetworkPolicy; its errors are appended to `errors`.

    It has v1's fields. Egress fields have no effect, because in beta the namespace isolates, and only for ingress; they
    are reported as errors. Raises ParseError when metadata is not usable.
    """
    whole = require_object(untrusted, NETWORK_POLICY)
    found: Errors = []
    spec = whole.get("spec")
    ingress = spec.get("ingress") if isinstance(spec, dict) else None
    if isinstance(spec, dict) and isinstance(ingress, list):
        whole = {**whole, "spec": {**spec, "ingress": [_with_upper_case_ports(one) for one in ingress]}}
    policy = parse_policy(whole, found)
    rules = policy.rules(Direction.INGRESS)
    if isinstance(ingress, list) and rules:
        pairs = zip(rules, ingress, strict=True)
        rules = tuple(_MATCH_NONE if rule and _has_empty_list(one, "from", "ports") else rule for rule, one in pairs)
    if not found and Direction.EGRESS in policy.isolates:
        field = "spec.egress" if policy.egress else "spec.policyTypes"
        found.append(FieldError(field, f"has no effect in {BETA_API}: egress is isolated by networking.k8s.io/v1"))
    errors.extend(first_errors(found))
    return _original_policy(OriginalApi.BETA, policy.key, policy.subjects, rules, found)


def _has_empty_list(untrusted: object, *names: str) -> bool:
    """True when one of these lists is empty. An absent list matches all, an empty one nothing (the API's documentation
    up to Kubernetes 1.6)."""
    return isinstance(untrusted, dict) and any(untrusted.get(name) == [] for name in names)


def _with_upper_case_ports(rule: object) -> object:
    if isinstance(rule, dict) and isinstance(rule.get("ports"), list):
        return {
            **rule,
            "ports": [_with_upper_case_protocol(one) if isinstance(one, dict) else one for one in rule["ports"]],
        }
    return rule


def _with_upper_case_protocol(port: JsonObject) -> JsonObject:
    """A port with its protocol in upper case: `tcp` was valid too, and was used in the documentation."""
    protocol = port.get("protocol")
    if isinstance(protocol, str) and protocol.upper() in Protocol.__members__:
        return {**port, "protocol": protocol.upper()}
    return port
