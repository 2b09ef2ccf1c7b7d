"""What pods learned from DNS answers: by pod, the addresses, the names they were given for, and until when.

Theory of operation. `learn` notes an address as *live* until its time to live has passed; `expire` makes it not live
then. An address that is not live stays: it opens nothing (`flows.render.rules.named_peer_terms`), and connections that
run to it go on. The oldest of these give way to new ones. A pod's entries go with the pod.

Nothing here decides which answers count (`controller.reconcile.held_answers`) or which rules have the names. Every
number that a pod can drive up has a limit of the pod's own. What pods of one switch, and all pods, have together is
limited too, and shared between namespaces (`shared_room`): pods of one cannot keep those of others from learning.

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
from flows.plan.past_addresses import Entry, Group, PastAddresses
from flows.plan.shared_room import SharedRoom

MAX_OF_NAME = 512  # live addresses of one name of one pod; upstream asks for 100
MAX_NAMES_OF_ADDRESS = 128  # of one pod: they stand in one flow (`flows.render.name_memory`)
MAX_OF_POD = 4096  # live ones of a pod
MAX_PAST_OF_POD = 1024  # that are not live any more
MAX_OF_SWITCH = 131_072  # entries of pods of one switch: each is a flow there, and one more for each rule that has it
MAX_OF_ALL = 1_000_000  # entries of all pods
FEW = 100  # entries that expire within some milliseconds
_SLACK = 64  # outdated entries that the heap may have beyond one for each live one

FULL_NAME = f"a name has {MAX_OF_NAME} addresses"
FULL_ADDRESS = f"an address has {MAX_NAMES_OF_ADDRESS} names"
FULL_POD = f"it has {MAX_OF_POD:,} addresses"
FULL_SWITCH = "its namespace has its share of what pods of its node may learn"
FULL_ALL = "its namespace has its share of what all pods may learn"

_NOTHING: Learned = {}


class LearnedNames:
    """`changes` are the pods that learned or lost something since it was emptied, with the addresses concerned; None
    for any address. `refused` counts what found no room; `full` says why, by pod, since it was emptied."""

    def __init__(self) -> None:
        self.changes: dict[Key, set[Net] | None] = {}
        self.refused = 0
        self.full: dict[Key, str] = {}
        self._all: SharedRoom[str] = SharedRoom(MAX_OF_ALL)  # by namespace
        self._on: dict[int, SharedRoom[str]] = {}  # by datapath id and namespace
        self._switch: dict[Key, int] = {}  # where a pod learned first
        self._of: dict[Key, dict[Net, dict[str, bool]]] = {}
        self._until: dict[Key, dict[Entry, float]] = {}  # of live entries
        self._past = PastAddresses()  # the others
        self._names: dict[Key, dict[str, int]] = {}  # live addresses by name
        self._values: dict[Key, tuple[LearnedAddress, ...]] = {}  # `of_pod`, where it was asked for
        self._due: list[tuple[float, Key, str, Net]] = []  # a heap: when to look at an entry, which may be gone
        self._live = 0  # entries that are live, of all pods

    @property
    def size(self) -> int:
        """The entries of all pods."""
        return self._all.used

    def of(self, pod: Key) -> Learned:
        """What a pod learned."""
        return self._of.get(pod, _NOTHING)

    def pods(self) -> Iterable[Key]:
        """The pods that learned something."""
        return self._of.keys()

    def until(self, pod: Key) -> Mapping[Entry, float]:
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

    def learn(self, pod: Key, name: str, answers: Iterable[tuple[Net, float]], switch: int = 0) -> bool:
        """A pod behind a switch may open connections to these addresses for a name, each until a time. Returns whether
        it could not before."""
        self._switch.setdefault(pod, switch)
        changed = False
        for address, until in answers:
            live = self._of.get(pod, _NOTHING).get(address, {}).get(name)
            if live:
                entries = self._until[pod]
                entries[name, address] = max(entries[name, address], until)
                continue
            if live is None:
                self._make_room(self._group(pod))
                self._switch.setdefault(pod, switch)  # what gave way may have been all that it had
            if full := self._full(pod, name, address, new=live is None):
                self._refuse(pod, full)
                continue
            self._make_live(pod, name, address, until)
            changed = True
        if pod not in self._of:
            del self._switch[pod]
        return changed

    def restore(self, pod: Key, entry: LearnedAddress, until: float, switch: int = 0) -> bool:
        """A switch has this entry of a pod from an earlier controller. Returns whether it was unknown here."""
        if entry.name in self._of.get(pod, _NOTHING).get(entry.address, {}):
            return False
        self._switch.setdefault(pod, switch)
        full = self._full(pod, entry.name, entry.address, new=True, shared=False)
        if full:
            self._refuse(pod, full)
            if pod not in self._of:
                del self._switch[pod]
        elif entry.live:
            self._make_live(pod, entry.name, entry.address, until)
        else:
            self._set(pod, entry.name, entry.address, False)
            self._keep_past(pod, (entry.name, entry.address))
        return not full

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
            self._live -= 1
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

    def expires_few(self, now: float) -> bool:
        """Whether `expire` would look at no more than FEW entries."""
        look, count = [0], 0
        while look:
            at = look.pop()
            if at < len(self._due) and self._due[at][0] <= now:
                count += 1
                if count > FEW:
                    return False
                look += (2 * at + 1, 2 * at + 2)  # what a heap has below an entry is due later
        return True

    def forget(self, pod: Key) -> None:
        """A pod is gone, or another with its name came."""
        gone = self._of.pop(pod, None)
        if gone is None:
            return
        self._past.forget(self._group(pod), pod)
        self._give_back(pod, sum(map(len, gone.values())))
        self._live -= len(self._until.get(pod, ()))
        for part in (self._until, self._names, self._values, self._switch):
            part.pop(pod, None)
        self.changes[pod] = None

    # -- room --------------------------------------------------------------------------------------------------------

    def _group(self, pod: Key) -> Group:
        return self._switch[pod], pod.namespace

    def _full(self, pod: Key, name: str, address: Net, new: bool, shared: bool = True) -> str:
        """Why an entry finds no room, "" where it does. `new`: it is not one of the past. Without `shared` it was
        there before this controller was, so that the shares do not count."""
        if new:
            if len(self._of.get(pod, _NOTHING).get(address, ())) >= MAX_NAMES_OF_ADDRESS:
                return FULL_ADDRESS
            if full := self._full_share(self._group(pod), shared):
                return full
        if len(self._until.get(pod, ())) >= MAX_OF_POD:
            return FULL_POD
        return FULL_NAME if self._names.get(pod, {}).get(name, 0) >= MAX_OF_NAME else ""

    def _full_share(self, group: Group, shared: bool = True) -> str:
        switch, namespace = group
        for room, full in ((self._on.get(switch), FULL_SWITCH), (self._all, FULL_ALL)):
            if room is not None and not (room.has_room(namespace) if shared else room.used < room.total):
                return full
        return ""

    def _make_room(self, group: Group) -> None:
        """Where a namespace has its share, what expired first of it gives way."""
        while self._full_share(group) and (oldest := self._past.oldest_in(group)) is not None:
            self._drop_past(*oldest)

    def _refuse(self, pod: Key, why: str) -> None:
        self.refused += 1
        self.full[pod] = why

    def _give_back(self, pod: Key, count: int) -> None:
        switch, namespace = self._group(pod)
        self._all.give_back(namespace, count)
        self._on[switch].give_back(namespace, count)
        if not self._on[switch].used:
            del self._on[switch]

    # -- entries -----------------------------------------------------------------------------------------------------

    def _make_live(self, pod: Key, name: str, address: Net, until: float) -> None:
        self._past.discard(self._group(pod), pod, (name, address))
        self._set(pod, name, address, True)
        self._until.setdefault(pod, {})[name, address] = until
        names = self._names.setdefault(pod, {})
        names[name] = names.get(name, 0) + 1
        self._live += 1
        heapq.heappush(self._due, (until, pod, name, address))
        if len(self._due) > 2 * self._live + _SLACK:  # those of pods that are gone must not pile up
            self._due = [(until, pod, *one) for pod, of in self._until.items() for one, until in of.items()]
            heapq.heapify(self._due)

    def _set(self, pod: Key, name: str, address: Net, live: bool) -> None:
        names = self._of.setdefault(pod, {}).setdefault(address, {})
        if name not in names:
            switch, namespace = self._group(pod)
            self._all.take(namespace)
            self._on.setdefault(switch, SharedRoom(MAX_OF_SWITCH)).take(namespace)
        names[name] = live
        self._note(pod, address)

    def _note(self, pod: Key, address: Net) -> None:
        self._values.pop(pod, None)
        noted = self.changes.setdefault(pod, set())
        if noted is not None:
            noted.add(address)

    def _keep_past(self, pod: Key, entry: Entry) -> None:
        """Keep an entry that is not live; the oldest one goes where there are too many."""
        self._past.add(self._group(pod), pod, entry)
        if self._past.count(pod) > MAX_PAST_OF_POD:
            self._drop_past(pod, self._past.oldest(pod))

    def _drop_past(self, pod: Key, entry: Entry) -> None:
        self._past.discard(self._group(pod), pod, entry)
        name, address = entry
        of = self._of[pod]
        del of[address][name]
        if not of[address]:
            del of[address]
        self._give_back(pod, 1)
        self._note(pod, address)
        if not of:
            for part in (self._of, self._until, self._names, self._switch):
                part.pop(pod, None)
