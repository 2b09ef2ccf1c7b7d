"""Sets of small numbers as Python integers: a set of 20,000 is 2.5 kB, and two are joined in a microsecond."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator


def bits_of(numbers: Iterable[int], size: int) -> int:
    """The set of these numbers, all below `size`."""
    buffer = bytearray((size >> 3) + 1)
    for number in numbers:
        buffer[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(buffer, "little")


def bits_between(rising: Collection[int]) -> int:
    """The set of these numbers, which rise. The cost is that of the span from the first to the last."""
    if not rising:
        return 0
    low = next(iter(rising))
    return bits_of((n - low for n in rising), max(rising) - low) << low


def span(first: int, end: int) -> int:
    """The set of the numbers from `first` up to and without `end`."""
    return (1 << end) - (1 << first)


def numbers_of(bits: int) -> Iterator[int]:
    """The numbers of a set, in rising order."""
    text = text_of(bits)
    place = text.find("1")
    while place >= 0:
        yield place
        place = text.find("1", place + 1)


def text_of(bits: int) -> str:
    """A text with `1` at the place of each number of the set; it ends with the last one."""
    return f"{bits:b}"[::-1]
