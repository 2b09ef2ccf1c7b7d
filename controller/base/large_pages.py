"""Memory of this process in large pages, where the system lends them.

A change of one object reads a little of very much memory, and of the code of all rooms. With pages of 4 KiB it waits
for the tables of pages about as long as for the contents. What is there is moved into large pages, since the system
gives none to memory that grows as Python's does. It needs Linux 6.1 or newer, and transparent huge pages that are not
`never` (/sys/kernel/mm/transparent_hugepage/enabled); elsewhere nothing happens.

Example. Of a process of 840 MB, 800 MB are in large pages afterwards, for which the kernel works 2 s. It has 5 MB more.
"""

from __future__ import annotations

import ctypes
import os
import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from controller.base.native_threads import unpatched

LOOK_SECONDS = 10.0  # from one look at how much memory there is to the next
WORTH_BYTES = 256 << 20  # of memory: below that, little is gained, and other threads wait for the kernel meanwhile
PAUSE_SECONDS = 0.005  # between two pages: each holds up whoever asks the kernel for memory, as long as it takes
GROWN = 1.2  # times as much as after the last time: then it is worth while again
_COLLAPSE = 25  # MADV_COLLAPSE, madvise(2)
_LARGE_PAGE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0\s*(?:\[heap\])?\n")  # proc(5): private, of no file
_ENTRY = 8  # bytes for a page in /proc/self/pagemap, whose highest bit says that the page is there
_USED = 0.9  # of a large page, by small ones: what is less used, as the stacks of threads are, stays small


def use_large_pages(pause: Callable[[], object] | None = None) -> int:
    """Move what this process has in memory into large pages, with a `pause` after each. Returns how many bytes are in
    them now; 0 where the system lends none. No lock of the interpreter is held meanwhile."""
    try:
        madvise = ctypes.CDLL(None).madvise
        large, moved = int(_LARGE_PAGE.read_text()), 0
        for place in _used(large):
            if madvise(ctypes.c_void_p(place), ctypes.c_size_t(large), _COLLAPSE) == 0:  # else none is free
                moved += large
            if pause is not None:
                pause()
        return moved
    except (OSError, ValueError, AttributeError):
        return 0  # another system


def _used(large: int) -> Iterator[int]:
    """The addresses of all that could be one large page, and hardly become more by that."""
    small = os.sysconf("SC_PAGE_SIZE")
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pages:
        for first, end in _MAPPING.findall(Path("/proc/self/maps").read_text()):
            start = -(-int(first, 16) // large) * large
            for place in range(start, int(end, 16) - large + 1, large):
                there = array("Q", os.pread(pages.fileno(), large // small * _ENTRY, place // small * _ENTRY))
                if sum([one >> 63 for one in there]) >= _USED * (large // small):
                    yield place


class LargePages:
    """A thread beside all others that uses large pages whenever a large process has grown."""

    def __init__(self) -> None:
        threading = unpatched("threading")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self.run, name="large-pages", daemon=True)

    def start(self) -> None:
        """Go on until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End soon. Nothing needs to wait for it."""
        self._stopped.set()

    def run(self) -> None:
        """What the thread does."""
        before = 0
        worth = WORTH_BYTES // os.sysconf("SC_PAGE_SIZE")
        while True:
            now = _resident_pages()
            if now >= worth and now > before * GROWN:
                use_large_pages(lambda: self._stopped.wait(PAUSE_SECONDS))
                before = now
            if self._stopped.wait(LOOK_SECONDS):
                return


def _resident_pages() -> int:
    """How many pages the process has in memory: proc(5), `statm`."""
    return int(Path("/proc/self/statm").read_text().split()[1])
