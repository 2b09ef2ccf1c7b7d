"""Which lab a command of `headgate lab` means, and how a lab's errors become a command's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cli.errors import Failure

if TYPE_CHECKING:
    from topology.lab import Lab


@dataclass(frozen=True)
class Where:
    """Which lab is meant: its name, if the user gave one, and the folder that labs live in."""

    name: str | None
    base: Path

    def load(self) -> Lab:
        """The lab that is up: the named one, else the only one there is, else the one called demo."""
        from topology.lab import Lab

        return Lab.load(self.chosen(), self.base)

    def chosen(self) -> str:
        """The lab's name."""
        from topology.state import labs

        there = labs(self.base)
        return self.name or (there[0] if len(there) == 1 else "demo")


@contextmanager
def told() -> Iterator[None]:
    """Turn a lab's error into a command's."""
    from topology.errors import LabError

    try:
        yield
    except LabError as error:
        raise Failure(str(error)) from error
    except PermissionError as error:
        where = f" ({error.filename}: {error.strerror})" if error.filename else ""
        raise Failure(f"labs need root; run this command with sudo{where}") from error
