"""Which pods a selector selects: an inverted index that follows pods and namespaces as they change.

Pods are small integers here, so that sets of them are cheap. A selector is asked for within a scope, one namespace or
all namespaces that a selector matches, and its group is kept true for as long as somebody holds it: a pod that changes
is compared only with the groups that its labels can concern. Only selection stands here; what a policy does with it is
`engine` and `compile`.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator
from collections.abc import Set as AbstractSet

from flows.cluster.model import (
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
from flows.cluster.net import Net
from flows.cluster.selectors import matches, requirement_holds
from flows.policy.groups import Group, NamespacePods, NamespaceScope, PortName, narrowest_term
from flows.policy.tracked_sets import ChangeLog, NetSet

_NOBODY: frozenset[int] = frozenset()


class PodIndex:
    """The pods that policy can select: those with a network of their own that still run.

    `log` has the sets that changed, `departed` the names of pods that went, and `renamed` the pods and addresses that
    a port's name may stand for otherwise than before, for the names in `watched`. Whoever reads them clears them.
    """

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.pods: dict[int, Pod] = {}
        self.number: dict[Key, int] = {}
        self.contested: dict[Net, frozenset[int]] = {}
        self.log: ChangeLog = {}
        self.departed: dict[int, Key] = {}
        self.renamed: dict[PortName, tuple[set[int], set[Net]]] = {}
        self.watched: Container[PortName] = ()
        self._next = 0
        self._claims: dict[Net, int] = {}
        self._spaces: dict[str, NamespacePods] = {}
        self._labels: dict[str, Labels] = {}
        self._own: dict[str, NamespaceScope] = {}
        self._wide: dict[Selector, NamespaceScope] = {}
        self._wide_of: dict[str, dict[NamespaceScope, None]] = {}
        self._by_port: dict[PortName, set[int]] = {}
        if cluster is not None:
            self.load(cluster)

    def load(self, cluster: Cluster) -> None:
        """Take in all namespaces and pods; before anything is asked of the index, so that nobody must hear of it."""
        for name, namespace in cluster.namespaces.items():
            self.put_namespace(name, namespace.labels)
        for pod in cluster.pods.values():
            if pod.networked:
                self._begin(pod)

    def _begin(self, pod: Pod) -> None:
        """What `put_pod` does of a new pod while there are no groups."""
        n = self.number[pod.key] = self._next
        self._next += 1
        self.pods[n] = pod
        namespace = pod.key.namespace
        space = self._spaces.get(namespace) or self._enter(namespace)
        space.pods.add(n)
        space.post(n, pod.labels.items())
        if pod.ports:
            self._post_ports(n, (), pod.ports)
        self._claim(n, pod.addresses, pod.addresses)

    # -- asking ------------------------------------------------------------------------------------------------------

    def select(self, namespace: str, selector: Selector) -> Collection[int]:
        """The pods of one namespace that `selector` selects. Not to be changed, and not kept true."""
        scope = self._own.get(namespace)
        known = scope.groups.get(selector) if scope is not None else None
        return known.members if known is not None else set(self._search(namespace, selector, narrowest_term(selector)))

    def known(self, where: str | Selector, selector: Selector) -> Group | None:
        """The group that somebody holds of `selector`, None where nobody does."""
        scope = self._own.get(where) if isinstance(where, str) else self._wide.get(where)
        return scope.groups.get(selector) if scope is not None else None

    def group(self, where: str | Selector, selector: Selector) -> Group:
        """The group of `selector` in one namespace, or in all namespaces that the selector `where` matches. The caller
        holds it, until `release`."""
        if isinstance(where, str):
            scope = self._own.get(where)
            if scope is None:
                scope = self._own[where] = NamespaceScope(where, {where})
        else:
            scope = self._wide_scope(where)
        found = scope.groups.get(selector)
        if found is None:
            term = narrowest_term(selector)
            members = set().union(*[self._search(name, selector, term) for name in scope.names])
            found = Group(self.log, scope, selector, members)
            scope.register(found)
        found.holders += 1
        return found

    def release(self, group: Group) -> None:
        """Whoever held the group holds it no more."""
        group.holders -= 1
        if group.holders:
            return
        scope = group.scope
        scope.forget(group)
        if scope.groups:
            return
        if isinstance(scope.where, str):
            del self._own[scope.where]
            return
        del self._wide[scope.where]
        for name in scope.names:
            self._leave(scope, name)

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

    def addresses(self, group: Group) -> set[Net]:
        """The addresses that stand for the pods of a group and for no other."""
        pods = self.pods
        found = {address for n in group.members for address in pods[n].addresses}
        if self.contested:
            found -= {a for a in found & self.contested.keys() if not self.contested[a] <= group.members}
        return found

    def living_addresses(self, group: Group) -> NetSet:
        """The same, kept true for as long as the group is."""
        if group.addresses is None:
            group.addresses = NetSet(self.log, self.addresses(group))
        return group.addresses

    def groups_of(self, n: int) -> Iterator[Group]:
        """Every known group that a pod is in; one may come more than once."""
        pod = self.pods[n]
        for scope in self._scopes(pod.key.namespace):
            for group in scope.candidates(pod.labels.items()):
                if n in group.members:
                    yield group

    def _scopes(self, namespace: str) -> list[NamespaceScope]:
        own = self._own.get(namespace)
        wide = self._wide_of.get(namespace, ())
        return [own, *wide] if own is not None else [*wide]

    def _wide_scope(self, selector: Selector) -> NamespaceScope:
        scope = self._wide.get(selector)
        if scope is None:
            names = {name for name in self._spaces if matches(selector, self._labels_of(name))}
            scope = self._wide[selector] = NamespaceScope(selector, names)
            for name in names:
                self._wide_of.setdefault(name, {})[scope] = None
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

    # -- namespaces --------------------------------------------------------------------------------------------------

    def put_namespace(self, name: str, labels: Labels | None) -> None:
        """A namespace has these labels now; None when it has no object any more."""
        if labels is None:
            self._labels.pop(name, None)
            if name not in self._spaces:
                return
        else:
            self._labels[name] = labels
            if name not in self._spaces:
                self._enter(name)
                return
        for selector, scope in self._wide.items():
            if (name in scope.names) != matches(selector, self._labels_of(name)):
                self._toggle(scope, name)
        self._tidy(name)

    def _enter(self, name: str) -> NamespacePods:
        space = self._spaces[name] = NamespacePods()
        for selector, scope in self._wide.items():
            if matches(selector, self._labels_of(name)):
                scope.names.add(name)
                self._wide_of.setdefault(name, {})[scope] = None
        return space

    def _leave(self, scope: NamespaceScope, name: str) -> None:
        scopes = self._wide_of[name]
        del scopes[scope]
        if not scopes:
            del self._wide_of[name]

    def _tidy(self, name: str) -> None:
        """Forget a namespace that has neither an object nor pods."""
        if name not in self._labels and not self._spaces[name].pods:
            del self._spaces[name]
            for scope in self._wide_of.pop(name, ()):
                scope.names.discard(name)

    def _toggle(self, scope: NamespaceScope, name: str) -> None:
        """A namespace enters or leaves a scope, and its pods the scope's groups."""
        entering = name not in scope.names
        if entering:
            scope.names.add(name)
            self._wide_of.setdefault(name, {})[scope] = None
        else:
            scope.names.discard(name)
            self._leave(scope, name)
        for group in scope.groups.values():
            pods = list(self._search(name, group.selector, narrowest_term(group.selector)))
            for n in pods:
                group.put(n, entering)
            if group.addresses is not None:
                for n in pods:
                    self._refresh((group,), self.pods[n].addresses)

    # -- pods --------------------------------------------------------------------------------------------------------

    def put_pod(self, pod: Pod) -> None:
        """A pod is new or has changed. One that finished or has hostNetwork is no member of anything."""
        key = pod.key
        if not pod.networked:
            self.remove_pod(key)
            return
        n = self.number.get(key)
        if n is None:
            n = self.number[key] = self._next
            self._next += 1
            self._change(n, None, pod)
        else:
            self._change(n, self.pods[n], pod)

    def remove_pod(self, key: Key) -> None:
        """A pod is gone."""
        n = self.number.pop(key, None)
        if n is not None:
            self.departed[n] = key
            self._change(n, self.pods[n], None)
            self._tidy(key.namespace)

    def _change(self, n: int, old: Pod | None, new: Pod | None) -> None:
        if new is not None:
            self.pods[n] = new
        addresses: tuple[Net, ...] = ()
        if old is None or new is None or old.addresses != new.addresses:
            addresses = tuple({*(old.addresses if old else ()), *(new.addresses if new else ())})
        disturbed = self._claim(n, new.addresses if new else (), addresses)
        self._post(n, old, new, bool(addresses))
        self._regroup(n, old, new, addresses)
        for address, others in disturbed.items():
            self._disturb(address, others)
        if new is None:
            del self.pods[n]

    def _post(self, n: int, old: Pod | None, new: Pod | None, moved: bool) -> None:
        """Keep the postings of labels and ports."""
        namespace = (new or old).key.namespace  # type: ignore[union-attr]  # one of them is there
        space = self._spaces.get(namespace) or self._enter(namespace)
        if old is None or new is None or old.labels != new.labels:
            before, after = old.labels.items() if old else set(), new.labels.items() if new else set()
            space.strike(n, before - after)
            space.post(n, after - before)
        (space.pods.discard if new is None else space.pods.add)(n)
        ports, wanted = old.ports if old else (), new.ports if new else ()
        if (ports or wanted) and (moved or ports != wanted):
            self._post_ports(n, ports, wanted)
            for pod in (old, new):
                self._rename(n, ports + wanted, pod.addresses if pod else ())

    def _post_ports(self, n: int, old: Iterable[ContainerPort], new: Iterable[ContainerPort]) -> None:
        before, after = {(port.name, port.protocol) for port in old}, {(port.name, port.protocol) for port in new}
        for name in before - after:
            there = self._by_port[name]
            there.discard(n)
            if not there:
                del self._by_port[name]
        for name in after - before:
            self._by_port.setdefault(name, set()).add(n)

    def _rename(self, n: int, ports: Iterable[ContainerPort], addresses: Iterable[Net]) -> None:
        for port in ports:
            name = (port.name, port.protocol)
            if name in self.watched:
                pods, nets = self.renamed.setdefault(name, (set(), set()))
                pods.add(n)
                nets.update(addresses)

    def _claim(self, n: int, wanted: tuple[Net, ...], touched: Iterable[Net]) -> dict[Net, frozenset[int]]:
        """A pod has the `wanted` ones of these addresses now. Returns those that other pods have as well, with the
        pods: an address that several claim may stand for a set of pods only when all of them are in it."""
        found: dict[Net, frozenset[int]] = {}
        for address in touched:
            first = self._claims.get(address)
            if first is None or (first == n and address not in self.contested):
                if address in wanted:
                    self._claims[address] = n
                else:
                    self._claims.pop(address, None)
                continue
            claimants = self.contested.pop(address, frozenset({first}))
            rest = claimants | {n} if address in wanted else claimants - {n}
            self._claims[address] = min(rest)
            if len(rest) > 1:
                self.contested[address] = rest
            found[address] = claimants | rest
        return found

    def _disturb(self, address: Net, pods: Iterable[int]) -> None:
        """Others' addresses begin or cease to stand for them."""
        groups: set[Group] = set()
        for n in pods:
            self._rename(n, self.pods[n].ports, (address,))
            groups.update(self.groups_of(n))
        self._refresh(groups, (address,))

    def _regroup(self, n: int, old: Pod | None, new: Pod | None, moved: Iterable[Net]) -> None:
        """Move a pod between groups; its addresses may have `moved`."""
        namespace = (new or old).key.namespace  # type: ignore[union-attr]  # one of them is there
        scopes = self._scopes(namespace)
        if not scopes:
            return
        before, after = old.labels if old else {}, new.labels if new else {}
        labels = after.items() if not before or before == after else {*before.items(), *after.items()}
        addresses = (new or old).addresses  # type: ignore[union-attr]  # one of them is there
        for scope in scopes:
            for group in scope.candidates(labels):
                was, now = n in group.members, new is not None and matches(group.selector, after)
                if was != now:
                    group.put(n, now)
                    if group.addresses is not None:
                        self._refresh((group,), moved or addresses)
                elif moved and now and group.addresses is not None:
                    self._refresh((group,), moved)

    def _refresh(self, groups: Iterable[Group], addresses: Iterable[Net]) -> None:
        """Keep the addresses of groups."""
        for address in addresses:
            several = self.contested.get(address)
            one = self._claims.get(address)
            for group in groups:
                if group.addresses is not None:
                    members = group.members
                    there = one in members if several is None else several <= members
                    group.addresses.put(address, there)
