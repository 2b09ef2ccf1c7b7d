"""Sets of small numbers as Python integers: a set of 20,000 is 2.5 kB, and two are joined in a microsecond."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import compress

_DENSE = 10  # of how many numbers one must be in a set for it to be cheaper to look at all of them
_DIGITS = bytes.maketrans(b"01", b"\0\1")


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
    if not bits:
        return iter(())
    low = (bits & -bits).bit_length() - 1
    text = text_of(bits >> low)
    if bits.bit_count() * _DENSE > len(text):
        return compress(range(low, low + len(text)), text.encode().translate(_DIGITS))
    return _each(text, low)


def _each(text: str, low: int) -> Iterator[int]:
    place = text.find("1")
    while place >= 0:
        yield low + place
        place = text.find("1", place + 1)


def text_of(bits: int) -> str:
    """A text with `1` at the place of each number of the set; it ends with the last one."""
    return f"{bits:b}"[::-1]
