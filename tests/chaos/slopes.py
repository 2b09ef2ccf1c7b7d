"""Whether something grows over time: the slope of a straight line through samples, and how sure it is. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Samples = Sequence[tuple[float, float]]  # hours, value
MIN_SAMPLES = 6
WARM_PART = 0.25  # of the time, left out: caches fill
SURE = 2.0  # standard errors


@dataclass(frozen=True)
class Slope:
    """The change per hour, and its standard error, both in parts of the mean."""

    per_hour: float
    error: float

    def grows(self, limit: float) -> bool:
        """Whether it surely grows by more than this part of the mean in an hour."""
        return self.per_hour - SURE * self.error > limit


def slope(samples: Samples) -> Slope | None:
    """The slope without the first part of the time; None where there are too few samples to tell."""
    if not samples:
        return None
    first, last = samples[0][0], samples[-1][0]
    kept = [(at, value) for at, value in samples if at >= first + WARM_PART * (last - first)]
    count = len(kept)
    if count < MIN_SAMPLES:
        return None
    middle, mean = sum(at for at, _ in kept) / count, sum(value for _, value in kept) / count
    spread = sum((at - middle) ** 2 for at, _ in kept)
    if spread == 0 or mean == 0:
        return None
    found = sum((at - middle) * (value - mean) for at, value in kept) / spread
    left = sum((value - mean - found * (at - middle)) ** 2 for at, value in kept)
    return Slope(found / mean, math.sqrt(left / (count - 2) / spread) / mean)
