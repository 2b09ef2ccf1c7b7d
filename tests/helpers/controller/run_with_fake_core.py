"""`headgate run` with a made-up core, as a process of its own: real hub, real sockets, real signals.

    python -m tests.helpers.controller.run_with_fake_core BEHAVIOUR [arguments of headgate run]

BEHAVIOUR is `fine`, `refuses` (start fails), `hangs` (stop does not return), `early` (a signal arrives during start),
`talks` (logs more than any pipe holds, and prints on standard error) or `spins` (keeps the hub busy after a second).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.config.schema import RunConfig


def make_core(behaviour: str) -> types.ModuleType:
    """A stand-in for controller.runtime.controller."""
    from controller.base.errors import StartError
    from controller.metrics.registry import Metrics
    from tests.helpers.controller.fake_views import FakeViews

    def talk() -> None:
        log = logging.getLogger("talker")
        while True:
            for number in range(100):
                log.info("line %d %s", number, "x" * 500)
                sys.stderr.write("printed " + "y" * 500 + "\n")
            time.sleep(0.01)

    def spin() -> None:
        time.sleep(1)
        while True:
            sum(range(1000))  # never gives the hub its turn

    class Controller:
        def __init__(self, config: RunConfig) -> None:
            self.answers = FakeViews()
            self.page = None  # nobody asks for it
            self.metrics = Metrics("1", config.hub)
            self._stopping = threading.Event()
            self._thread = threading.Thread(target=self._stopping.wait)

        def start(self) -> None:
            if behaviour == "refuses":
                raise StartError("cannot listen for OpenFlow on 0.0.0.0:6653: it is in use; choose another")
            if behaviour == "early":
                os.kill(os.getpid(), signal.SIGTERM)
            self._thread.start()
            if behaviour in ("talks", "spins"):
                threading.Thread(target=talk if behaviour == "talks" else spin, daemon=True).start()

        def stop(self, timeout: float) -> None:
            while behaviour == "hangs":
                time.sleep(1)
            self._stopping.set()
            self._thread.join(timeout)
            os.write(1, b"stopped\n")

    module = types.ModuleType("controller.runtime.controller")
    module.Controller = Controller  # type: ignore[attr-defined]
    return module


class _Loader:
    """Makes the module when it is imported and not before: the hub comes first, as in the real process."""

    def __init__(self, behaviour: str) -> None:
        self._behaviour = behaviour

    def find_spec(self, name: str, *_: object) -> object:
        from importlib.machinery import ModuleSpec

        ours = name == "controller.runtime.controller"
        return ModuleSpec(name, self) if ours else None  # type: ignore[arg-type]

    def create_module(self, _: object) -> types.ModuleType:
        return make_core(self._behaviour)

    def exec_module(self, _: types.ModuleType) -> None:
        return


if __name__ == "__main__":
    from controller.cli import main

    sys.meta_path.insert(0, _Loader(sys.argv[1]))  # type: ignore[arg-type]
    sys.exit(main(["run", *sys.argv[2:]]))
