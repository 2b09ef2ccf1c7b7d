"""Python's garbage collector in a running controller: when it may stop every thread, and for how long."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from controller.base.native_threads import unpatched

# A full collection of a large cluster stops every thread for most of a second, OpenFlow echo replies included, and one
# of the middle generation for half of one while the cluster is loaded. So full collections are rare, and none happens
# during work that makes very many objects to keep (`without_collection`). One of the young takes 2 to 5 ms, which every
# DNS answer that is held may wait for.
GC_THRESHOLDS = (10_000, 100, 100)
# New objects that are left after such work, from which on the collector skips all that there are (gc.freeze): reference
# counts free them when they are no longer used. Garbage with cycles among them is never freed, so this must be rare,
# and it is: as many objects have to be new, and live.
FREEZE_FROM = 200_000

_lock = unpatched("threading").Lock()  # native threads use it, too
_blocks = 0  # of `without_collection` that are being run


@contextmanager
def without_collection() -> Iterator[None]:
    """Run the block without cyclic garbage collection; blocks of several threads may overlap."""
    global _blocks
    with _lock:
        _blocks += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                # Not while another block runs: what is frozen and then freed would be taken off the count of the new.
                if gc.get_count()[0] >= FREEZE_FROM:
                    gc.freeze()
                gc.enable()
