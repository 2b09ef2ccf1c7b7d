"""What a measurement says: a figure with its unit, its bar, and the reference that ran beside it; and the machine
it ran on.

Only values and the reading of machine facts stand here.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Result:
    """One figure. Smaller is better unless `rising`. `bar` and `reach` of absolute figures are for the full size.

    `reference` is what the same work costs elsewhere, in the same unit, named by `against`; `more` has what else was
    seen, by name.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    reach: float | None = None
    against: str = ""
    reference: float | None = None
    rising: bool = False
    more: dict[str, float | str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The figure against the reference's."""
        return self.value / self.reference if self.reference else None

    @property
    def verdict(self) -> str:
        """`reached`, `bar` or `missed`; empty where there is no bar."""
        if self.bar is None:
            return ""
        if self.reach is not None and self._holds(self.reach):
            return "reached"
        return "bar" if self._holds(self.bar) else "missed"

    def _holds(self, limit: float) -> bool:
        return self.value >= limit if self.rising else self.value <= limit

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "ratio": self.ratio, "verdict": self.verdict}


def from_json(raw: dict[str, Any]) -> Result:
    """The other way round."""
    return Result(**{key: value for key, value in raw.items() if key not in ("ratio", "verdict")})


def quantile(values: Sequence[float], part: float) -> float:
    """The value that `part` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def cpu(work: Callable[[], T]) -> tuple[T, float, float]:
    """What `work` returns, with the CPU seconds and the seconds that it took."""
    cpu_before, before = time.process_time(), time.perf_counter()
    found = work()
    return found, time.process_time() - cpu_before, time.perf_counter() - before


def memory() -> float:
    """Megabytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


def most_memory() -> float:
    """Megabytes that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def machine_facts() -> dict[str, str]:
    """What the figures depend on."""
    model = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ": unknown")
    total = next((line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), ": 0 kB").split()[1]
    switch = subprocess.run(["ovs-vswitchd", "--version"], capture_output=True, text=True, check=False).stdout
    return {
        "processor": f"{os.cpu_count()} x {model.partition(':')[2].strip()}",
        "memory": f"{int(total) / 1e6:.1f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "switch": switch.partition("\n")[0] or "none",
        "load": " ".join(f"{one:.1f}" for one in os.getloadavg()),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
