"""From an untrusted `networking.k8s.io/v1` NetworkPolicy to a Policy, with the API server's validation and defaults.

Parsing fails closed. A rule with an error is left out as a whole and keeps its place as None. An invalid podSelector
selects the whole namespace, invalid policyTypes isolate in both directions, and with either no rule counts. What rules
mean is decided in `flows.policy`.
Source: k8s.io/kubernetes, pkg/apis/networking, validation and v1 defaults.
"""

from __future__ import annotations

from functools import lru_cache

from flows.cluster.model import (
    EVERYTHING,
    NETWORK_POLICY,
    AuditMode,
    Direction,
    IPBlock,
    Peer,
    Policy,
    PortSpec,
    Protocol,
    Rule,
    Selector,
)
from flows.cluster.net import ADDRESS_BITS, Net, parse_address, parse_network
from flows.cluster.tuples import new_tuple
from flows.parse.audit import audit_at
from flows.parse.names import port_name_error
from flows.parse.selector import selector_at, simple_selector
from flows.parse.staging import staged_by_annotation
from flows.parse.untrusted import (
    EMPTY_OBJECT,
    Errors,
    FieldError,
    JsonObject,
    check_known_fields,
    describe,
    each_object,
    first_errors,
    list_at,
    namespaced_key,
    not_a_string,
    port_number_error,
    protocol_at,
    quote,
    require_object,
)
from flows.policy import flow_limits
from flows.policy.flow_limits import policy_flows

# The known fields of each object. Others are errors, as with kubectl's strict validation: a misspelt `from` would allow
# every peer.
_SPEC = frozenset({"podSelector", "policyTypes", "ingress", "egress"})
_RULE = {name: frozenset({name, "ports"}) for name in ("from", "to")}
_PEER = frozenset({"podSelector", "namespaceSelector", "ipBlock"})
_BLOCK = frozenset({"cidr", "except"})
_PORT = frozenset({"protocol", "port", "endPort"})
_INGRESS_ONLY = frozenset({Direction.INGRESS})
_EGRESS_ONLY = frozenset({Direction.EGRESS})
_BOTH = frozenset(Direction)
_NEITHER: frozenset[Direction] = frozenset()
_TYPES = {"Ingress": _INGRESS_ONLY, "Egress": _EGRESS_ONLY}
_NO_CIDR = "is not a prefix in CIDR form, like 10.9.8.0/24 or 2001:db8::/64; numbers have no leading zeros"
_MAPPED = Net(6, 0xFFFF << 32, 96)  # ::ffff:0:0/96, IPv4-mapped IPv6


def parse_policy(untrusted: object, errors: Errors) -> Policy:
    """A NetworkPolicy. Each error is appended to `errors`, and is in the policy's `errors` as text.

    Raises ParseError when metadata is not usable.
    """
    whole = require_object(untrusted, NETWORK_POLICY)
    metadata, key = namespaced_key(whole, NETWORK_POLICY)
    spec = whole.get("spec")
    found: Errors = []
    if spec is None:
        spec = EMPTY_OBJECT  # the API decodes an absent spec as an empty one: all pods, ingress isolated
    if not isinstance(spec, dict):
        found.append(FieldError("spec", f"must be an object, not {describe(spec)}"))
        policy = Policy(key, EVERYTHING, _BOTH, (), (), (str(found[0]),))
    else:
        check_known_fields(spec, _SPEC, "spec", found)
        subjects = selector_at(spec, "podSelector", "spec", found)
        isolates = _isolates(spec, found)
        valid = not found
        ingress = _rules(spec, "ingress", "from", found)
        egress = _rules(spec, "egress", "to", found)
        if not valid:
            # Rules for the wrong pods or direction could allow what other policies isolate.
            ingress, egress = (None,) * len(ingress), (None,) * len(egress)
        # An absent podSelector is the empty one. An invalid one selects everything too, so that no pod that its author
        # meant stays open.
        found = list(first_errors(found))
        texts = tuple(map(str, found)) if found else ()
        fields = (key, subjects or EVERYTHING, isolates, ingress, egress, texts, AuditMode.OFF, None)
        policy = new_tuple(Policy, fields)
        policy = _with_bounded_flows(policy, found)
    if "annotations" in metadata:
        policy = staged_by_annotation(policy, metadata, found)
    errors.extend(found)
    audit = audit_at(metadata, errors)
    return policy if audit is None else policy._replace(audit=audit)


def _with_bounded_flows(policy: Policy, errors: Errors) -> Policy:
    """The policy; without any of its rules when they are too many flows, because no choice among them would be the
    author's."""
    flows = policy_flows(policy)
    if flows <= flow_limits.MAX_POLICY_FLOWS:
        return policy
    reason = f"its prefixes without their exceptions, and its ports, are {flows:,} flows; a policy may have"
    error = FieldError("spec", f"{reason} {flow_limits.MAX_POLICY_FLOWS:,}; none of its rules counts")
    errors.append(error)
    ingress, egress = (None,) * len(policy.ingress), (None,) * len(policy.egress)
    return policy._replace(ingress=ingress, egress=egress, errors=(*policy.errors, str(error)))


def _isolates(spec: JsonObject, errors: Errors) -> frozenset[Direction]:
    """The directions in which the policy isolates; both when policyTypes are invalid."""
    types = spec.get("policyTypes")
    if types is None or types == []:
        # Absent and empty mean the same: ingress always, and egress only when there is an egress rule. So `egress: []`
        # does not isolate. An egress field that is not a list isolates too.
        egress = spec.get("egress")
        return _INGRESS_ONLY if egress is None or egress == [] else _BOTH
    if not isinstance(types, list):
        errors.append(FieldError("spec.policyTypes", f"must be a list, not {describe(types)}"))
        return _BOTH
    if len(types) > 2:
        errors.append(FieldError("spec.policyTypes", "must not have more than two entries"))
        return _BOTH
    isolates = _NEITHER
    for index, value in enumerate(types):
        direction = _TYPES.get(value) if isinstance(value, str) else None
        if direction is None:
            errors.append(FieldError(f"spec.policyTypes[{index}]", f"must be Ingress or Egress, not {describe(value)}"))
            return _BOTH
        isolates = direction if isolates in (_NEITHER, direction) else _BOTH
    return isolates


def _rules(spec: JsonObject, name: str, peers_name: str, errors: Errors) -> tuple[Rule | None, ...]:
    if name not in spec:
        return ()
    items = list_at(spec, name, "spec", errors)
    return tuple([_rule(item, peers_name, f"spec.{name}[{index}]", errors) for index, item in enumerate(items)])


def _rule(untrusted: object, peers_name: str, path: str, errors: Errors) -> Rule | None:
    """One rule, or None when anything in it is invalid.

    A rule without its invalid peer or port would not be the rule that its author meant, and one whose list of peers or
    ports became empty would allow everything.
    """
    before = len(errors)
    if untrusted is None:
        untrusted = EMPTY_OBJECT  # a null in a list is the empty object to the API, and an empty rule allows everything
    if not isinstance(untrusted, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(untrusted)}"))
        return None
    check_known_fields(untrusted, _RULE[peers_name], path, errors)
    peers = each_object(untrusted, peers_name, path, _peer, errors)
    ports = each_object(untrusted, "ports", path, _port, errors)
    return new_tuple(Rule, (peers, ports)) if len(errors) == before else None


def _peer(fields: JsonObject, path: str, errors: Errors) -> Peer | None:
    if len(fields) == 1 and (simple := simple_selector(fields.get("podSelector"))) is not None:
        return _shared_peer(simple, None)
    before = len(errors)
    check_known_fields(fields, _PEER, path, errors)
    pods = selector_at(fields, "podSelector", path, errors)
    namespaces = selector_at(fields, "namespaceSelector", path, errors)
    selects = fields.get("podSelector") is not None or fields.get("namespaceSelector") is not None
    block = None
    if fields.get("ipBlock") is not None:
        if selects:
            errors.append(FieldError(path, "must not have both an ipBlock and a selector"))
        block = _ip_block(fields["ipBlock"], f"{path}.ipBlock", errors)
    elif not selects:
        # A peer without any of the three does not mean every peer: the API server refuses it.
        errors.append(FieldError(path, "must have a podSelector, a namespaceSelector or an ipBlock"))
    if len(errors) != before:
        return None
    return Peer(None, None, block) if block else _shared_peer(pods, namespaces)


@lru_cache(1 << 14)
def _shared_peer(pods: Selector | None, namespaces: Selector | None) -> Peer:
    return Peer(pods, namespaces)


def _ip_block(untrusted: object, path: str, errors: Errors) -> IPBlock | None:
    if not isinstance(untrusted, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(untrusted)}"))
        return None
    check_known_fields(untrusted, _BLOCK, path, errors)
    cidr = _network(untrusted, "cidr", path, errors)
    excepts = []
    for index, item in enumerate(list_at(untrusted, "except", path, errors)):
        where = f"{path}.except[{index}]"
        net = _network_of("" if item is None else item, where, errors)
        if net is None or cidr is None:
            continue
        # Each exception lies inside the block and is smaller than it.
        if not cidr.contains(net) or cidr.prefix >= net.prefix:
            errors.append(FieldError(where, f"{quote(str(item))} must be a strict subset of the cidr {cidr}"))
        excepts.append(net)
    return IPBlock(cidr, tuple(excepts)) if cidr is not None else None


def _network(fields: JsonObject, name: str, path: str, errors: Errors) -> Net | None:
    value = fields.get(name)
    if value is None or value == "":
        errors.append(FieldError(f"{path}.{name}", "is required"))
        return None
    return _network_of(value, f"{path}.{name}", errors)


def _network_of(value: object, path: str, errors: Errors) -> Net | None:
    if not isinstance(value, str):
        errors.append(FieldError(path, not_a_string(value)))
        return None
    net = parse_cidr(value)
    if isinstance(net, str):
        errors.append(FieldError(path, f"{quote(value)} {net}"))
        return None
    return net


@lru_cache(1 << 14)
def parse_cidr(text: str, masked: bool = False) -> Net | str:
    """A prefix, or the error in the text.

    Host bits are cleared, or are an error if the prefix must be `masked`: newer API servers refuse them in new objects,
    but stored objects may have them. Leading zeros
    are refused, because programs differ on whether they mean octal. IPv4-mapped IPv6 is refused, because it names IPv4
    addresses, which an IPv6 match misses.
    """
    _, slash, length = text.partition("/")
    if not slash or not (length.isascii() and length.isdigit()):  # 10.0.0.0/255.0.0.0 is refused too
        return _NO_CIDR
    if length != "0" and length.startswith("0"):
        return "must not have leading zeros in its prefix length"
    try:
        net = parse_network(text)
    except ValueError:
        return _NO_CIDR
    if _MAPPED.contains(net):
        return "must not be IPv4-mapped IPv6; write the IPv4 prefix"
    if masked and parse_address(text.partition("/")[0]) != net._replace(prefix=ADDRESS_BITS[net.version]):
        return f"must have no host bits; write {net}"
    return net


def _port(fields: JsonObject, path: str, errors: Errors) -> PortSpec | None:
    before = len(errors)
    check_known_fields(fields, _PORT, path, errors)
    protocol = protocol_at(fields, path, errors)
    port, end_port = fields.get("port"), fields.get("endPort")
    if isinstance(port, str):
        # A string is a container port's name, even if it looks like a number.
        if error := port_name_error(port):
            errors.append(FieldError(f"{path}.port", f"{quote(port)} {error}"))
    elif port is not None and (error := port_number_error(port)):
        errors.append(FieldError(f"{path}.port", error))
    if end_port is not None and (error := _end_port_error(port, end_port)):
        errors.append(FieldError(f"{path}.endPort", error))
    if len(errors) != before or protocol is None:
        return None
    number = port if isinstance(port, (int, str)) else None
    return _shared_port(protocol, number, end_port if isinstance(end_port, int) else None)


def _end_port_error(port: object, end_port: object) -> str:
    """What is wrong with the end of a range; "" when nothing is. Both ends are numbers, the second not smaller."""
    if error := port_number_error(end_port):
        return error
    if port is None:
        return "must not be given without a port"
    if isinstance(port, str):
        return "must not be given beside a port's name"
    if isinstance(port, int) and isinstance(end_port, int) and end_port < port:
        return "must not be smaller than port"
    return ""


@lru_cache(1 << 14)
def _shared_port(protocol: Protocol, port: int | str | None, end_port: int | None) -> PortSpec:
    return PortSpec(protocol, port, end_port)
