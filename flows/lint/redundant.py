"""Findings about rules that add nothing: those that are there twice, and those that a wider rule covers.

Coverage is decided on the text of rules, never on the pods that there are: pods come and go. So a rule that is named
here adds nothing whatever comes; others may add nothing, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from flows.cluster.model import NETWORK_POLICY, Cluster, Direction, IPBlock, Peer, Policy, PortSpec, Rule, Selector
from flows.lint.codes import DUPLICATE, SHADOWED, Finding

MAX_COMPARED = 1000  # rules of one namespace and direction: each is compared with each


class _Placed(NamedTuple):
    policy: Policy
    field: str
    rule: Rule


def redundancy_findings(cluster: Cluster) -> Iterator[Finding]:
    """The rules that another rule makes redundant, each with the first that does."""
    places: dict[tuple[str, Direction], list[_Placed]] = {}
    for key in sorted(cluster.policies):
        policy = cluster.policies[key]
        for direction in Direction:
            for number, rule in enumerate(policy.rules(direction)):
                if rule is not None:
                    placed = _Placed(policy, f"spec.{direction.value}[{number}]", rule)
                    places.setdefault((key.namespace, direction), []).append(placed)
    for found in places.values():
        yield from _among(found[:MAX_COMPARED])


def _among(rules: list[_Placed]) -> Iterator[Finding]:
    for number, one in enumerate(rules):
        for place, other in enumerate(rules):
            if place == number or not _covers(other, one):
                continue
            equal = _covers(one, other)
            if equal and place > number:
                continue  # of two equal ones the later is named
            code, word = (DUPLICATE, "says the same as") if equal else (SHADOWED, "adds nothing to")
            name = f"{other.policy.key} {other.field.removeprefix('spec.')}"
            yield Finding(code, NETWORK_POLICY, str(one.policy.key), one.field, f"{word} {name}")
            break


def _covers(wide: _Placed, narrow: _Placed) -> bool:
    """Whether whatever `narrow` allows is allowed by `wide`, too."""
    return (
        selects_all_of(wide.policy.subjects, narrow.policy.subjects)
        and _peers_cover(wide.rule.peers, narrow.rule.peers)
        and ports_cover(wide.rule.ports, narrow.rule.ports)
    )


def selects_all_of(wide: Selector | None, narrow: Selector | None) -> bool:
    """Requirements are all needed, so fewer of them select more."""
    if wide is None or narrow is None:
        return wide is narrow
    return set(wide.requirements) <= set(narrow.requirements)


def _peers_cover(wide: tuple[Peer, ...], narrow: tuple[Peer, ...]) -> bool:
    return not wide or (bool(narrow) and all(any(peer_covers(one, other) for one in wide) for other in narrow))


def peer_covers(wide: Peer, narrow: Peer) -> bool:
    """Whether whatever `narrow` names is named by `wide`, too."""
    if wide.ip_block is not None or narrow.ip_block is not None:
        return (
            wide.ip_block is not None and narrow.ip_block is not None and _block_covers(wide.ip_block, narrow.ip_block)
        )
    if not selects_all_of(wide.namespaces, narrow.namespaces):
        return False
    return wide.pods is None or not wide.pods.requirements or selects_all_of(wide.pods, narrow.pods)


def _block_covers(wide: IPBlock, narrow: IPBlock) -> bool:
    holes = (hole for hole in wide.excepts if hole.contains(narrow.cidr) or narrow.cidr.contains(hole))
    return wide.cidr.contains(narrow.cidr) and all(
        any(other.contains(hole) for other in narrow.excepts) for hole in holes
    )


def ports_cover(wide: tuple[PortSpec, ...], narrow: tuple[PortSpec, ...]) -> bool:
    """Whether all that the ports of a rule mean, the narrow ones, is in the wide ones; none are all."""
    return not wide or (bool(narrow) and all(any(_port_covers(one, other) for one in wide) for other in narrow))


def _port_covers(wide: PortSpec, narrow: PortSpec) -> bool:
    if wide.protocol != narrow.protocol:
        return False
    if wide.port is None or wide == narrow:
        return True
    if not isinstance(wide.port, int) or not isinstance(narrow.port, int):
        return False
    return wide.port <= narrow.port and (narrow.end_port or narrow.port) <= (wide.end_port or wide.port)
