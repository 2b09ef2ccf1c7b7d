"""Changes what is wanted, one change after the other, and writes the history that the oracle judges by."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from flows.cluster.model import Cluster
from tests.chaos.history import Change, History
from tests.chaos.schedule import Kind, Step
from tests.chaos.stage import ASK_PAUSE, Stage
from tests.chaos.world import ROLES, flapping_policy, standing_policies
from tests.helpers.truth.paper_cluster import PaperCluster
from topology.lab.manifests import Manifest, cluster_objects, pod_object


class Changer:
    """Makes changes on a stage whose objects are those of the beginning. Times are those of `clock`; `over` says when
    to give up.
    """

    def __init__(self, stage: Stage, clock: Callable[[], float], over: Callable[[], bool]) -> None:
        self._stage, self._clock, self._over = stage, clock, over
        self._topology, self._endpoints = stage.lab.topology, stage.lab.endpoints
        self._paper = PaperCluster([*cluster_objects(self._topology, self._endpoints), *standing_policies()])
        self._there: set[str] = set()
        self._moved: set[str] = set()
        self.history = History([self._paper.snapshot()])

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Make these changes at their times, or as soon as the one before is realized."""
        for step in steps:
            while self._clock() < step.at and not self._over():
                time.sleep(ASK_PAUSE)
            self._change(step)

    def back(self) -> None:
        """Change everything back to how it was at the beginning."""
        for name in sorted(self._there):
            self._change(Step(self._clock(), Kind.POLICY.value, name))
        for name in sorted(self._moved):
            self._change(Step(self._clock(), Kind.RELABEL.value, name))

    def _change(self, step: Step) -> None:
        if self._over():
            return
        store = self._stage.lab.objects
        if step.what is Kind.RELABEL:
            moved = self._relabelled(step.target)
            self._moved ^= {step.target}
            self._realize(f"{step.target} relabelled", self._with(moved), lambda: store.put([moved]))
            return
        policy = flapping_policy(step.target)
        self._there ^= {step.target}
        if step.target in self._there:
            self._realize(f"{step.target} created", self._with(policy), lambda: store.put([policy]))
        else:
            self._paper.delete_policy(policy)
            self._realize(f"{step.target} deleted", self._paper.snapshot(), lambda: self._delete(policy))

    def _realize(self, what: str, state: Cluster, send: Callable[[], Any]) -> None:
        change: Change = self.history.begin(what, state, self._clock())
        while not self._over():
            try:
                send()
                break
            except (AssertionError, subprocess.TimeoutExpired):  # the API server is away
                time.sleep(ASK_PAUSE)
        while not self._over():
            if self._stage.announced():
                change.closed = self._clock()
                return
            time.sleep(ASK_PAUSE)

    def _delete(self, policy: Manifest) -> None:
        meta = policy["metadata"]
        self._stage.api.kubectl("delete", "--ignore-not-found", "networkpolicy", meta["name"], "-n", meta["namespace"])

    def _with(self, manifest: Manifest) -> Cluster:
        self._paper.apply(manifest)
        return self._paper.snapshot()

    def _relabelled(self, key: str) -> Manifest:
        """The pod with the role that it does not have now."""
        (pod,) = (one for one in self._topology.pods if one.key == key)
        role = pod.labels["role"]
        if key not in self._moved:
            role = next(one for one in ROLES if one != role)
        return pod_object(
            self._topology, pod.model_copy(update={"labels": {**pod.labels, "role": role}}), self._endpoints
        )
