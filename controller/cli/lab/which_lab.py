"""Which lab a command of `headgate lab` means, how a lab's errors become a command's, and names for the shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cli.errors import CommandFailure
from controller.cli.which_controller import LAB_FOLDER

if TYPE_CHECKING:
    import click

    from topology.lab.lab import Lab


@dataclass(frozen=True)
class LabChoice:
    """Which lab is meant: its name, if the user gave one, and the folder that labs live in."""

    name: str | None
    base: Path

    def load(self) -> Lab:
        """The lab that is up: the named one, else the only one there is. Raises LabError or Failure."""
        from topology.lab.lab import Lab

        return Lab.load(self.chosen(), self.base)

    def chosen(self) -> str:
        """The lab's name: the one given, else of the only one there is, else demo. Raises Failure for several."""
        from topology.lab.state import lab_names

        there = lab_names(self.base)
        if self.name is None and len(there) > 1:
            raise CommandFailure(f"which lab? There are {', '.join(there)}: headgate lab --name NAME ...")
        return self.name or (there[0] if there else "demo")


@contextmanager
def lab_errors_as_failures() -> Iterator[None]:
    """Turn a lab's error into a command's."""
    from topology.errors import LabError

    try:
        yield
    except LabError as error:
        raise CommandFailure(str(error)) from error
    except PermissionError as error:
        where = f" ({error.filename}: {error.strerror})" if error.filename else ""
        raise CommandFailure(f"labs need root; run this command with sudo{where}") from error


def complete_endpoint(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The names of the lab's pods, nodes and machines outside that begin so. Nothing where there is no lab."""
    parent = ctx.parent.params if ctx.parent else {}
    try:
        lab = LabChoice(parent.get("name"), Path(parent.get("run_dir") or LAB_FOLDER).absolute()).load()
    except Exception:  # noqa: BLE001  # a shell that completes shows no errors
        return []
    return [name for name in lab.endpoints if name.startswith(incomplete)]


def complete_lab(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The names of the labs that begin so."""
    from topology.lab.state import lab_names

    return [name for name in lab_names(Path(ctx.params.get("run_dir") or LAB_FOLDER)) if name.startswith(incomplete)]
