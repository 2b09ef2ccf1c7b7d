"""From one address to the rules that name it as a peer, in one direction.

The rules of a cluster are filed by what their peers need: a namespace, labels, an address block, or nothing. So a
lookup costs what it finds, not what there is. As in `verdict`, an address that several pods claim is a peer only if one
entry of the rule selects all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.cluster.model import EVERYTHING, IPBlock, Labels, Pod, Selector
from flows.cluster.net import ADDRESS_BITS, Net
from flows.cluster.selectors import matches
from flows.policy.rule import RuleKey
from flows.reach.selected_by import SelectorTable

Where = str | Selector  # a namespace's name, or a selector of namespaces
PodGroup = tuple[Where, Selector]
Blocks = dict[int, dict[Net, list[tuple[IPBlock, int]]]]  # by prefix length and prefix


class PeerRules:
    """The rules of one direction, by the numbers that they have in `rules`, and lookups by address."""

    def __init__(self) -> None:
        self._anyone: list[int] = []
        self._local: dict[str, SelectorTable[int]] = {}
        self._wide: dict[Selector, SelectorTable[int]] = {}
        self._blocks: dict[int, Blocks] = {version: {} for version in ADDRESS_BITS}
        self._wide_of: dict[str, tuple[Selector, ...]] = {}

    def add(self, key: RuleKey, number: int) -> None:
        """File a rule."""
        peers = key.rule.peers
        if not peers:
            self._anyone.append(number)
        for peer in peers:
            if peer.ip_block is not None:
                cidr = peer.ip_block.cidr
                same_length = self._blocks[cidr.version].setdefault(cidr.prefix, {})
                same_length.setdefault(cidr, []).append((peer.ip_block, number))
            elif peer.pods is not None or peer.namespaces is not None:
                pods = peer.pods if peer.pods is not None else EVERYTHING
                if peer.namespaces is None:
                    self._local.setdefault(key.home, SelectorTable()).add(pods, number)
                else:
                    self._wide.setdefault(peer.namespaces, SelectorTable()).add(pods, number)

    def of_outside(self, address: Net) -> frozenset[int]:
        """The rules that have an address as a peer, as far as no pod is needed for it."""
        found = set(self._anyone)
        for prefix, nets in self._blocks[address.version].items():
            host_bits = ADDRESS_BITS[address.version] - prefix
            net = Net(address.version, address.value >> host_bits << host_bits, prefix)
            found.update(n for block, n in nets.get(net, ()) if not any(one.contains(address) for one in block.excepts))
        return frozenset(found)

    def of_claimants(self, claimants: Iterable[Pod], labels_of: Mapping[str, Labels]) -> frozenset[int]:
        """The rules one entry of which selects all of these pods. `labels_of` has the labels of namespaces."""
        pods = list(claimants)
        if len(pods) == 1:
            return frozenset(n for _, numbers in self._groups(pods[0], labels_of) for n in numbers)
        common: dict[PodGroup, list[int]] | None = None
        for pod in pods:
            groups = dict(self._groups(pod, labels_of))
            common = groups if common is None else {one: groups[one] for one in common.keys() & groups.keys()}
        return frozenset(n for numbers in (common or {}).values() for n in numbers)

    def _groups(self, pod: Pod, labels_of: Mapping[str, Labels]) -> Iterable[tuple[PodGroup, list[int]]]:
        namespace, labels = pod.key.namespace, pod.labels
        local = self._local.get(namespace)
        if local is not None:
            for selector, numbers in local.find(labels):
                yield (namespace, selector), numbers
        wide = self._wide_of.get(namespace)
        if wide is None:
            wide = self._wide_of[namespace] = tuple(one for one in self._wide if matches(one, labels_of[namespace]))
        for where in wide:
            for selector, numbers in self._wide[where].find(labels):
                yield (where, selector), numbers
