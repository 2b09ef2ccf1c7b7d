"""A core around a reconciler that is driven with values: its lock, and how much was read under it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from controller.reconcile.commands import Command
from controller.reconcile.events import Event
from controller.reconcile.reconciler import Reconciler
from tests.helpers.controller.reconcile_driver import Driver

T = TypeVar("T")


class StatusDriver(Driver):
    """What Board and Keeper ask of the controller. `busy` keeps the lock, as a long computation does."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.reads = 0
        self.handled: Callable[[list[Event]], None] = lambda events: None

    def read(self, look: Callable[[Reconciler, float], T], timeout: float = -1) -> T:
        """As controller.runtime.controller.Controller.read."""
        if not self.lock.acquire(timeout=timeout):
            raise TimeoutError("busy")
        try:
            self.reads += 1
            return look(self.core, self.now)
        finally:
            self.lock.release()

    def send(self, *events: Event) -> list[Command]:
        """As Driver.send, with the lock held; reports every batch to `handled`."""
        with self.lock:
            commands = self.core.handle(events, self.now)
            self.handled(list(events))
        seen = list(commands)
        answers = [answer for command in commands for answer in self._answer(command)]
        return seen + self.send(*answers) if answers else seen
