"""A context whose work goes on in a thread of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """`_run` goes on in a thread from entering the context until `_stopping` is set, as leaving it does."""

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._close()

    @abstractmethod
    def _run(self) -> None:
        """Return soon after `_stopping` is set."""

    def _close(self) -> None:  # noqa: B027 - many have nothing to free
        """Free what `_run` used, once it has returned."""
