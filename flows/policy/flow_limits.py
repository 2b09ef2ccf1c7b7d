"""Limits on the flows that the text of policies may make, and which namespaces a bridge leaves out above its limit.

Flows are counted before anything is expanded. Pods do not count: their number is bounded by the cluster, not chosen by
the author of a policy. A limit fails closed: rules above it allow nothing, and their pods stay isolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from flows.cluster.model import Direction, Policy, PortSpec, Rule
from flows.cluster.net import collapse, count_remaining, subtract
from flows.policy.service_ranges import ServiceRanges, numbered_services, port_masks

# A policy's prefixes and ports, all of its rules together. The API server takes objects of about 1.5 MiB, some 75,000
# plain prefixes; exceptions multiply them, by up to 32 with IPv4 and 128 with IPv6.
MAX_POLICY_FLOWS = 1 << 16
# The same of all rules that have subjects on one bridge.
MAX_BRIDGE_FLOWS = 1_000_000
# Of all rules of tiers on one bridge, with the pods that they name: these count again for each level.
MAX_TIER_FLOWS = 1_000_000


def policy_flows(policy: Policy) -> int:
    """The prefixes and ports of a policy's rules, counted in time linear in its text."""
    return sum(rule_flows(rule) for one in Direction for rule in policy.rules(one) if rule is not None)


def rule_flows(rule: Rule) -> int:
    """The prefixes and ports of a rule, duplicates included."""
    blocks = [peer.ip_block for peer in rule.peers if peer.ip_block is not None]
    return sum(count_remaining(block.cidr, block.excepts) for block in blocks) + _ports(rule.ports)


@lru_cache(maxsize=4096)
def _ports(ports: tuple[PortSpec, ...]) -> int:
    return _masks(numbered_services(ports))


@lru_cache(maxsize=4096)
def _masks(services: ServiceRanges) -> int:
    return sum(len(port_masks(service.low, service.high)) for service in services)


def peer_weight(rule: Rule) -> int:
    """The number of prefixes that a rule's ipBlocks are rendered as."""
    blocks = [peer.ip_block for peer in rule.peers if peer.ip_block is not None]
    return len(collapse([net for block in blocks for net in subtract(block.cidr, block.excepts)])) if blocks else 0


def rule_weight(peers: int, services: ServiceRanges | None) -> int:
    """About how many flows a compiled rule makes, whatever pods there are: its prefixes, its ports, and itself."""
    return 1 + peers + (_masks(services) if services is not None else 0)


def namespaces_over_limit(weights: Mapping[str, int] | Iterable[tuple[str, int]]) -> frozenset[str]:
    """The namespaces whose rules a bridge leaves out, given the weight of each: the heaviest first, until the rest fits
    MAX_BRIDGE_FLOWS.

    Namespaces whose weights have the same number of bits are left out together, so that small changes of one weight do
    not change which others are left out.
    """
    known = dict(weights)
    level, total = 0, sum(known.values())
    if total <= MAX_BRIDGE_FLOWS:
        return frozenset()
    by_size: dict[int, list[str]] = {}
    for namespace, weight in known.items():
        by_size.setdefault(weight.bit_length(), []).append(namespace)
    out: list[str] = []
    for level in sorted(by_size, reverse=True):
        if total <= MAX_BRIDGE_FLOWS:
            break
        out += by_size[level]
        total -= sum(known[namespace] for namespace in by_size[level])
    return frozenset(out)
