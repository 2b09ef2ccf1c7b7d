"""The lab that a subcommand of `headgate lab` uses, the conversion of a lab's errors, and shell completion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cli.errors import CommandFailure
from controller.cli.which_controller import LAB_FOLDER

if TYPE_CHECKING:
    import click

    from topology.lab.lab import Lab


CommandFunction = Callable[..., None]


@dataclass(frozen=True)
class LabChoice:
    """The lab to use: its name, None if not given, and the folder of all labs."""

    name: str | None
    base: Path

    def load(self) -> Lab:
        """The running lab: the named one, or the only one. Raises LabError or CommandFailure."""
        from topology.lab.lab import Lab

        return Lab.load(self.chosen(), self.base)

    def chosen(self) -> str:
        """The given name, or that of the only lab, or `demo`. Raises CommandFailure if there are several."""
        from topology.lab.state import lab_names

        there = lab_names(self.base)
        if self.name is None and len(there) > 1:
            raise CommandFailure(
                f"there are several labs: {', '.join(there)}; choose one: headgate lab --name NAME ..."
            )
        return self.name or (there[0] if there else "demo")


@contextmanager
def lab_errors_as_failures() -> Iterator[None]:
    """Raise CommandFailure for a LabError or a missing permission in the block."""
    from topology.errors import LabError

    try:
        yield
    except LabError as error:
        raise CommandFailure(str(error)) from error
    except PermissionError as error:
        where = f" ({error.filename}: {error.strerror})" if error.filename else ""
        raise CommandFailure(f"labs need root; run this command with sudo{where}") from error


def complete_endpoint(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of the lab's pods, nodes and externals that begin with `incomplete`; none without a lab."""
    parent = ctx.parent.params if ctx.parent else {}
    try:
        lab = LabChoice(parent.get("name"), Path(parent.get("run_dir") or LAB_FOLDER).absolute()).load()
    except Exception:  # noqa: BLE001  # completion shows no errors
        return []
    return [name for name in lab.endpoints if name.startswith(incomplete)]


def complete_lab(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The names of labs that begin with `incomplete`."""
    from topology.lab.state import lab_names

    return [name for name in lab_names(Path(ctx.params.get("run_dir") or LAB_FOLDER)) if name.startswith(incomplete)]
