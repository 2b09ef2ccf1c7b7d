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

from flows.model import (
    NAMESPACE_NAME_LABEL,
    Cluster,
    Key,
    Labels,
    Operator,
    Pod,
    PortSpec,
    Protocol,
    Requirement,
    Selector,
)
from flows.net import Net
from flows.selectors import matches, requirement_holds

PortName = tuple[str, Protocol]
_NOBODY: frozenset[int] = frozenset()


class Group:
    """The pods that one selector selects in one scope. `members` is replaced, never changed, when they change.

    `users` are whoever must hear of a change; their type is the owner's business.
    """

    __slots__ = ("addresses", "members", "scope", "selector", "users")

    def __init__(self, scope: Scope, selector: Selector, members: frozenset[int]) -> None:
        self.scope = scope
        self.selector = selector
        self.members = members
        self.addresses: frozenset[Net] | None = None
        self.users: set[object] = set()


class Scope:
    """Some namespaces and the groups within them, by the labels that can bring a pod into them."""

    __slots__ = ("by_label", "groups", "names", "unlabelled")

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.groups: dict[Selector, Group] = {}
        self.by_label: dict[tuple[str, str], list[Group]] = {}
        self.unlabelled: list[Group] = []

    def register(self, group: Group) -> None:
        """Remember a group under the labels of its narrowest term, or as one that any pod can be in."""
        self.groups[group.selector] = group
        term = narrowest(group.selector)
        if term is None:
            self.unlabelled.append(group)
            return
        for value in term.values:
            self.by_label.setdefault((term.key, value), []).append(group)

    def candidates(self, labels: Iterable[tuple[str, str]]) -> Iterator[Group]:
        """The groups that a pod with these labels might be in; one may come more than once."""
        yield from self.unlabelled
        if self.by_label:
            for label in labels:
                yield from self.by_label.get(label, ())


class Space:
    """The pods of one namespace, and each label's pods."""

    __slots__ = ("by_label", "pods")

    def __init__(self) -> None:
        self.pods: set[int] = set()
        self.by_label: dict[tuple[str, str], set[int]] = {}


class Touched:
    """What a change concerns: groups whose members or members' addresses and ports changed, and names of ports."""

    __slots__ = ("groups", "ports")

    def __init__(self) -> None:
        self.groups: set[Group] = set()
        self.ports: set[PortName] = set()


def narrowest(selector: Selector) -> Requirement | None:
    """The In term with the fewest values, which pods can be looked up by; None when no term names values."""
    terms = [term for term in selector.requirements if term.operator is Operator.IN]
    return min(terms, key=lambda term: len(term.values), default=None)


class PodIndex:
    """The pods that policy can select: those with a network of their own that still run."""

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.pods: dict[int, Pod] = {}
        self.number: dict[Key, int] = {}
        self.contested: dict[Net, frozenset[int]] = {}
        self._next = 0
        self._claims: dict[Net, int] = {}
        self._spaces: dict[str, Space] = {}
        self._labels: dict[str, Labels] = {}
        self._own: dict[str, Scope] = {}
        self._wide: dict[Selector, Scope] = {}
        self._wide_of: dict[str, list[Scope]] = defaultdict(list)
        self._by_port: dict[PortName, set[int]] = defaultdict(set)
        if cluster is not None:
            for name, namespace in cluster.namespaces.items():
                self.put_namespace(name, namespace.labels)
            for pod in cluster.pods.values():
                self.put_pod(pod)

    # -- asking ------------------------------------------------------------------------------------------------------

    def select(self, namespace: str, selector: Selector) -> frozenset[int]:
        """The pods of one namespace that `selector` selects."""
        return self.group(namespace, selector).members

    def group(self, where: str | Selector, selector: Selector) -> Group:
        """The group of `selector` in one namespace, or in all namespaces that the selector `where` matches."""
        scope = self._own_scope(where) if isinstance(where, str) else self._wide_scope(where)
        found = scope.groups.get(selector)
        if found is None:
            members = frozenset(n for name in scope.names for n in self._search(name, selector))
            found = Group(scope, selector, members)
            scope.register(found)
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

    def addresses(self, group: Group) -> frozenset[Net]:
        """The addresses that stand for the pods of a group and for no other."""
        if group.addresses is None:
            found = {address for n in group.members for address in self.pods[n].addresses}
            if self.contested:
                found -= {a for a in found & self.contested.keys() if not self.contested[a] <= group.members}
            group.addresses = frozenset(found)
        return group.addresses

    def groups_of(self, n: int) -> Iterator[Group]:
        """Every known group that a pod is in; one may come more than once."""
        pod = self.pods[n]
        for scope in self._scopes(pod.key.namespace):
            for group in scope.candidates(pod.labels.items()):
                if n in group.members:
                    yield group

    def _scopes(self, namespace: str) -> list[Scope]:
        own = self._own.get(namespace)
        wide = self._wide_of.get(namespace, [])
        return [own, *wide] if own is not None else wide

    def _own_scope(self, namespace: str) -> Scope:
        scope = self._own.get(namespace)
        if scope is None:
            scope = self._own[namespace] = Scope({namespace})
        return scope

    def _wide_scope(self, selector: Selector) -> Scope:
        scope = self._wide.get(selector)
        if scope is None:
            scope = self._wide[selector] = Scope({n for n in self._spaces if matches(selector, self._labels_of(n))})
            for name in scope.names:
                self._wide_of[name].append(scope)
        return scope

    def _labels_of(self, namespace: str) -> Labels:
        return self._labels.get(namespace) or {NAMESPACE_NAME_LABEL: namespace}

    def _search(self, namespace: str, selector: Selector) -> Iterable[int]:
        space = self._spaces.get(namespace)
        if space is None:
            return ()
        term = narrowest(selector)
        if term is None:
            found: Iterable[int] = space.pods
        elif len(term.values) == 1:
            found = space.by_label.get((term.key, term.values[0]), ())
        else:
            found = set().union(*(space.by_label.get((term.key, value), ()) for value in term.values))
        rest = [other for other in selector.requirements if other is not term]
        return [n for n in found if self._fits(n, rest)] if rest else found

    def _fits(self, n: int, terms: list[Requirement]) -> bool:
        labels = self.pods[n].labels
        return all(requirement_holds(term, labels) for term in terms)

    # -- changing ----------------------------------------------------------------------------------------------------

    def put_namespace(self, name: str, labels: Labels | None) -> Touched:
        """A namespace has these labels now; None when it has no object any more."""
        touched = Touched()
        if labels is None:
            self._labels.pop(name, None)
        else:
            self._labels[name] = labels
        self._enter(name)
        labels = self._labels_of(name)
        for selector, scope in self._wide.items():
            if (name in scope.names) != matches(selector, labels):
                self._toggle(scope, name, touched)
        return touched

    def _enter(self, name: str) -> None:
        if name in self._spaces:
            return
        self._spaces[name] = Space()
        for selector, scope in self._wide.items():
            if matches(selector, self._labels_of(name)):
                scope.names.add(name)
                self._wide_of[name].append(scope)

    def _toggle(self, scope: Scope, name: str, touched: Touched) -> None:
        """A namespace enters or leaves a scope, and its pods the scope's groups."""
        entering = name not in scope.names
        if entering:
            scope.names.add(name)
            self._wide_of[name].append(scope)
        else:
            scope.names.discard(name)
            self._wide_of[name].remove(scope)
        for group in scope.groups.values():
            pods = frozenset(self._search(name, group.selector))
            if pods:
                group.members = group.members | pods if entering else group.members - pods
                group.addresses = None
                touched.groups.add(group)

    def put_pod(self, pod: Pod) -> Touched:
        """A pod is new or has changed. One that finished or has hostNetwork is no member of anything."""
        if not pod.networked:
            return self.remove_pod(pod.key)
        touched = Touched()
        n = self.number.get(pod.key)
        if n is None:
            n = self._next
            self._next += 1
            self.number[pod.key] = n
            self._enter(pod.key.namespace)
        old = self.pods.get(n)
        self.pods[n] = pod
        self._post(n, old, pod, touched)
        self._regroup(n, old, pod, touched)
        return touched

    def remove_pod(self, key: Key) -> Touched:
        """A pod is gone."""
        touched = Touched()
        n = self.number.pop(key, None)
        if n is not None:
            old = self.pods[n]
            self._post(n, old, None, touched)
            self._regroup(n, old, None, touched)
            del self.pods[n]
        return touched

    def _post(self, n: int, old: Pod | None, new: Pod | None, touched: Touched) -> None:
        """Keep the postings of labels, ports and addresses."""
        space = self._spaces[(new or old).key.namespace]  # type: ignore[union-attr]  # one of them is there
        (space.pods.add if new else space.pods.discard)(n)
        before = set(old.labels.items()) if old else set()
        after = set(new.labels.items()) if new else set()
        for label in before - after:
            space.by_label[label].discard(n)
            if not space.by_label[label]:
                del space.by_label[label]
        for label in after - before:
            space.by_label.setdefault(label, set()).add(n)
        old_ports, new_ports = old.ports if old else (), new.ports if new else ()
        old_addresses, new_addresses = old.addresses if old else (), new.addresses if new else ()
        if old_ports or new_ports:
            self._post_ports(n, {(p.name, p.protocol) for p in old_ports}, {(p.name, p.protocol) for p in new_ports})
            if old_ports != new_ports or old_addresses != new_addresses:
                touched.ports.update((port.name, port.protocol) for port in (*old_ports, *new_ports))
        if old_addresses != new_addresses:
            for address in set(old_addresses) - set(new_addresses):
                self._unclaim(address, n, touched)
            for address in set(new_addresses) - set(old_addresses):
                self._claim(address, n, touched)

    def _post_ports(self, n: int, old: set[PortName], new: set[PortName]) -> None:
        for name in old - new:
            self._by_port[name].discard(n)
        for name in new - old:
            self._by_port[name].add(n)

    def _claim(self, address: Net, n: int, touched: Touched) -> None:
        """An address that several pods claim may stand for a set of pods only when all of them are in it."""
        first = self._claims.setdefault(address, n)
        if first != n:
            self.contested[address] = self.contested.get(address, frozenset({first})) | {n}
            self._disturb(self.contested[address] - {n}, touched)

    def _unclaim(self, address: Net, n: int, touched: Touched) -> None:
        rivals = self.contested.pop(address, None)
        if rivals is None:
            self._claims.pop(address, None)
            return
        rest = rivals - {n}
        self._claims[address] = min(rest)
        if len(rest) > 1:
            self.contested[address] = rest
        self._disturb(rest, touched)

    def _disturb(self, pods: Iterable[int], touched: Touched) -> None:
        """Others' addresses begin or cease to stand for them."""
        for n in pods:
            touched.ports.update((port.name, port.protocol) for port in self.pods[n].ports)
            for group in self.groups_of(n):
                group.addresses = None
                touched.groups.add(group)

    def _regroup(self, n: int, old: Pod | None, new: Pod | None, touched: Touched) -> None:
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
