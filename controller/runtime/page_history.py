"""What happened to the realization of pods lately, for the page: seen by comparing one status with the next.

Bounded in pods and in entries of a pod; the pod that changed longest ago is forgotten first. Nothing that is enforced
depends on this.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

from controller.status.model import PodView
from controller.status.page_model import HistoryEntry

MAX_PODS = 20_000
MAX_ENTRIES = 16  # of one pod


class _Entry(NamedTuple):
    at: float
    text: str
    realized: bool


class PodHistory:
    """One writer. Readers may call `of` from any thread: it copies one short list."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, deque[_Entry]] = OrderedDict()

    def note(self, old: PodView | None, new: PodView | None, now: float) -> None:
        """A pod's view changed from `old` to `new`; None where it has no port."""
        texts = _differences(old, new)
        pod = new or old
        if pod is None or not texts:
            return
        entries = self._entries.setdefault(pod.key, deque(maxlen=MAX_ENTRIES))
        self._entries.move_to_end(pod.key)
        realized = new is not None and new.installed
        entries.extend(_Entry(now, text, realized) for text in texts)
        while len(self._entries) > MAX_PODS:
            self._entries.popitem(last=False)

    def of(self, key: str, now: float) -> tuple[HistoryEntry, ...]:
        """The entries of a pod, the oldest first. Times are of the same monotonic clock as in `note`."""
        entries = self._entries.get(key)
        found = list(entries) if entries is not None else []
        return tuple(HistoryEntry(max(0.0, now - one.at), one.text, one.realized) for one in found)


def _differences(old: PodView | None, new: PodView | None) -> list[str]:
    if new is None:
        return [] if old is None else [f"its port {old.port or '(none)'} on {old.node or 'no node'} is gone"]
    found = []
    if old is None or (old.node, old.port) != (new.node, new.port):
        found.append(f"port {new.port} on {new.node}" if new.port else "it has no port yet")
    if old is not None and old.addresses != new.addresses:
        found.append(f"addresses: {', '.join(new.addresses) or 'none'}")
    if old is not None and old.isolated != new.isolated:
        found.append(f"isolated for {' and '.join(new.isolated)}" if new.isolated else "not isolated any more")
    if new.reason and (old is None or old.reason != new.reason):
        found.append(new.reason)
    if new.installed and (old is None or not old.installed):
        after = "" if new.programmed_after is None else f", {new.programmed_after:.3g} s after its port appeared"
        found.append(f"realized{after}")
    if old is not None and old.installed and not new.installed:
        found.append("not realized any more")
    return found
