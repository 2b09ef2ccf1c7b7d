"""Which pods a selector selects, and their addresses: an inverted index, kept as pods and namespaces change.

Only selection is here; what a policy does with the pods is decided in `engine` and `resolve`.

Theory of operation. Each pod has a small integer, so that sets of pods are cheap. The index has three structures:
- Postings: for each namespace its pods, and for each label the pods with it. A selector is evaluated by its In term
  with the fewest values, and its other terms are checked on the pods found.
- Groups: the pods of one selector in one scope. A scope is one namespace, or all namespaces that a selector matches. A
  group is kept up to date as long as it has holders (`group`, `release`).
- Claims: the pods that have an address, normally one. If several have it, the address is contested, and it belongs to a
  group only when all of its claimants are members: a pod must not be allowed by another pod's labels.

Example. Groups G1 (`app: web` in namespace x) and G2 (no requirement, in all namespaces with `team: a`) are held. Pod
x/p changes from `app: db` to `app: web`. Its postings change. The candidates are the groups filed under its old and new
labels, and those without an In term: of namespace x G1, of the scopes that contain x G2. G1 does not have the pod but
matches it now: it is added, G1 enters `changed_sets`, and so do G1's addresses when they are tracked. G2 has it
already. Groups of other labels and namespaces are not looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from collections.abc import Set as AbstractSet

from flows.cluster.model import (
    NAMESPACE_NAME_LABEL,
    NO_LABELS,
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
from flows.policy.groups import Group, Label, NamespacePods, NamespaceScope, PortName, narrowest_term
from flows.policy.selected_namespaces import SelectedNamespaces
from flows.policy.tracked_sets import ChangeLog, NetSet

_NO_PODS: frozenset[int] = frozenset()


class PodIndex:
    """The pods that policy can select: those that have not finished and are not on the host's network.

    The index records changes for its user, who clears them: in `changed_sets` the sets that changed, in `removed_pods`
    the keys of deleted pods, in `port_changes` the pods and addresses where a port name of `watched_port_names` may
    resolve to another number. All numbers of pods are below `next_number`.
    """

    def __init__(self, cluster: Cluster | None = None) -> None:
        self.pods: dict[int, Pod] = {}
        self.numbers: dict[Key, int] = {}
        self.contested: dict[Net, frozenset[int]] = {}
        self.changed_sets: ChangeLog = {}
        self.removed_pods: dict[int, Key] = {}
        self.port_changes: dict[PortName, tuple[set[int], set[Net]]] = {}
        self.watched_port_names: Container[PortName] = ()
        self.next_number = 0
        self._claims: dict[Net, int] = {}
        self._namespaces: dict[str, NamespacePods] = {}
        self._labels: dict[str, Labels] = {}
        self._namespace_scopes: dict[str, NamespaceScope] = {}
        self._selected = SelectedNamespaces()
        self._by_port: dict[PortName, set[int]] = {}
        if cluster is not None:
            self.load(cluster)

    def load(self, cluster: Cluster) -> None:
        """Load all namespaces and pods into an empty index that has no groups, so that no change is recorded."""
        for name, namespace in cluster.namespaces.items():
            self.put_namespace(name, namespace.labels)
        for pod in cluster.pods.values():
            if pod.networked:
                self._load_pod(pod)

    def _load_pod(self, pod: Pod) -> None:
        """`put_pod` for a new pod while there are no groups."""
        n = self.numbers[pod.key] = self.next_number
        self.next_number += 1
        self.pods[n] = pod
        namespace = pod.key.namespace
        postings = self._namespaces.get(namespace) or self._add_namespace(namespace)
        postings.pods.add(n)
        postings.add_labels(n, pod.labels.items())
        if pod.ports:
            self._post_ports(n, (), pod.ports)
        self._update_claims(n, pod.addresses, pod.addresses)

    # -- questions ---------------------------------------------------------------------------------------------------

    def select(self, namespace: str, selector: Selector) -> Collection[int]:
        """The pods of one namespace that `selector` selects. Not to be changed, and not kept up to date."""
        scope = self._namespace_scopes.get(namespace)
        group = scope.groups.get(selector) if scope is not None else None
        return group.members if group is not None else set(self._search(namespace, selector, narrowest_term(selector)))

    def select_any(self, groups: Iterable[tuple[str, Selector]]) -> set[int]:
        """The pods that at least one of these selectors selects, each in its namespace."""
        found: set[int] = set()
        for namespace, selector in groups:
            found.update(self._search(namespace, selector, narrowest_term(selector)))
        return found

    def find_group(self, where: str | Selector, selector: Selector) -> Group | None:
        """The group of `selector` if it is held, else None. Parameters as in `group`; the caller does not hold it."""
        scope = self._namespace_scopes.get(where) if isinstance(where, str) else self._selected.scopes.get(where)
        return scope.groups.get(selector) if scope is not None else None

    def group(self, where: str | Selector, selector: Selector) -> Group:
        """The group of `selector` in the namespace `where`, or in all namespaces that the selector `where` matches. The
        caller holds it until `release`."""
        if isinstance(where, str):
            scope = self._namespace_scopes.get(where)
            if scope is None:
                scope = self._namespace_scopes[where] = NamespaceScope(where, {where})
        else:
            scope = self._selected.scope(where)
        found = scope.groups.get(selector)
        if found is None:
            term = narrowest_term(selector)
            if isinstance(where, str):
                members = set(self._search(where, selector, term))
            else:
                members = set().union(*[self._search(name, selector, term) for name in scope.names])
            found = Group(self.changed_sets, scope, selector, members)
            scope.register(found, term)
        found.holders += 1
        return found

    def release(self, group: Group) -> None:
        """End one hold of the group; it is forgotten with the last one."""
        group.holders -= 1
        if group.holders:
            return
        scope = group.scope
        scope.forget(group)
        if scope.groups:
            return
        if isinstance(scope.where, str):
            del self._namespace_scopes[scope.where]
        else:
            self._selected.forget(scope.where)

    def with_port(self, names: Iterable[PortSpec]) -> AbstractSet[int]:
        """The pods with a container port of one of these names and its protocol. Not to be changed."""
        found = [self._by_port.get((str(spec.port), spec.protocol), _NO_PODS) for spec in names]
        return found[0] if len(found) == 1 else _NO_PODS.union(*found)

    def claimants(self, address: Net) -> Collection[int]:
        """The pods that have this address: several when it is contested."""
        several = self.contested.get(address)
        if several is not None:
            return several
        one = self._claims.get(address)
        return () if one is None else (one,)

    def addresses(self, group: Group) -> set[Net]:
        """The addresses that belong to pods of the group and to no other pod."""
        pods = self.pods
        found = {address for n in group.members for address in pods[n].addresses}
        if self.contested:
            found -= {a for a in found & self.contested.keys() if not self.contested[a] <= group.members}
        return found

    def tracked_addresses(self, group: Group) -> NetSet:
        """As `addresses`, kept up to date as long as the group is."""
        if group.addresses is None:
            group.addresses = NetSet(self.changed_sets, self.addresses(group))
        return group.addresses

    def contested_addresses(self, group: Group) -> set[Net]:
        """The addresses that several pods claim, at least one of them in the group."""
        return {address for address, claimants in self.contested.items() if not claimants.isdisjoint(group.members)}

    def tracked_contested(self, group: Group) -> NetSet:
        """As `contested_addresses`, kept up to date as long as the group is."""
        if group.contested is None:
            group.contested = NetSet(self.changed_sets, self.contested_addresses(group))
        return group.contested

    def groups_of(self, n: int) -> list[Group]:
        """Every held group that a pod is in; a group may come more than once."""
        pod = self.pods[n]
        labels = pod.labels.items()
        scopes = self._scopes(pod.key.namespace)
        return [group for scope in scopes for group in scope.candidates(labels) if n in group.members]

    def _scopes(self, namespace: str) -> list[NamespaceScope]:
        own = self._namespace_scopes.get(namespace)
        found = [own] if own is not None else []
        others = self._selected.containing.get(namespace)
        if others:
            found += others
        return found

    def _labels_of(self, namespace: str) -> Labels:
        return self._labels.get(namespace) or {NAMESPACE_NAME_LABEL: namespace}

    def _search(self, namespace: str, selector: Selector, term: Requirement | None) -> Iterable[int]:
        """The pods of one namespace that are selected; `term` is the selector's narrowest term."""
        postings = self._namespaces.get(namespace)
        if postings is None:
            return ()
        if term is None:
            found: Iterable[int] = postings.pods
        elif len(term.values) == 1:
            found = postings.by_label.get((term.key, term.values[0]), ())
        else:
            found = set().union(*(postings.by_label.get((term.key, value), ()) for value in term.values))
        if len(selector.requirements) == (term is not None):
            return found
        rest = [other for other in selector.requirements if other is not term]
        return [n for n in found if self._fits(n, rest)]

    def _fits(self, n: int, terms: list[Requirement]) -> bool:
        labels = self.pods[n].labels
        return all(requirement_holds(term, labels) for term in terms)

    # -- namespaces --------------------------------------------------------------------------------------------------

    def put_namespace(self, name: str, labels: Labels | None) -> None:
        """A namespace has these labels now; None when its object is deleted."""
        if labels is None:
            self._labels.pop(name, None)
            if name not in self._namespaces:
                return
        else:
            self._labels[name] = labels
            if name not in self._namespaces:
                self._add_namespace(name)
                return
        for scope in self._selected.put(name, self._labels_of(name)):
            self._toggle_namespace(scope, name)
        if labels is None:
            self._forget_if_unused(name)

    def _add_namespace(self, name: str) -> NamespacePods:
        postings = self._namespaces[name] = NamespacePods()
        for scope in self._selected.put(name, self._labels_of(name)):
            self._selected.toggle(scope, name)
        return postings

    def _forget_if_unused(self, name: str) -> None:
        """Forget a namespace without an object and without pods."""
        if name not in self._labels and not self._namespaces[name].pods:
            del self._namespaces[name]
            self._selected.remove(name)

    def _toggle_namespace(self, scope: NamespaceScope, name: str) -> None:
        """Add a namespace to a scope or remove it, and its pods to or from the scope's groups."""
        entering = self._selected.toggle(scope, name)
        for group in scope.groups.values():
            pods = list(self._search(name, group.selector, narrowest_term(group.selector)))
            for n in pods:
                group.set_member(n, entering)
            if group.has_addresses:
                for n in pods:
                    self._update_addresses((group,), self.pods[n].addresses)

    # -- pods --------------------------------------------------------------------------------------------------------

    def put_pod(self, pod: Pod) -> None:
        """A pod is new or has changed. A pod that has finished or has hostNetwork is in no set."""
        key = pod.key
        if not pod.networked:
            self.remove_pod(key)
            return
        n = self.numbers.get(key)
        if n is None:
            n = self.numbers[key] = self.next_number
            self.next_number += 1
            self._change(n, None, pod)
        else:
            self._change(n, self.pods[n], pod)

    def remove_pod(self, key: Key) -> None:
        """A pod is deleted."""
        n = self.numbers.pop(key, None)
        if n is not None:
            self.removed_pods[n] = key
            self._change(n, self.pods[n], None)
            self._forget_if_unused(key.namespace)

    def _change(self, n: int, old: Pod | None, new: Pod | None) -> None:
        if new is not None:
            self.pods[n] = new
        before, after = old.addresses if old is not None else (), new.addresses if new is not None else ()
        addresses: Collection[Net] = {*before, *after} if before != after else ()
        contested = self._update_claims(n, after, addresses) if addresses else None
        self._update_postings(n, old, new, bool(addresses))
        self._update_groups(n, old, new, addresses)
        for address, claimants in contested.items() if contested else ():
            self._update_claimants(address, claimants)
        if new is None:
            del self.pods[n]

    def _update_postings(self, n: int, old: Pod | None, new: Pod | None, readdressed: bool) -> None:
        """Update the postings of labels and ports; `readdressed` says that the pod's addresses changed."""
        namespace = (new or old).key.namespace  # type: ignore[union-attr]  # one of them is not None
        postings = self._namespaces.get(namespace) or self._add_namespace(namespace)
        if old is None:
            postings.add_labels(n, new.labels.items())  # type: ignore[union-attr]  # as above
            postings.pods.add(n)
        elif new is None:
            postings.remove_labels(n, old.labels.items())
            postings.pods.discard(n)
        elif old.labels != new.labels:
            before, after = old.labels.items(), new.labels.items()
            postings.remove_labels(n, before - after)
            postings.add_labels(n, after - before)
        ports, new_ports = old.ports if old is not None else (), new.ports if new is not None else ()
        if (ports or new_ports) and (readdressed or ports != new_ports):
            self._post_ports(n, ports, new_ports)
            for pod in (old, new):
                self._note_port_change(n, ports + new_ports, pod.addresses if pod else ())

    def _post_ports(self, n: int, old: Iterable[ContainerPort], new: Iterable[ContainerPort]) -> None:
        before, after = {(port.name, port.protocol) for port in old}, {(port.name, port.protocol) for port in new}
        for name in before - after:
            pods = self._by_port[name]
            pods.discard(n)
            if not pods:
                del self._by_port[name]
        for name in after - before:
            self._by_port.setdefault(name, set()).add(n)

    def _note_port_change(self, n: int, ports: Iterable[ContainerPort], addresses: Iterable[Net]) -> None:
        for port in ports:
            name = (port.name, port.protocol)
            if name in self.watched_port_names:
                pods, nets = self.port_changes.setdefault(name, (set(), set()))
                pods.add(n)
                nets.update(addresses)

    def _update_claims(self, n: int, addresses: tuple[Net, ...], changed: Iterable[Net]) -> dict[Net, frozenset[int]]:
        """Set the addresses of a pod; only those in `changed` may differ from before. Returns those of `changed` that
        are, or were, contested, with all pods that have or had them."""
        found: dict[Net, frozenset[int]] = {}
        for address in changed:
            first = self._claims.get(address)
            if first is None or (first == n and address not in self.contested):
                if address in addresses:
                    self._claims[address] = n
                else:
                    self._claims.pop(address, None)
                continue
            claimants = self.contested.pop(address, frozenset({first}))
            rest = claimants | {n} if address in addresses else claimants - {n}
            self._claims[address] = min(rest)
            if len(rest) > 1:
                self.contested[address] = rest
            found[address] = claimants | rest
        return found

    def _update_claimants(self, address: Net, pods: Iterable[int]) -> None:
        """The claimants of an address changed: decide anew what it belongs to, for all that have or had it."""
        groups: set[Group] = set()
        for n in pods:
            self._note_port_change(n, self.pods[n].ports, (address,))
            groups.update(self.groups_of(n))
        self._update_addresses(groups, (address,))

    def _update_groups(self, n: int, old: Pod | None, new: Pod | None, changed: Iterable[Net]) -> None:
        """Move a pod between groups. `changed` are the addresses that it got or lost."""
        namespace = (new or old).key.namespace  # type: ignore[union-attr]  # one of them is not None
        scopes = self._scopes(namespace)
        if not scopes:
            return
        before, after = old.labels if old is not None else NO_LABELS, new.labels if new is not None else NO_LABELS
        labels: Collection[Label] = after.items()
        if before and before != after:
            labels = {*before.items(), *labels} if after else before.items()
        addresses = changed or (new or old).addresses  # type: ignore[union-attr]  # one of them is not None
        for scope in scopes:
            for group in scope.candidates(labels):
                now = new is not None and matches(group.selector, after)
                if now != (n in group.members):
                    group.set_member(n, now)
                elif not changed or not now:
                    continue
                if group.addresses is not None or group.contested is not None:
                    self._update_addresses((group,), addresses)

    def _update_addresses(self, groups: Iterable[Group], addresses: Iterable[Net]) -> None:
        """Decide anew whether these addresses belong to the tracked addresses of these groups."""
        for address in addresses:
            several = self.contested.get(address) if self.contested else None
            one = self._claims.get(address)
            for group in groups:
                if group.addresses is not None:
                    members = group.members
                    present = one in members if several is None else several <= members
                    group.addresses.set_member(address, present)
                if group.contested is not None:
                    group.contested.set_member(address, several is not None and not several.isdisjoint(group.members))
