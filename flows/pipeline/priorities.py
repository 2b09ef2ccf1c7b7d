"""Priorities of the policy tables, highest first; rules take RULES and a number of places below it."""

from __future__ import annotations

SELF = 30000  # a pod always reaches itself
NOT_ASKED = 29000  # the node and its own pods
NOT_ISOLATED = 28000  # nothing isolates the subject in this direction
RULES = 20000  # conjunctive matches, in up to MOST_BANDS bands from here down
