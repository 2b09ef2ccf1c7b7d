"""Which pods a selector selects: an inverted index that follows pods and namespaces as they change.

Pods are small integers here, so that sets of them are cheap. A selector is asked for within a scope, one namespace or
all namespaces that a selector matches, and its group is kept true from then on: a pod that changes is compared only
with the groups that its labels can concern. Only selection stands here; what a policy does with it is `variants` and
`compile`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Generic

from flows.groups import Group, PortName, Scope, Space, Touched, User, narrowest
from flows.model import (
    NAMESPACE_NAME_LABEL,
    Cluster,
    ContainerPort,
    Key,
    Labels,
    Pod,
    PortSpec,
    Requirement,
    Selector,
)
from flows.net import Net
from flows.selectors import matches, requirement_holds

_NOBODY: frozenset[int] = frozenset()


class PodIndex(Generic[User]):
    """The pods that policy can select: those with a network of their own that still run."""

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.pods: dict[int, Pod] = {}
        self.number: dict[Key, int] = {}
        self.contested: dict[Net, frozenset[int]] = {}
        self._next = 0
        self._claims: dict[Net, int] = {}
        self._spaces: dict[str, Space] = {}
        self._labels: dict[str, Labels] = {}
        self._own: dict[str, Scope[User]] = {}
        self._wide: dict[Selector, Scope[User]] = {}
        self._wide_of: dict[str, list[Scope[User]]] = defaultdict(list)
        self._by_port: dict[PortName, set[int]] = defaultdict(set)
        if cluster is not None:
            self.load(cluster)

    def load(self, cluster: Cluster) -> None:
        """Take in all namespaces and pods; before anything is asked of the index, so that nobody must hear of it."""
        nobody: Touched[User] = Touched()
        for name, namespace in cluster.namespaces.items():
            self._put_namespace(name, namespace.labels, nobody)
        for pod in cluster.pods.values():
            self._put_pod(pod, nobody)

    # -- asking ------------------------------------------------------------------------------------------------------

    def select(self, namespace: str, selector: Selector) -> frozenset[int]:
        """The pods of one namespace that `selector` selects."""
        return self.group(namespace, selector).members

    def group(self, where: str | Selector, selector: Selector) -> Group[User]:
        """The group of `selector` in one namespace, or in all namespaces that the selector `where` matches."""
        if isinstance(where, str):
            scope = self._own.get(where)
            if scope is None:
                scope = self._own[where] = Scope({where})
        else:
            scope = self._wide_scope(where)
        found = scope.groups.get(selector)
        if found is None:
            term = narrowest(selector)
            if len(scope.names) == 1:
                (name,) = scope.names
                members = frozenset(self._search(name, selector, term))
            else:
                members = frozenset([n for name in scope.names for n in self._search(name, selector, term)])
            found = Group(scope, selector, members)
            scope.register(found, term)
        return found

    def with_port(self, names: Iterable[PortSpec]) -> AbstractSet[int]:
        """The pods that have a container port of one of these names and its protocol. Not to be changed."""
        found = [self._by_port.get((str(spec.port), spec.protocol), _NOBODY) for spec in names]
        return found[0] if len(found) == 1 else _NOBODY.union(*found)

    def claimants(self, address: Net) -> Collection[int]:
        """The pods that have this address: several where it is contested."""
        several = self.contested.get(address)
        if several is not None:
            return several
        one = self._claims.get(address)
        return () if one is None else (one,)

    def addresses(self, group: Group[User]) -> frozenset[Net]:
        """The addresses that stand for the pods of a group and for no other."""
        if group.addresses is None:
            pods = self.pods
            found = frozenset([address for n in group.members for address in pods[n].addresses])
            if self.contested:
                found -= {a for a in found & self.contested.keys() if not self.contested[a] <= group.members}
            group.addresses = found
        return group.addresses

    def groups_of(self, n: int) -> Iterator[Group[User]]:
        """Every known group that a pod is in; one may come more than once."""
        pod = self.pods[n]
        for scope in self._scopes(pod.key.namespace):
            for group in scope.candidates(pod.labels.items()):
                if n in group.members:
                    yield group

    def _scopes(self, namespace: str) -> list[Scope[User]]:
        own = self._own.get(namespace)
        wide = self._wide_of.get(namespace, [])
        return [own, *wide] if own is not None else wide

    def _wide_scope(self, selector: Selector) -> Scope[User]:
        scope = self._wide.get(selector)
        if scope is None:
            scope = self._wide[selector] = Scope({n for n in self._spaces if matches(selector, self._labels_of(n))})
            for name in scope.names:
                self._wide_of[name].append(scope)
        return scope

    def _labels_of(self, namespace: str) -> Labels:
        return self._labels.get(namespace) or {NAMESPACE_NAME_LABEL: namespace}

    def _search(self, namespace: str, selector: Selector, term: Requirement | None) -> Iterable[int]:
        """The pods of one namespace that are selected; `term` is the selector's narrowest."""
        space = self._spaces.get(namespace)
        if space is None:
            return ()
        if term is None:
            found: Iterable[int] = space.pods
        elif len(term.values) == 1:
            found = space.by_label.get((term.key, term.values[0]), ())
        else:
            found = set().union(*(space.by_label.get((term.key, value), ()) for value in term.values))
        if len(selector.requirements) == (term is not None):
            return found
        rest = [other for other in selector.requirements if other is not term]
        return [n for n in found if self._fits(n, rest)]

    def _fits(self, n: int, terms: list[Requirement]) -> bool:
        labels = self.pods[n].labels
        return all(requirement_holds(term, labels) for term in terms)

    # -- changing ----------------------------------------------------------------------------------------------------

    def put_namespace(self, name: str, labels: Labels | None) -> Touched[User]:
        """A namespace has these labels now; None when it has no object any more."""
        touched: Touched[User] = Touched()
        self._put_namespace(name, labels, touched)
        return touched

    def _put_namespace(self, name: str, labels: Labels | None, touched: Touched[User]) -> None:
        if labels is None:
            self._labels.pop(name, None)
        else:
            self._labels[name] = labels
        if name not in self._spaces:
            self._enter(name)
        for selector, scope in self._wide.items():
            if (name in scope.names) != matches(selector, self._labels_of(name)):
                self._toggle(scope, name, touched)

    def _enter(self, name: str) -> Space:
        space = self._spaces[name] = Space()
        for selector, scope in self._wide.items():
            if matches(selector, self._labels_of(name)):
                scope.names.add(name)
                self._wide_of[name].append(scope)
        return space

    def _toggle(self, scope: Scope[User], name: str, touched: Touched[User]) -> None:
        """A namespace enters or leaves a scope, and its pods the scope's groups."""
        entering = name not in scope.names
        if entering:
            scope.names.add(name)
            self._wide_of[name].append(scope)
        else:
            scope.names.discard(name)
            self._wide_of[name].remove(scope)
        for group in scope.groups.values():
            pods = frozenset(self._search(name, group.selector, narrowest(group.selector)))
            if pods:
                group.members = group.members | pods if entering else group.members - pods
                group.addresses = None
                touched.groups.add(group)

    def put_pod(self, pod: Pod) -> Touched[User]:
        """A pod is new or has changed. One that finished or has hostNetwork is no member of anything."""
        touched: Touched[User] = Touched()
        self._put_pod(pod, touched)
        return touched

    def remove_pod(self, key: Key) -> Touched[User]:
        """A pod is gone."""
        touched: Touched[User] = Touched()
        self._remove_pod(key, touched)
        return touched

    def _put_pod(self, pod: Pod, touched: Touched[User]) -> None:
        key = pod.key
        if not pod.networked:
            self._remove_pod(key, touched)
            return
        n = self.number.get(key)
        if n is None:
            n = self.number[key] = self._next
            self._next += 1
            self._add(n, pod, touched)
        else:
            old = self.pods[n]
            self.pods[n] = pod
            self._post(n, old, pod, touched)
            self._regroup(n, old, pod, touched)

    def _add(self, n: int, pod: Pod, touched: Touched[User]) -> None:
        self.pods[n] = pod
        namespace = pod.key.namespace
        space = self._spaces.get(namespace) or self._enter(namespace)
        space.pods.add(n)
        space.post(n, pod.labels.items())
        if pod.ports:
            self._post_ports(n, (), pod.ports, touched)
        for address in pod.addresses:
            self._claim(address, n, touched)
        if namespace in self._own or namespace in self._wide_of:
            self._regroup(n, None, pod, touched)

    def _remove_pod(self, key: Key, touched: Touched[User]) -> None:
        n = self.number.pop(key, None)
        if n is None:
            return
        old = self.pods[n]
        space = self._spaces[key.namespace]
        space.pods.discard(n)
        space.strike(n, old.labels.items())
        self._post_ports(n, old.ports, (), touched)
        for address in set(old.addresses):
            self._unclaim(address, n, touched)
        self._regroup(n, old, None, touched)
        del self.pods[n]

    def _post(self, n: int, old: Pod, new: Pod, touched: Touched[User]) -> None:
        """Keep the postings of labels, ports and addresses."""
        if old.labels != new.labels:
            space = self._spaces[new.key.namespace]
            space.strike(n, old.labels.items() - new.labels.items())
            space.post(n, new.labels.items() - old.labels.items())
        if old.ports != new.ports or old.addresses != new.addresses:
            self._post_ports(n, old.ports, new.ports, touched)
        if old.addresses != new.addresses:
            before, after = set(old.addresses), set(new.addresses)
            for address in before - after:
                self._unclaim(address, n, touched)
            for address in after - before:
                self._claim(address, n, touched)

    def _post_ports(
        self, n: int, old: Iterable[ContainerPort], new: Iterable[ContainerPort], touched: Touched[User]
    ) -> None:
        before, after = {(port.name, port.protocol) for port in old}, {(port.name, port.protocol) for port in new}
        for name in before - after:
            self._by_port[name].discard(n)
        for name in after - before:
            self._by_port[name].add(n)
        touched.ports |= before | after

    def _claim(self, address: Net, n: int, touched: Touched[User]) -> None:
        """An address that several pods claim may stand for a set of pods only when all of them are in it."""
        first = self._claims.setdefault(address, n)
        if first != n:
            self.contested[address] = self.contested.get(address, frozenset({first})) | {n}
            self._disturb(self.contested[address] - {n}, touched)

    def _unclaim(self, address: Net, n: int, touched: Touched[User]) -> None:
        rivals = self.contested.pop(address, None)
        if rivals is None:
            self._claims.pop(address, None)
            return
        rest = rivals - {n}
        self._claims[address] = min(rest)
        if len(rest) > 1:
            self.contested[address] = rest
        self._disturb(rest, touched)

    def _disturb(self, pods: Iterable[int], touched: Touched[User]) -> None:
        """Others' addresses begin or cease to stand for them."""
        for n in pods:
            touched.ports.update((port.name, port.protocol) for port in self.pods[n].ports)
            for group in self.groups_of(n):
                group.addresses = None
                touched.groups.add(group)

    def _regroup(self, n: int, old: Pod | None, new: Pod | None, touched: Touched[User]) -> None:
        """Move a pod between groups, and touch those it stays in when something that they look at changed."""
        namespace = (new or old).key.namespace  # type: ignore[union-attr]  # one of them is there
        labels = {*(old.labels.items() if old else ()), *(new.labels.items() if new else ())}
        stays_same = old is not None and new is not None and (old.addresses, old.ports) == (new.addresses, new.ports)
        for scope in self._scopes(namespace):
            for group in scope.candidates(labels):
                was, now = n in group.members, new is not None and matches(group.selector, new.labels)
                if was == now and (stays_same or not now):
                    continue
                if was != now:
                    group.members = group.members | {n} if now else group.members - {n}
                group.addresses = None
                touched.groups.add(group)
