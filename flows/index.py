"""Which pods a selector selects: an inverted index over one snapshot, and the addresses that stand for pods.

Pods are small integers here (their place in `pods`), so that sets of them are cheap. Results are cached by selector:
many
policies share few selectors. Only selection stands here; what a policy does with it is `compile`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from flows.model import Cluster, Key, Operator, Pod, PortSpec, Protocol, Requirement, Selector
from flows.net import Net
from flows.selectors import matches, requirement_holds


class PodIndex:
    """The pods of a cluster that policy can select: those with a network of their own that still run."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pods: list[Pod] = [pod for pod in cluster.pods.values() if pod.networked]
        self.number: dict[Key, int] = {pod.key: n for n, pod in enumerate(self.pods)}
        self._by_namespace: dict[str, list[int]] = defaultdict(list)
        self._by_label: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        self._by_port: dict[tuple[str, Protocol], set[int]] = defaultdict(set)
        claims: dict[Net, list[int]] = defaultdict(list)
        for n, pod in enumerate(self.pods):
            namespace = pod.key.namespace
            self._by_namespace[namespace].append(n)
            for key, value in pod.labels.items():
                self._by_label[namespace, key, value].append(n)
            for port in pod.ports:
                self._by_port[port.name, port.protocol].add(n)
            for address in pod.addresses:
                claims[address].append(n)
        # An address that several pods claim may stand for a set of pods only when all of them are in it.
        self.contested: dict[Net, frozenset[int]] = {a: frozenset(c) for a, c in claims.items() if len(set(c)) > 1}
        self._selected: dict[tuple[str, Selector], frozenset[int]] = {}
        self._namespaces: dict[Selector, tuple[str, ...]] = {}

    def select(self, namespace: str, selector: Selector) -> frozenset[int]:
        """The pods of one namespace that `selector` selects."""
        found = self._selected.get((namespace, selector))
        if found is None:
            found = frozenset(self._search(namespace, selector))
            self._selected[namespace, selector] = found
        return found

    def _search(self, namespace: str, selector: Selector) -> Iterable[int]:
        candidates, rest = self._narrow(namespace, selector)
        if not rest:
            return candidates
        pods = self.pods
        return (n for n in candidates if all(requirement_holds(term, pods[n].labels) for term in rest))

    def _narrow(self, namespace: str, selector: Selector) -> tuple[list[int], list[Requirement]]:
        """The shortest list that one term leaves, and the terms still to check."""
        best, used = self._by_namespace.get(namespace, []), None
        for term in selector.requirements:
            if term.operator is not Operator.IN:
                continue
            lists = [self._by_label.get((namespace, term.key, value), []) for value in term.values]
            if sum(map(len, lists)) < len(best) or used is None:
                best, used = [n for found in lists for n in found], term
        return best, [term for term in selector.requirements if term is not used]

    def select_namespaces(self, selector: Selector) -> tuple[str, ...]:
        """The namespaces that have pods and whose labels match."""
        found = self._namespaces.get(selector)
        if found is None:
            labels = self.cluster.namespace_labels
            found = tuple(name for name in self._by_namespace if matches(selector, labels(name)))
            self._namespaces[selector] = found
        return found

    def with_port(self, names: Iterable[PortSpec]) -> set[int]:
        """The pods that have a container port of one of these names and its protocol."""
        return {n for spec in names for n in self._by_port.get((str(spec.port), spec.protocol), ())}

    def addresses(self, pods: frozenset[int]) -> set[Net]:
        """The addresses that stand for these pods and for no other."""
        found = {address for n in pods for address in self.pods[n].addresses}
        if self.contested:
            found -= {address for address in found & self.contested.keys() if not self.contested[address] <= pods}
        return found
