"""The Kubernetes source with its store, and every world that it posted, for tests to look at."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from controller.reconcile.events import ClusterChanged
from controller.sources.kubernetes.source import SILENCE_SECONDS, KubernetesApi
from controller.sources.store import Store
from flows.cluster.model import Cluster
from tests.helpers.waiting import WAIT_SECONDS, until


class RunningSource:
    """Starts with `with`. `posted` has everything that was posted, oldest first."""

    def __init__(self, credentials: Path | str, silence: float = SILENCE_SECONDS, *, services: bool = False) -> None:
        self.posted: list[ClusterChanged] = []
        self.store = Store(self.posted.append)
        self.source = KubernetesApi(str(credentials), self.store, silence, services=services)

    def __enter__(self) -> RunningSource:
        self.store.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.store.stop()

    @property
    def cluster(self) -> Cluster:
        """The world as posted last."""
        return self.posted[-1].cluster

    def wait_synced(self) -> None:
        """Until the first world was posted."""
        self.until(lambda: bool(self.posted))

    def until(self, condition: Callable[[], bool]) -> float:
        """Wait until `condition` holds. The seconds that it took."""
        began = time.monotonic()
        until(condition, lambda: f"the source is {self.source.state()}")
        return time.monotonic() - began

    def reread(self) -> Cluster:
        """The world that has everything written before this call."""
        generation = self.store.reread(WAIT_SECONDS)
        found = [change for change in self.posted if change.generation >= generation]
        return found[0].cluster
