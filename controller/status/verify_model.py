"""The JSON contract of `/verify`: frozen values, served field for field. The rules of `model` hold here too."""

from __future__ import annotations

from dataclasses import dataclass

VERIFY_VERSION = 1
MAX_CONNECTIONS = 20_000  # of one question


@dataclass(frozen=True, slots=True)
class DifferenceView:
    """A connection that the switches do not treat as policy says; `reason` is why it is not delivered."""

    source: str
    source_address: str
    destination: str
    destination_address: str
    protocol: str
    port: int | None
    allowed: bool
    delivered: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VerifyView:
    """The answer of `headgate verify`; `version` is that of the form.

    Of `possible` connections `asked` were compared: `allowed` and `denied` by both, and `differ`, of which the first
    are named. `bridges` are the switches that were asked. `complete`: everything possible between their pods was asked.
    """

    version: int
    bridges: tuple[str, ...]
    possible: int
    asked: int
    allowed: int
    denied: int
    differ: int
    complete: bool
    differences: tuple[DifferenceView, ...] = ()
    notes: tuple[str, ...] = ()
