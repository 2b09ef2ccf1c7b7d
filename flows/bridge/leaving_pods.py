"""Terminating pods without a port: they give up an address that another pod with a port has.

When a deletion hangs, a pod's network is gone long before its object, and its address may already be another pod's. A
terminating pod keeps its addresses while it has a port, or while no other pod with a port has the address.

Example: x/a with 10.0.0.5 is being deleted and its port is gone; x/b starts, gets 10.0.0.5 and a port. From then on
x/a yields 10.0.0.5, so that policies see x/b there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flows.cluster.model import Key, Pod
from flows.cluster.net import Net


class LeavingPods:
    """The terminating pods with their `addresses`, and those that each of them yields. `doubtful` are the pods that
    `decide` has to decide.

    Hardly ever is there any such pod, and each change of a pod asks: so these are no functions.
    """

    def __init__(self) -> None:
        self.yielded: dict[Key, frozenset[Net]] = {}
        self.addresses: dict[Key, tuple[Net, ...]] = {}
        self.doubtful: set[Key] = set()
        self._by_address: dict[Net, set[Key]] = {}

    def set_pod(self, key: Key, pod: Pod | None) -> None:
        """A pod was added, changed or (None) removed."""
        addresses = pod.addresses if pod is not None and pod.terminating and pod.networked else ()
        before = self.addresses.get(key, ())
        if addresses == before:
            return
        for net in before:
            there = self._by_address[net]
            there.discard(key)
            if not there:
                del self._by_address[net]
        for net in addresses:
            self._by_address.setdefault(net, set()).add(key)
        if addresses:
            self.addresses[key] = addresses
            self.doubtful.add(key)
        else:
            self.addresses.pop(key, None)
            self.yielded.pop(key, None)

    def mark_doubtful(self, key: Key, addresses: Iterable[Net]) -> None:
        """A pod has or had these addresses, or its port came or went: decide it, and pods that share one, anew."""
        if key in self.addresses:
            self.doubtful.add(key)
        if self._by_address:
            for net in addresses:
                self.doubtful.update(self._by_address.get(net, ()))

    def decide(self, has_port: Callable[[Key], bool], claimants: Callable[[Net], Iterable[Key]]) -> list[Key]:
        """Decide what was marked; returns the pods whose yielded addresses changed."""
        doubtful, self.doubtful = self.doubtful, set()
        changed = []
        for key in doubtful & self.addresses.keys():
            found = frozenset[Net]()
            if not has_port(key):
                found = frozenset(
                    net for net in self.addresses[key] if any(one != key and has_port(one) for one in claimants(net))
                )
            if found != self.yielded.get(key, frozenset()):
                changed.append(key)
                if found:
                    self.yielded[key] = found
                else:
                    del self.yielded[key]
        return changed
