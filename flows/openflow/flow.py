"""OpenFlow flows as frozen values: terms of a match, actions, and the flow itself.

Building a match checks what OVS would check: that the fields it depends on are there. How values look on the wire is
the codec's business, how they read in text `text`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.openflow.actions import Action
from flows.openflow.match import Match


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow entry. No actions and no `goto` means drop. `actions` run before `goto` (a goto-table instruction)."""

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...] = ()
    goto: int | None = None
    cookie: int = 0
