"""The interface to the objects of a lab: a folder of manifests (`manifests`) or an API server (`remote.api`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class ObjectStore(Protocol):
    """Stores objects that are given as in manifests."""

    def put(self, objects: Iterable[dict[str, Any]]) -> list[str]:
        """Create objects or replace those of the same kind and name; returns a line for each."""

    def delete(self, objects: Iterable[dict[str, Any]]) -> list[str]:
        """Delete objects by kind and name; returns a line for each: `deleted` or `not found`."""


@dataclass(frozen=True)
class LabCluster:
    """An API server that has the objects. The caller starts and stops it, and removes objects that are left.

    `kubeconfig` is for the controller; `objects` changes objects with the rights of an administrator.
    """

    kubeconfig: Path
    objects: ObjectStore
