"""Findings about selectors and names that match nothing: of subjects, peers, namespaces and port names."""

from __future__ import annotations

from collections.abc import Iterator

from flows.cluster.model import NETWORK_POLICY, Direction, Operator, Peer, Policy, Rule, Selector
from flows.cluster.selectors import matches, requirement_holds
from flows.lint.codes import (
    NOT_COUNTING,
    PEER_MATCHES_NOTHING,
    SELECTS_NOTHING,
    UNKNOWN_NAMESPACE_LABEL,
    UNKNOWN_PORT_NAME,
    Code,
    Finding,
)
from flows.lint.world import LintWorld, PodClass, near_text
from flows.policy.named_ports import named_ports

_POSITIVE = (Operator.IN, Operator.EXISTS)


def selector_findings(world: LintWorld, policy: Policy) -> Iterator[Finding]:
    """What of a policy matches nothing. Without any pod of the input nothing is said, for none could match."""
    subjects = world.subjects(policy)
    if world.classes and not subjects:
        home = world.by_namespace.get(policy.key.namespace, [])
        text = "selects no pod" + (
            _why(policy.subjects, home) if home else f": no pod of namespace {policy.key.namespace}"
        )
        yield _finding(SELECTS_NOTHING, policy, "spec.podSelector", text)
    for direction in Direction:
        rules = policy.ingress if direction is Direction.INGRESS else policy.egress
        if rules and policy.isolates and direction not in policy.isolates:
            text = f"{direction.value} rules do not count: policyTypes has no {direction.value.capitalize()}"
            yield _finding(NOT_COUNTING, policy, f"spec.{direction.value}", text)
            continue
        for number, rule in enumerate(policy.rules(direction)):
            if rule is not None:
                yield from _rule_findings(world, policy, direction, f"spec.{direction.value}[{number}]", rule, subjects)


def _finding(code: Code, policy: Policy, field: str, text: str) -> Finding:
    return Finding(code, NETWORK_POLICY, str(policy.key), field, text)


def _rule_findings(
    world: LintWorld, policy: Policy, direction: Direction, where: str, rule: Rule, subjects: list[PodClass]
) -> Iterator[Finding]:
    word = "from" if direction is Direction.INGRESS else "to"
    for number, peer in enumerate(rule.peers):
        if peer.ip_block is None:
            yield from _peer_findings(world, policy, f"{where}.{word}[{number}]", peer)
    if not world.classes or not subjects:
        return
    at = subjects if direction is Direction.INGRESS else _destinations(world, policy, rule)
    for number, spec in enumerate(rule.ports):
        if not named_ports((spec,)) or not at:
            continue
        if not any((own.name, own.protocol) == (spec.port, spec.protocol) for one in at for own in one.ports):
            known = sorted({own.name for one in at for own in one.ports if own.protocol == spec.protocol})
            have = f"; they have {', '.join(known[:5])}" if known else ""
            whose = "none of its pods" if direction is Direction.INGRESS else "no pod that it names"
            text = f"{whose} has a port named {spec.port} ({spec.protocol.name}){have}"
            yield _finding(UNKNOWN_PORT_NAME, policy, f"{where}.ports[{number}].port", text)


def _destinations(world: LintWorld, policy: Policy, rule: Rule) -> list[PodClass]:
    if not rule.peers or any(peer.ip_block is not None for peer in rule.peers):
        return world.classes
    return [one for peer in rule.peers for one in world.matched(policy.key.namespace, peer)]


def _peer_findings(world: LintWorld, policy: Policy, where: str, peer: Peer) -> Iterator[Finding]:
    known = world.cluster.namespaces
    if peer.namespaces is not None and known:
        missing = False
        for one in peer.namespaces.requirements:
            if one.operator in _POSITIVE and not any(requirement_holds(one, ns.labels) for ns in known.values()):
                missing = True
                wanted = " or ".join(f"{one.key}={value}" for value in one.values[:5]) or one.key
                pairs = [f"{key}={value}" for ns in known.values() for key, value in ns.labels.items()]
                near = near_text(wanted, sorted(set(pairs)))
                field = f"{where}.namespaceSelector"
                yield _finding(UNKNOWN_NAMESPACE_LABEL, policy, field, f"no namespace has the label {wanted}{near}")
        if missing:
            return
    if world.classes and not world.matched(policy.key.namespace, peer):
        yield _finding(PEER_MATCHES_NOTHING, policy, where, f"matches no pod{_why_peer(world, policy, peer)}")


def _why_peer(world: LintWorld, policy: Policy, peer: Peer) -> str:
    """The label that no candidate has, or that pods elsewhere have."""
    if peer.pods is None:
        return ""
    if peer.namespaces is None and any(matches(peer.pods, one.labels) for one in world.classes):
        return f" of namespace {policy.key.namespace}; pods of others need a namespaceSelector beside it"
    return _why(peer.pods, world.classes)


def _why(selector: Selector, pods: list[PodClass]) -> str:
    """The first requirement that no pod meets, and a near label."""
    for one in selector.requirements:
        if not any(requirement_holds(one, pod.labels) for pod in pods):
            wanted = " or ".join(f"{one.key}={value}" for value in one.values[:5]) or one.key
            pairs = {f"{key}={value}" for pod in pods for key, value in pod.labels.items()}
            return f": none has {wanted}{near_text(wanted, sorted(pairs))}"
    return ""
