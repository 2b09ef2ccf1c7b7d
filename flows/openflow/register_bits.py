"""Ranges of register bits: position, mask, and the check that no two overlap.

The ranges that Headgate uses are declared in `flows.pipeline.registers`.
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.openflow import match_fields as oxm


@dataclass(frozen=True, slots=True)
class Range:
    """Bits `start` to `end`, both included, of a register."""

    register: oxm.Field
    start: int
    end: int
    meaning: str

    @property
    def width(self) -> int:
        """The number of bits."""
        return self.end - self.start + 1

    @property
    def mask(self) -> int:
        """The mask of these bits within the register."""
        return ((1 << self.width) - 1) << self.start

    def place(self, value: int) -> int:
        """`value` shifted to these bits. Raises ValueError where it does not fit."""
        if value < 0 or value >> self.width:
            raise ValueError(f"{value} does not fit the {self.width} bits of {self.register.name} for {self.meaning}")
        return value << self.start


class LayoutError(Exception):
    """Two ranges overlap, or one is wider than its register."""


def check_layout(ranges: tuple[Range, ...]) -> None:
    """Raise LayoutError unless every range lies within its register and no two share a bit."""
    taken: dict[str, int] = {}
    for one in ranges:
        if not 0 <= one.start <= one.end < one.register.width:
            raise LayoutError(f"bits {one.start}..{one.end} are not within {one.register.name}")
        if taken.get(one.register.name, 0) & one.mask:
            raise LayoutError(f"{one.register.name} bits {one.start}..{one.end} ({one.meaning}) are taken already")
        taken[one.register.name] = taken.get(one.register.name, 0) | one.mask
