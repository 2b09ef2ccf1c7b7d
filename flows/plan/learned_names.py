"""What pods learned from DNS answers: by pod, the addresses, the names they were given for, and until when.

Theory of operation. `learn` notes an address as *live* until its time to live has passed; `expire` makes it not live
then. An address that is not live stays: it opens nothing (`flows.render.rules.named_peer_terms`), and connections that
run to it go on. The oldest of these give way to new ones. A pod's entries go with the pod.

Nothing here decides which answers count (`controller.reconcile.held_answers`) or which rules have the names. Every
number that a pod can drive up has a limit, so that it can fill its own share only.

Example. Pod x/a gets the answer `www.example.com A 192.0.2.7, TTL 60` at time 100. Until 160 its rules for
`*.example.com` accept connections to 192.0.2.7, then the packets of connections only that were recorded before.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from flows.cluster.domain_names import LearnedAddress
from flows.cluster.model import Key
from flows.cluster.net import Net
from flows.plan.named_peers import Learned

MAX_OF_NAME = 512  # live addresses of one name of one pod; upstream asks for 100
MAX_NAMES_OF_ADDRESS = 128  # of one pod: they stand in one flow (`flows.render.name_memory`)
MAX_OF_POD = 4096  # live ones of a pod
MAX_PAST_OF_POD = 1024  # that are not live any more
MAX_OF_ALL = 1_000_000  # entries of all pods

_Entry = tuple[str, Net]
_NOTHING: Learned = {}


class LearnedNames:
    """`changes` are the pods that learned or lost something since it was emptied, with the addresses concerned; None
    for any address. `refused` counts what found no room."""

    def __init__(self) -> None:
        self.changes: dict[Key, set[Net] | None] = {}
        self.refused = 0
        self.size = 0
        self._of: dict[Key, dict[Net, dict[str, bool]]] = {}
        self._until: dict[Key, dict[_Entry, float]] = {}  # of live entries
        self._past: dict[Key, dict[_Entry, None]] = {}  # of others, the oldest first
        self._names: dict[Key, dict[str, int]] = {}  # live addresses by name
        self._values: dict[Key, tuple[LearnedAddress, ...]] = {}  # `of_pod`, where it was asked for
        self._due: list[tuple[float, Key, str, Net]] = []  # a heap: when to look at an entry, which may be gone

    def of(self, pod: Key) -> Learned:
        """What a pod learned."""
        return self._of.get(pod, _NOTHING)

    def pods(self) -> Iterable[Key]:
        """The pods that learned something."""
        return self._of.keys()

    def until(self, pod: Key) -> Mapping[_Entry, float]:
        """When the live entries of a pod expire."""
        return self._until.get(pod, {})

    def __contains__(self, pod: Key) -> bool:
        return pod in self._of

    def of_pod(self, pod: Key) -> tuple[LearnedAddress, ...]:
        """What a pod learned, as values."""
        found = self._values.get(pod)
        if found is None:
            of = self._of.get(pod, _NOTHING)
            found = tuple(
                [LearnedAddress(name, net, live) for net, names in of.items() for name, live in names.items()]
            )
            if of:
                self._values[pod] = found
        return found

    def snapshot(self) -> dict[Key, tuple[LearnedAddress, ...]]:
        """Everything, as values."""
        return {pod: self.of_pod(pod) for pod in self._of}

    # -- changes -----------------------------------------------------------------------------------------------------

    def learn(self, pod: Key, name: str, answers: Iterable[tuple[Net, float]]) -> bool:
        """A pod may open connections to these addresses for a name, each until a time. Returns whether it could not
        before."""
        changed = False
        for address, until in answers:
            live = self._of.get(pod, _NOTHING).get(address, {}).get(name)
            if live:
                entries = self._until[pod]
                entries[name, address] = max(entries[name, address], until)
                continue
            if not self._has_room(pod, name, address, new=live is None):
                self.refused += 1
                continue
            if live is not None:
                self._past[pod].pop((name, address), None)
            self._set(pod, name, address, True)
            self._until.setdefault(pod, {})[name, address] = until
            names = self._names.setdefault(pod, {})
            names[name] = names.get(name, 0) + 1
            heapq.heappush(self._due, (until, pod, name, address))
            changed = True
        return changed

    def _has_room(self, pod: Key, name: str, address: Net, new: bool) -> bool:
        names = self._of.get(pod, _NOTHING).get(address, {})
        if new and (self.size >= MAX_OF_ALL or len(names) >= MAX_NAMES_OF_ADDRESS):
            return False
        return len(self._until.get(pod, ())) < MAX_OF_POD and self._names.get(pod, {}).get(name, 0) < MAX_OF_NAME

    def restore(self, pod: Key, entry: LearnedAddress, until: float) -> bool:
        """A switch has this entry of a pod from an earlier controller. Returns whether it was unknown here."""
        if entry.name in self._of.get(pod, _NOTHING).get(entry.address, {}):
            return False
        if entry.live:
            return self.learn(pod, entry.name, [(entry.address, until)])
        if not self._has_room(pod, entry.name, entry.address, new=True):
            self.refused += 1
            return False
        self._set(pod, entry.name, entry.address, False)
        self._keep_past(pod, (entry.name, entry.address))
        return True

    def expire(self, now: float) -> bool:
        """Make those not live whose time has come. Returns whether there was any."""
        changed = False
        while self._due and self._due[0][0] <= now:
            _, pod, name, address = heapq.heappop(self._due)
            until = self._until.get(pod, {}).get((name, address))
            if until is None:
                continue
            if until > now:  # it was learned again
                heapq.heappush(self._due, (until, pod, name, address))
                continue
            del self._until[pod][name, address]
            names = self._names[pod]
            names[name] -= 1
            if not names[name]:
                del names[name]
            self._set(pod, name, address, False)
            self._keep_past(pod, (name, address))
            changed = True
        return changed

    def due_at(self) -> float | None:
        """When `expire` may have something to do."""
        return self._due[0][0] if self._due else None

    def forget(self, pod: Key) -> None:
        """A pod is gone, or another with its name came."""
        gone = self._of.pop(pod, None)
        if gone is None:
            return
        self.size -= sum(map(len, gone.values()))
        for part in (self._until, self._past, self._names, self._values):
            part.pop(pod, None)
        self.changes[pod] = None

    # -- entries -----------------------------------------------------------------------------------------------------

    def _set(self, pod: Key, name: str, address: Net, live: bool) -> None:
        names = self._of.setdefault(pod, {}).setdefault(address, {})
        self.size += name not in names
        names[name] = live
        self._note(pod, address)

    def _note(self, pod: Key, address: Net) -> None:
        self._values.pop(pod, None)
        noted = self.changes.setdefault(pod, set())
        if noted is not None:
            noted.add(address)

    def _keep_past(self, pod: Key, entry: _Entry) -> None:
        """Keep an entry that is not live; the oldest one goes where there are too many."""
        past = self._past.setdefault(pod, {})
        past[entry] = None
        if len(past) > MAX_PAST_OF_POD:
            name, address = oldest = next(iter(past))
            del past[oldest]
            names = self._of[pod][address]
            del names[name]
            self.size -= 1
            if not names:
                del self._of[pod][address]
            self._note(pod, address)
