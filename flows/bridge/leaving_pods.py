"""Pods that are being deleted and have no port any more: they yield an address that a pod with a port has now.

A deleted pod's network is gone long before its object when something hangs; meanwhile its address may be another's. As
long as a pod that is deleted has its port, or nobody else with a port claims the address, everything stays as it is.
No input or output here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flows.cluster.model import Key, Pod
from flows.cluster.net import Net


class LeavingPods:
    """Which pods are being deleted, by address; which of them are in doubt, and what each of them yields."""

    def __init__(self) -> None:
        self.yielded: dict[Key, frozenset[Net]] = {}
        self._of: dict[Key, tuple[Net, ...]] = {}
        self._by_address: dict[Net, set[Key]] = {}
        self._doubtful: set[Key] = set()

    def set_pod(self, key: Key, pod: Pod | None) -> None:
        """A pod is this now; None for one that is gone."""
        addresses = pod.addresses if pod is not None and pod.terminating and pod.networked else ()
        before = self._of.get(key, ())
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
            self._of[key] = addresses
            self._doubtful.add(key)
        else:
            self._of.pop(key, None)
            self.yielded.pop(key, None)

    def mark_doubtful(self, key: Key, addresses: Iterable[Net]) -> None:
        """A pod has these addresses, or had them; or its port came or went."""
        if key in self._of:
            self._doubtful.add(key)
        if self._by_address:
            for net in addresses:
                self._doubtful.update(self._by_address.get(net, ()))

    def decide(self, has_port: Callable[[Key], bool], claimants: Callable[[Net], Iterable[Key]]) -> list[Key]:
        """Decide what is in doubt; returns the pods that yield otherwise than before."""
        doubtful, self._doubtful = self._doubtful, set()
        changed = []
        for key in doubtful & self._of.keys():
            found = frozenset[Net]()
            if not has_port(key):
                found = frozenset(
                    net for net in self._of[key] if any(one != key and has_port(one) for one in claimants(net))
                )
            if found != self.yielded.get(key, frozenset()):
                changed.append(key)
                if found:
                    self.yielded[key] = found
                else:
                    del self.yielded[key]
        return changed
