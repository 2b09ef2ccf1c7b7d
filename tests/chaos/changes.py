"""Changes what is wanted, one change after the other, and writes the history that the oracle judges by."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from flows.cluster.model import Key
from tests.chaos.history import Change, History, State
from tests.chaos.moves import Mover
from tests.chaos.places import Addresses, Place, first_places
from tests.chaos.prober import PATIENCE
from tests.chaos.schedule import MOVES, Kind, Step
from tests.chaos.stage import ASK_PAUSE, Stage
from tests.chaos.world import NEW_ADDRESSES, ROLES, flapping_policy, standing_policies
from tests.helpers.truth.paper_cluster import PaperCluster
from topology.errors import LabError
from topology.lab.manifests import Manifest, cluster_objects

REST_SECONDS = max(PATIENCE.values()) + 1.0  # before another pod gets an address


class Changer:
    """Makes changes on a stage whose objects are those of the beginning. Times are those of `clock`; `over` says when
    to give up. `places` are where the pods are now, without those that are going or coming; another value each time.
    """

    def __init__(self, stage: Stage, clock: Callable[[], float], over: Callable[[], bool]) -> None:
        self._stage, self._clock, self._over = stage, clock, over
        topology, endpoints = stage.lab.topology, stage.lab.endpoints
        self._paper = PaperCluster([*cluster_objects(topology, endpoints), *standing_policies()])
        self._there: set[str] = set()
        self._other_role: set[str] = set()
        self._labels = {pod.key: pod.labels for pod in topology.pods}
        self._mover = Mover(stage)
        self._addresses = Addresses(NEW_ADDRESSES, REST_SECONDS)
        self._home = self.places = first_places(topology, endpoints)
        self._lives = 0
        self.history = History([self._state()])

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Make these changes at their times, or as soon as the one before is realized."""
        for step in steps:
            while self._clock() < step.at and not self._over():
                time.sleep(ASK_PAUSE)
            self._change(step)

    def back(self) -> None:
        """Change everything back to how it was at the beginning, but for the lives of pods."""
        for name in sorted(self._there):
            self._flap(name)
        away = {key for key, place in self.places.items() if place[:2] != self._home[key][:2]}
        for key in sorted(away):
            self._leave(key)  # all of them first: one may have another's address
        for key in sorted(self._other_role):
            self._other_role.discard(key)
            if key not in away:
                self._relabel(key)
        for key in sorted(away):
            self._come(key, *self._home[key][:2])

    def _change(self, step: Step) -> None:
        if self._over():
            return
        if step.what in MOVES:
            self._move(*step.target.rpartition("/")[::2], step.what is Kind.READDRESS)
        elif step.what is Kind.RELABEL:
            self._other_role ^= {step.target}
            self._relabel(step.target)
        else:
            self._flap(step.target)

    def _flap(self, name: str) -> None:
        policy = flapping_policy(name)
        self._there ^= {name}
        if name in self._there:
            self._paper.apply(policy)
            self._realize(f"{name} created", lambda: self._stage.lab.objects.put([policy]))
        else:
            self._paper.delete_policy(policy)
            self._realize(f"{name} deleted", lambda: self._delete(policy))

    def _relabel(self, key: str) -> None:
        manifest = self._mover.manifest(key, self.places[key], self._labels_of(key))
        self._paper.apply(manifest)
        self._realize(f"{key} relabelled", lambda: self._stage.lab.objects.put([manifest]))

    def _move(self, key: str, node: str, readdress: bool) -> None:
        before = self.places[key].addresses
        self._leave(key)
        if not readdress:
            self._other_role ^= {key}
        self._come(key, node, self._addresses.take(self._clock(), before) if readdress else before)

    def _leave(self, key: str) -> None:
        place = self.places[key]
        manifest = self._mover.manifest(key, place, self._labels_of(key))
        self.places = {name: one for name, one in self.places.items() if name != key}
        self._paper.delete_pod(Key(*key.split("/")))

        def send() -> None:
            self._mover.detach(key, place)
            self._delete(manifest)

        self._realize(f"{key} leaves {place.node}", send)
        self._addresses.leave(place.addresses, self._clock())

    def _come(self, key: str, node: str, addresses: tuple[tuple[int, str], ...]) -> None:
        self._lives += 1
        self._addresses.come(addresses)
        place = Place(node, addresses, self._lives)
        manifest = self._mover.manifest(key, place, self._labels_of(key))
        self._paper.apply(manifest)

        def send() -> None:
            self._stage.lab.objects.put([manifest])
            self._mover.attach(key, place)

        there = {**self.places, key: place}
        self._realize(f"{key} comes to {node}", send, State(self._paper.snapshot(), there),
                      lambda: self._mover.is_attached(key, place))  # fmt: skip
        self.places = there

    def _realize(
        self, what: str, send: Callable[[], Any], state: State | None = None, sent: Callable[[], bool] = lambda: True
    ) -> None:
        """Begin a change to this state, by default to that of now; over when `sent`, too, and it is announced."""
        change: Change = self.history.begin(what, state or self._state(), self._clock())
        self._until(lambda: (send(), True)[1])
        self._until(sent)
        if self._until(self._stage.announced):
            change.closed = self._clock()

    def _until(self, done: Callable[[], bool]) -> bool:
        while not self._over():
            try:
                if done():
                    return True
            except (AssertionError, subprocess.TimeoutExpired, LabError):  # the API server or an OVSDB is away
                pass
            time.sleep(ASK_PAUSE)
        return False

    def _delete(self, manifest: Manifest) -> None:
        meta = manifest["metadata"]
        now = ("--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
        self._stage.api.kubectl("delete", *now, manifest["kind"], meta["name"], "-n", meta["namespace"])

    def _state(self) -> State:
        return State(self._paper.snapshot(), self.places)

    def _labels_of(self, key: str) -> dict[str, str]:
        """The pod's labels, with the role that it does not have at the beginning if it has changed."""
        labels = self._labels[key]
        role = labels["role"]
        if key in self._other_role:
            role = next(one for one in ROLES if one != role)
        return {**labels, "role": role}
