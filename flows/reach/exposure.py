"""What the policies of each workload allow with pods that do not exist yet: its exposure, by the peers that rules name.

Theory of operation. For each peer of a rule that selects pods by labels one stranger is made up: a pod with no more
labels than it needs, in a namespace with no more labels than it needs; and one that has none at all, which stands for
any pod of the cluster. What a workload's own policies, all tiers included, allow with each of them is its exposure.
What policies would select the stranger itself is not asked: nobody knows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from flows.cluster.model import (
    EVERYTHING,
    NAMESPACE_NAME_LABEL,
    Cluster,
    Direction,
    Key,
    Labels,
    Namespace,
    Operator,
    Peer,
    Pod,
    Selector,
)
from flows.cluster.net import ADDRESS_BITS, Net, parse_address
from flows.cluster.selectors import matches
from flows.reach.bits import bits_of, numbers_of
from flows.reach.decision import Decision
from flows.reach.ends import Ends
from flows.reach.model import Exposure
from flows.reach.ports import NOTHING, Ports, ports_text, union, without
from flows.reach.regions import Region, only

ANY_POD = "any pod"
MAX_STRANGERS = 1000
# Addresses that no cluster has (RFC 2544, RFC 5180): a block that contains them is one for everybody.
_BASE = {4: parse_address("198.18.0.1"), 6: parse_address("2001:2::1")}
_SPACE = "stranger-"  # of namespaces that are made up


class _Stranger(NamedTuple):
    name: str
    pod: Pod
    namespace: Namespace | None


def exposures(cluster: Cluster) -> list[Exposure]:
    """The exposure of each workload, first with any pod, then with pods of labels where these may do more."""
    made = list(_strangers(cluster))
    pods = {one.pod.key: one.pod for one in made}
    namespaces = {one.namespace.name: one.namespace for one in made if one.namespace is not None}
    world = replace(cluster, pods={**cluster.pods, **pods}, namespaces={**cluster.namespaces, **namespaces})
    decision = Decision(world)
    names = {one.pod.key: one.name for one in made}
    strangers = {n: names[key] for n, (key, _) in enumerate(decision.ends.addresses) if key in names}
    mask = bits_of(strangers, decision.ends.size)
    found = []
    for (namespace, workload), numbers in _workloads(decision.ends, pods.keys()).items():
        for direction in Direction:
            regions: dict[tuple[int, int], Region] = {}
            for n in numbers:
                region, version = decision.own(n, direction), decision.ends.version_of(n)
                if (id(region), version) not in regions:
                    regions[id(region), version] = only(region, mask & decision.ends.families[version])
            allowed: dict[str, Ports] = {}
            for number, ports in _of_strangers(regions.values(), strangers):
                allowed[strangers[number]] = union(allowed.get(strangers[number], NOTHING), ports)
            anybody = allowed.get(ANY_POD, NOTHING)
            for name, ports in allowed.items():
                if name == ANY_POD or without(ports, anybody) != NOTHING:
                    ports = union(ports, anybody)
                    found.append(Exposure(f"{namespace}/{workload}", direction.value, name, ports_text(ports)))
    return sorted(found, key=lambda one: (one.direction, one.workload, one.peer != ANY_POD, one.peer))


def _of_strangers(regions: Iterable[Region], strangers: Mapping[int, str]) -> Iterator[tuple[int, Ports]]:
    """The ports of strangers in some regions, each of one family; of those that have the same as any pod only that."""
    anybody = bits_of((n for n, name in strangers.items() if name == ANY_POD), max(strangers) + 1)
    for region in regions:
        for ports, bits in region.items():
            yield from ((number, ports) for number in numbers_of(bits & anybody or bits))


def _workloads(ends: Ends, without_pods: Iterable[Key]) -> dict[tuple[str, str], list[int]]:
    """The ends of each workload that exists."""
    left_out = set(without_pods)
    found: dict[tuple[str, str], list[int]] = {}
    for number, (key, _) in enumerate(ends.addresses):
        if key not in left_out:
            found.setdefault((key.namespace, ends.workloads[number]), []).append(number)
    return found


# -- strangers -------------------------------------------------------------------------------------------------------


def _strangers(cluster: Cluster) -> Iterator[_Stranger]:
    yield _made(0, ANY_POD, {}, Namespace(f"{_SPACE}0", {NAMESPACE_NAME_LABEL: f"{_SPACE}0"}))
    seen: set[tuple[str, Selector, Selector | None]] = set()
    for home, peer in _peers(cluster):
        pods = peer.pods if peer.pods is not None else EVERYTHING
        asked = (home if peer.namespaces is None else "", pods, peer.namespaces)
        if asked in seen or len(seen) >= MAX_STRANGERS:
            continue
        seen.add(asked)
        labels = _least(pods)
        if labels is None:
            continue
        number, whose = len(seen), f"pods with {_text(pods)}" if pods.requirements else "pods"
        if peer.namespaces is None:
            yield _made(number, f"{whose} in namespace {home}", labels, None, home)
        elif (space := _namespace(cluster, peer.namespaces, number)) is not None:
            where = f"namespaces with {_text(peer.namespaces)}" if peer.namespaces.requirements else "any namespace"
            yield _made(number, f"{whose} in {where}", labels, space)


def _peers(cluster: Cluster) -> Iterator[tuple[str, Peer]]:
    """The peers with selectors of all rules, each with its policy's namespace."""
    for policy in cluster.policies.values():
        for rule in (*policy.ingress, *policy.egress):
            yield from (
                (policy.key.namespace, one) for one in (rule.peers if rule is not None else ()) if not one.ip_block
            )
    for tiered in cluster.cluster_policies.values():
        for each in (*tiered.ingress, *tiered.egress):
            yield from (("", one) for one in each.peers if isinstance(one, Peer) and one.ip_block is None)


def _made(number: int, name: str, labels: Labels, space: Namespace | None, home: str = "") -> _Stranger:
    addresses = tuple(Net(v, base.value + number, ADDRESS_BITS[v]) for v, base in _BASE.items())
    where = space.name if space is not None else home
    return _Stranger(name, Pod(Key(where, f"{_SPACE}{number}"), labels, addresses=addresses), space)


def _namespace(cluster: Cluster, selector: Selector, number: int) -> Namespace | None:
    """A namespace that the selector matches: made up, or the one that it names."""
    labels = _least(selector)
    if labels is None:
        return None
    name = labels.get(NAMESPACE_NAME_LABEL, f"{_SPACE}{number}")
    known = cluster.namespaces.get(name)
    if known is not None:
        return known if matches(selector, known.labels) else None
    return Namespace(name, {**labels, NAMESPACE_NAME_LABEL: name})


def _least(selector: Selector) -> dict[str, str] | None:
    """The fewest labels that a selector matches; None where it matches none."""
    found: dict[str, str] = {}
    for one in selector.requirements:
        if one.operator is Operator.IN:
            forbidden = {
                value
                for other in selector.requirements
                if (other.key, other.operator) == (one.key, Operator.NOT_IN)
                for value in other.values
            }
            found.setdefault(one.key, next((value for value in one.values if value not in forbidden), one.values[0]))
    for one in selector.requirements:
        if one.operator is Operator.EXISTS:
            found.setdefault(one.key, "any")
    return found if matches(selector, found) else None


def _text(selector: Selector) -> str:
    words = {Operator.IN: "in", Operator.NOT_IN: "not in", Operator.EXISTS: "exists", Operator.DOES_NOT_EXIST: "absent"}
    parts = []
    for one in selector.requirements:
        if one.operator is Operator.IN and len(one.values) == 1:
            parts.append(f"{one.key}={one.values[0]}")
        elif one.values:
            parts.append(f"{one.key} {words[one.operator]} ({', '.join(one.values)})")
        else:
            parts.append(f"{one.key} {words[one.operator]}")
    return ", ".join(parts)
