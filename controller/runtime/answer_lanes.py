"""Where answers are computed: beside the hub, in native threads, and no more than one in each lane.

Python runs one native thread at a time, so each computation for an answer takes a share from the event loop, which
computes beside the hub too. With a thread for every question, whoever asks much would delay every change of policy by
as many shares. So questions wait for each other, in the order in which they came: the short ones in one lane, those
that may take many seconds (matrices, plans, comparisons) in another, where they keep no short one waiting.

Must not live here: what the controller computes for itself (`offload`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from controller.base.hub import offload
from controller.peers.fifo_lock import FifoLock

T = TypeVar("T")
_SHORT, _LONG = FifoLock(), FifoLock()


def compute(work: Callable[..., T], *args: object) -> T:
    """Call `work` for an answer; it takes well below a second, waits for nothing, and does not call `compute`."""
    with _SHORT:
        return offload(work, *args)


def compute_long(work: Callable[..., T], *args: object) -> T:
    """The same for what may take long."""
    with _LONG:
        return offload(work, *args)
