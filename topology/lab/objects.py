"""Where the objects of a lab's cluster stand: a folder of manifests, or an API server. How is not told here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class ObjectStore(Protocol):
    """Takes objects as they stand in manifests."""

    def put(self, objects: Iterable[dict[str, Any]]) -> list[str]:
        """Add objects or replace those of the same kind and name; returns their names for people."""

    def delete(self, objects: Iterable[dict[str, Any]]) -> list[str]:
        """Remove objects by kind and name; returns their names for people, with those that were not there."""


@dataclass(frozen=True)
class LabCluster:
    """An API server that has the objects. Who made it takes it down, and what is left in it.

    `kubeconfig` is the controller's; `objects` leads there with the rights of an administrator.
    """

    kubeconfig: Path
    objects: ObjectStore
