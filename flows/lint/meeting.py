"""Findings about ends that do not meet: egress without DNS, and rules whose other end denies.

A connection needs both ends. These findings are about the pods that are in the input, and are said only where no pod of
the rule has the other half.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.cluster.model import NETWORK_POLICY, Direction, Policy, Protocol, Rule
from flows.lint.codes import DENIED_BY_TIER, HALVES, NO_DNS, Finding
from flows.lint.world import LintWorld, PodClass, overlap, port_ranges
from flows.policy.service_ranges import ServiceRange
from flows.reach.ports import EVERYTHING, some_ports

MAX_PAIRS = 2000  # of pods that are compared for one rule
DNS = ((int(Protocol.UDP), 53, 53),)
_DNS_PORT = some_ports([ServiceRange(Protocol.UDP, 53, 53)])
_OTHER = {Direction.INGRESS: Direction.EGRESS, Direction.EGRESS: Direction.INGRESS}


def meeting_findings(world: LintWorld, policy: Policy) -> Iterator[Finding]:
    """What a policy allows without effect, and DNS where it is forgotten."""
    subjects = world.subjects(policy)
    yield from _dns(world, policy, subjects)
    for direction in Direction:
        for number, rule in enumerate(policy.rules(direction)):
            if rule is None or not rule.peers or any(peer.ip_block is not None for peer in rule.peers):
                continue
            others = [one for peer in rule.peers for one in world.matched(policy.key.namespace, peer)]
            if not subjects or not others:
                continue
            meets = _meets(world, direction, rule, subjects, others)
            if world.has_tiers and _reached(world, direction, rule, subjects, others):
                continue
            if meets and not world.has_tiers:
                continue
            names = sorted({f"{one.sample.key}" for one in others})
            end = f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
            code, text = HALVES, f"{_OTHER[direction].value} policies of {end} deny all of it"
            if meets:
                code, text = DENIED_BY_TIER, f"ClusterNetworkPolicies deny all of it between its pods and {end}"
            field = f"spec.{direction.value}[{number}]"
            yield Finding(code, NETWORK_POLICY, str(policy.key), field, f"allows {direction.value}, but {text}")


def _reached(
    world: LintWorld, direction: Direction, rule: Rule, subjects: list[PodClass], others: list[PodClass]
) -> bool:
    """Whether some pod of the rule reaches, or is reached by, some peer on some port of it, all tiers considered."""
    at = subjects if direction is Direction.INGRESS else others
    ranges = (ServiceRange(Protocol(p), low, high) for one in at for p, low, high in port_ranges(rule.ports, one.ports))
    ports = some_ports(ranges) if rule.ports else EVERYTHING
    sources, targets = (others, subjects) if direction is Direction.INGRESS else (subjects, others)
    return any(world.reached(one, targets, ports) for one in sources[:MAX_PAIRS])


def _meets(
    world: LintWorld, direction: Direction, rule: Rule, subjects: list[PodClass], others: list[PodClass]
) -> bool:
    """Whether some pod of the rule and some peer meet on some port; true where there are too many to compare."""
    pairs = 0
    for one in subjects:
        for other in others:
            pairs += 1
            target = one if direction is Direction.INGRESS else other
            mine = port_ranges(rule.ports, target.ports) if rule.ports else None
            if pairs > MAX_PAIRS or overlap(mine, world.allowed(other, _OTHER[direction], one)):
                return True
    return False


def _dns(world: LintWorld, policy: Policy, subjects: list[PodClass]) -> Iterator[Finding]:
    """A pod with egress rules of which none allows port 53. A pod that may open nothing at all needs no names."""
    if not any(policy.rules(Direction.EGRESS)):
        return
    for one in subjects:
        rules = [
            rule
            for each in world.isolating(one, Direction.EGRESS)
            for rule in each.rules(Direction.EGRESS)
            if rule is not None
        ]
        if world.has_tiers and world.reached(one, None, _DNS_PORT):
            continue
        if not any(not rule.ports or overlap(port_ranges(rule.ports, ()), DNS) for rule in rules):
            text = f"no egress rule of {one.sample.key} allows UDP port 53"
            yield Finding(NO_DNS, NETWORK_POLICY, str(policy.key), "spec.egress", text)
            return
