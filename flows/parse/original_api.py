"""The network policy API as it was before `networking.k8s.io`, translated into the same model: alpha and beta.

In both, the namespace isolates, by an annotation, and policies only open. `read_isolation` reads the annotations,
`read_alpha` and `read_beta` the policies, and `all_policies` makes plain Policies of a snapshot's: one for each
namespace that isolates, and one for each policy. What those mean stands in `verdict` and `compile`, which know nothing
of this. Sources: for alpha the Kubernetes blog of April 2016 and the Calico and Romana controllers of the time, for
beta docs/proposals/network-policy.md and pkg/apis/extensions of Kubernetes 1.3 to 1.6. docs/semantics.md tells both.
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
from flows.parse.network_policy import read_policy
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
# YAML reads each of these words, unquoted, as a boolean; and the other way round, a boolean can only be one of them.
_WORDS = MappingProxyType({"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False})
_NOBODY = Selector((Requirement("nobody", Operator.IN, ()),))
_NOTHING = Rule((Peer(pods=_NOBODY),))  # a rule that fits no packet


def _original_policy(
    api: OriginalApi, key: Key, subjects: Selector, rules: tuple[Rule | None, ...], errors: Errors
) -> OriginalPolicy:
    name = Key(key.namespace, f"{api.value}:{key.name}")
    policy = Policy(name, subjects, _INGRESS, rules, (), tuple(map(str, first_errors(errors))))
    return OriginalPolicy(api, key, policy, policy._replace(isolates=_NOWHERE))


def parse_isolation(metadata: JsonObject, errors: Errors) -> frozenset[OriginalApi]:
    """The forms in which a Namespace isolates its pods for ingress.

    What cannot be read isolates, and is appended to `errors`: somebody meant to say something of isolation, and pods
    that are shut by mistake are noticed, where pods that are open by mistake are not. What stood there before is no
    help, since after a restart nobody knows it.
    """
    annotations = metadata.get("annotations")
    if annotations is None:
        return frozenset()
    if not isinstance(annotations, dict):
        errors.append(FieldError("metadata.annotations", f"must be an object, not {describe(annotations)}"))
        return frozenset(OriginalApi)
    apis = set()
    if ALPHA_ANNOTATION in annotations:
        isolated = _alpha_word(annotations[ALPHA_ANNOTATION], f"metadata.annotations[{ALPHA_ANNOTATION}]", errors)
        apis |= {OriginalApi.ALPHA} if isolated else set()
    if BETA_ANNOTATION in annotations:
        isolated = _beta_text(annotations[BETA_ANNOTATION], f"metadata.annotations[{BETA_ANNOTATION}]", errors)
        apis |= {OriginalApi.BETA} if isolated else set()
    return frozenset(apis)


def _alpha_word(value: object, path: str, errors: Errors) -> bool:
    if isinstance(value, bool):
        return value
    found = _WORDS.get(value) if isinstance(value, str) else None
    if found is None:
        wanted = "must be on, yes or true to isolate, or off, no or false"
        errors.append(FieldError(path, f"{wanted}, not {describe(value)}"))
    return found is not False


def _beta_text(value: object, path: str, errors: Errors) -> bool:
    if not isinstance(value, str):
        isolated, reason = True, f"must be JSON in a string, not {describe(value)}"
    else:
        try:
            said = json.loads(value)
        except (ValueError, RecursionError):
            isolated, reason = True, f"must be JSON, not {describe(value)}"
        else:
            isolated, reason = _said(said)
    if reason:
        errors.append(FieldError(path, reason))
    return isolated


def _said(said: object) -> tuple[bool, str]:
    """Does the annotation's JSON isolate, and what is wrong with it. As in the API, a null is an absent field."""
    if said is None:
        return False, ""
    if not isinstance(said, dict):
        return True, f"must be an object, not {describe(said)}"
    ingress = said.get("ingress")
    if ingress is not None and not isinstance(ingress, dict):
        return True, f"must have an object as ingress, not {describe(ingress)}"
    isolation = ingress.get("isolation") if ingress else None
    if isolation not in (None, "DefaultDeny"):
        return True, f"must have DefaultDeny as ingress.isolation, not {describe(isolation)}"
    egress = said.get("egress") is not None
    return isolation is not None, "isolates ingress only: egress in it has no force" if egress else ""


def parse_alpha_policy(raw: object, errors: Errors) -> OriginalPolicy:
    """A `net.alpha.kubernetes.io/v1alpha1` NetworkPolicy; what is wrong with it is appended to `errors`.

    It has one rule at most, and with anything wrong in it, it opens nothing. Raises ParseError when metadata is not
    usable.
    """
    whole = require_object(raw, NETWORK_POLICY)
    _, key = namespaced_key(whole, NETWORK_POLICY)
    found: Errors = []
    spec = object_at(whole, "spec", "", found)
    if whole.get("spec") is None:
        found.append(FieldError("spec", "is required"))
    if spec and spec.get("podSelector") is None:
        found.append(FieldError("spec.podSelector", "is required; {} selects all pods of the namespace"))
    subjects = _label_map(spec, "podSelector", "spec", found) or EVERYTHING
    incoming = spec.get("allowIncoming")
    # Without allowIncoming nothing is opened.
    rules: tuple[Rule | None, ...] = () if incoming is None else (_incoming(incoming, "spec.allowIncoming", found),)
    if found:
        rules = (None,) * len(rules)
    errors.extend(first_errors(found))
    return _original_policy(OriginalApi.ALPHA, key, subjects, rules, found)


def _incoming(raw: object, path: str, errors: Errors) -> Rule | None:
    if not isinstance(raw, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(raw)}"))
        return None
    before = len(errors)
    peers = [_peer(one, f"{path}.from[{n}]", errors) for n, one in enumerate(list_at(raw, "from", path, errors))]
    ports = [_port(one, f"{path}.toPorts[{n}]", errors) for n, one in enumerate(list_at(raw, "toPorts", path, errors))]
    if len(errors) != before:
        return None
    rule = Rule(tuple(peer for peer in peers if peer), tuple(port for port in ports if port))
    return _NOTHING if _has_empty_list(raw, "from", "toPorts") else rule


def _peer(raw: object, path: str, errors: Errors) -> Peer | None:
    """Pods of the policy's own namespace by their labels, or all pods of namespaces by theirs.

    With both in one entry both must hold, as in v1. The API of the time wanted just one, so it says nothing of it.
    """
    if not isinstance(raw, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(raw)}"))
        return None
    pods, namespaces = (_label_map(raw, name, path, errors) for name in ("pods", "namespaces"))
    if raw.get("pods") is None and raw.get("namespaces") is None:
        errors.append(FieldError(path, "must have pods or namespaces"))
    return Peer(pods, namespaces)


def _port(raw: object, path: str, errors: Errors) -> PortSpec | None:
    """A number or a container port's name; without either every port of the protocol, which is TCP where absent."""
    if not isinstance(raw, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(raw)}"))
        return None
    protocol = protocol_at(_in_capitals(raw), path, errors)
    port = raw.get("port")
    if isinstance(port, str):
        if error := port_name_error(port):
            errors.append(FieldError(f"{path}.port", f"{quote(port)} {error}"))
    elif port is not None and (error := port_number_error(port)):
        errors.append(FieldError(f"{path}.port", error))
    return PortSpec(protocol, port if isinstance(port, (int, str)) else None) if protocol else None


def _label_map(parent: JsonObject, name: str, path: str, errors: Errors) -> Selector | None:
    """A plain map of labels as a selector: all of them equal, so that the empty one selects all. None when absent."""
    if parent.get(name) is None:
        return None
    labels: Labels = labels_at(parent, name, path, errors)
    return Selector(tuple(Requirement(key, Operator.IN, (value,)) for key, value in sorted(labels.items())))


def parse_beta_policy(raw: object, errors: Errors) -> OriginalPolicy:
    """An `extensions/v1beta1` NetworkPolicy; what is wrong with it is appended to `errors`.

    It has v1's fields. Those for egress came when it isolated by itself, so here they cannot have force, and that is
    told. Raises ParseError when metadata is not usable.
    """
    whole = require_object(raw, NETWORK_POLICY)
    found: Errors = []
    spec = whole.get("spec")
    ingress = spec.get("ingress") if isinstance(spec, dict) else None
    if isinstance(spec, dict) and isinstance(ingress, list):
        whole = {**whole, "spec": {**spec, "ingress": [_rule_in_capitals(one) for one in ingress]}}
    policy = read_policy(whole, found)
    rules = policy.rules(Direction.INGRESS)
    if isinstance(ingress, list) and rules:
        pairs = zip(rules, ingress, strict=True)
        rules = tuple(_NOTHING if rule and _has_empty_list(one, "from", "ports") else rule for rule, one in pairs)
    if not found and Direction.EGRESS in policy.isolates:
        field = "spec.egress" if policy.egress else "spec.policyTypes"
        found.append(FieldError(field, f"has no force in {BETA_API}: egress is isolated by networking.k8s.io/v1"))
    errors.extend(first_errors(found))
    return _original_policy(OriginalApi.BETA, policy.key, policy.subjects, rules, found)


def _has_empty_list(raw: object, *names: str) -> bool:
    """An absent list restricts nothing, an empty one fits nothing: so the API's documentation said up to 1.6."""
    return isinstance(raw, dict) and any(raw.get(name) == [] for name in names)


def _rule_in_capitals(raw: object) -> object:
    if isinstance(raw, dict) and isinstance(raw.get("ports"), list):
        return {**raw, "ports": [_in_capitals(one) if isinstance(one, dict) else one for one in raw["ports"]]}
    return raw


def _in_capitals(port: JsonObject) -> JsonObject:
    """A port with its protocol in capitals: `tcp` was taken too, and stood in the documentation."""
    protocol = port.get("protocol")
    if isinstance(protocol, str) and protocol.upper() in Protocol.__members__:
        return {**port, "protocol": protocol.upper()}
    return port
