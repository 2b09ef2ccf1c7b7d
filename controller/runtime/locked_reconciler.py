"""The reconciler behind its lock: the event loop changes it, other threads read it between two batches of events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from controller.reconcile.problem import Problem
from controller.reconcile.reconciler import Reconciler

T = TypeVar("T")


class LockedReconciler:
    """Implements `status.incremental.ReconcilerAccess`. `lock` is for the event loop; all others call `read`."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self.lock = threading.Lock()
        self._batch_done = threading.Condition()

    def read(self, look: Callable[[Reconciler, float], T], timeout: float = -1) -> T:
        """What `look` returns for the reconciler and the monotonic time, called while nothing changes the reconciler.

        Raises TimeoutError when a batch of events takes longer than `timeout` seconds.
        """
        if not self.lock.acquire(timeout=timeout):
            raise TimeoutError("the controller is busy with earlier changes")
        try:
            return look(self._reconciler, time.monotonic())
        finally:
            self.lock.release()

    @property
    def revision(self) -> int:
        """The revision of the world after the last batch; read without the lock."""
        return self._reconciler.revision

    @property
    def taking_over(self) -> int:
        """How many switches this replica has still to take over; read without the lock."""
        return self._reconciler.roles.taking_over

    @property
    def generation(self) -> int:
        """The generation of the sources' objects after the last batch; read without the lock."""
        return self._reconciler.generation

    @property
    def is_started(self) -> bool:
        """Whether everything was read that flows depend on; read without the lock."""
        return self._reconciler.is_started

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of the sources after the last batch; read without the lock."""
        return self._reconciler.problems

    def wait_for_batch(self, timeout: float) -> None:
        """Wait until the event loop has handled another batch, or for `timeout` seconds."""
        with self._batch_done:
            self._batch_done.wait(timeout)

    def notify_batch(self) -> None:
        """Wake the threads in `wait_for_batch`."""
        with self._batch_done:
            self._batch_done.notify_all()
