"""An OpenFlow flow as a frozen value. `flows.wire` has its bytes and its text."""

from __future__ import annotations

from dataclasses import dataclass

from flows.openflow.actions import Action
from flows.openflow.match import Match


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow entry. Without actions and `goto` it drops. `actions` run before `goto` (a goto-table instruction)."""

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...] = ()
    goto: int | None = None
    cookie: int = 0
