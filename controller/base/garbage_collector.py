"""The thresholds of Python's garbage collector in a running controller."""

from __future__ import annotations

# A full collection of a large cluster stops every thread for most of a second, OpenFlow echo replies included. So full
# collections are rare, and the event loop freezes (gc.freeze) what a long computation allocated: reference counts free
# it when it is no longer used.
GC_THRESHOLDS = (50_000, 20, 100)
