"""How often Python's garbage collector goes its rounds in a running controller. Nothing else is decided here."""

from __future__ import annotations

# A full round of the garbage collector over a large world would hold up everything, echo replies too, for most of a
# second. So rounds are rare, and what a long computation left behind is taken out of them: it is kept, or freed by its
# reference counts.
GC_THRESHOLDS = (50_000, 20, 100)
