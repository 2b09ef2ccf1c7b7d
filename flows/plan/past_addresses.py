"""Which of the addresses that pods learned have expired, in the order in which they did, by pod and by group of pods.

A group is what shares room (`learned_names`): the pods of one namespace behind one switch.
"""

from __future__ import annotations

from flows.cluster.model import Key
from flows.cluster.net import Net

Entry = tuple[str, Net]  # a name, and an address that it had
Group = tuple[int, str]  # datapath id, namespace


class PastAddresses:
    """Every question and change costs the same, however many there are; `forget` costs what the pod has."""

    def __init__(self) -> None:
        self._of: dict[Key, dict[Entry, None]] = {}  # the oldest first
        self._in: dict[Group, dict[tuple[Key, Entry], None]] = {}

    def count(self, pod: Key) -> int:
        """How many a pod has."""
        return len(self._of.get(pod, ()))

    def oldest(self, pod: Key) -> Entry:
        """The one of a pod that expired first. Raises KeyError where it has none."""
        return next(iter(self._of[pod]))

    def oldest_in(self, group: Group) -> tuple[Key, Entry] | None:
        """The one of a group that expired first, and whose it is."""
        return next(iter(self._in.get(group, ())), None)

    def add(self, group: Group, pod: Key, entry: Entry) -> None:
        """An entry of a pod of this group has expired."""
        self._of.setdefault(pod, {})[entry] = None
        self._in.setdefault(group, {})[pod, entry] = None

    def discard(self, group: Group, pod: Key, entry: Entry) -> None:
        """An entry is live again, or gone."""
        known, within = self._of.get(pod, {}), self._in.get(group, {})
        if entry not in known:
            return
        del known[entry], within[pod, entry]
        if not known:
            del self._of[pod]
        if not within:
            del self._in[group]

    def forget(self, group: Group, pod: Key) -> None:
        """A pod is gone."""
        for entry in list(self._of.get(pod, ())):
            self.discard(group, pod, entry)
