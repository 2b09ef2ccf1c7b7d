"""Large pages take what is used, and leave small what is not."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.base import large_pages
from controller.base.large_pages import LargePages, use_large_pages

SIZE = 8 << 20  # bytes: at least three large pages, wherever it begins


@pytest.fixture
def lent() -> None:
    """Skip where the system lends no large pages to a process that has used much memory."""
    with _memory() as used:
        used.write(b"x" * SIZE)
        if not use_large_pages():
            pytest.skip("the system lends no large pages")


def _memory() -> mmap.mmap:
    return mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _kilobytes(used: mmap.mmap, what: str) -> int:
    """What /proc/self/smaps says of the mapping with this memory."""
    place = ctypes.addressof(ctypes.c_char.from_buffer(used))
    for part in _mappings():
        first, end = (int(text, 16) for text in part[0].split()[0].split("-"))
        if first <= place < end:
            return next(int(line.split()[1]) for line in part if line.startswith(f"{what}:"))
    raise AssertionError("the memory is not mapped")


def _mappings() -> Iterator[list[str]]:
    part: list[str] = []
    for line in Path("/proc/self/smaps").read_text().splitlines():
        part.append(line)
        if line.startswith("VmFlags"):
            yield part
            part = []


def test_memory_in_use_is_moved_and_keeps_its_contents(lent: None) -> None:
    used = _memory()
    used.write(bytes(range(256)) * (SIZE // 256))
    before = _kilobytes(used, "AnonHugePages")
    assert use_large_pages() >= 3 << 21
    assert _kilobytes(used, "AnonHugePages") >= before + (3 << 11)
    used.seek(0)
    assert used.read() == bytes(range(256)) * (SIZE // 256)


def test_memory_that_is_hardly_used_takes_no_more_than_before(lent: None) -> None:
    used = _memory()
    for page in range(0, SIZE, 4 * mmap.PAGESIZE):
        used[page] = 1
    before = _kilobytes(used, "Rss")
    use_large_pages()
    assert _kilobytes(used, "Rss") < before + SIZE // 8 // 1024


def test_a_system_without_large_pages_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(large_pages, "_LARGE_PAGE", tmp_path / "missing")
    assert use_large_pages() == 0


def test_the_thread_looks_again_only_where_a_large_process_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, one = iter([50, 100, 110, 130, 130]), LargePages()
    looked: list[object] = []

    def size() -> int:
        found = next(sizes, None)
        if found is None:
            one.stop()
        return found or 0

    monkeypatch.setattr(large_pages, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(large_pages, "WORTH_BYTES", 100 * mmap.PAGESIZE)
    monkeypatch.setattr(large_pages, "_resident_pages", size)
    monkeypatch.setattr(large_pages, "use_large_pages", looked.append)
    one.run()
    assert len(looked) == 2
