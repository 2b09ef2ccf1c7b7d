"""The result of a measurement: a figure with unit, bar and reference; helpers to measure; facts of the machine."""

from __future__ import annotations

import math
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
BENCH_VERSION = 1
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Result:
    """One figure. Smaller is better unless `rising`. `bar` must hold, `reach` is the aim, both for the full size.

    `reference` is the cost of the same work elsewhere, in the same unit; `against` names it. `more` has other values
    that were measured, by name.
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
        """The figure divided by the reference, None without one."""
        return self.value / self.reference if self.reference else None

    @property
    def verdict(self) -> str:
        """`reached`, `bar` or `missed`; "" without a bar."""
        if self.bar is None:
            return ""
        if self.reach is not None and self._holds(self.reach):
            return "reached"
        return "bar" if self._holds(self.bar) else "missed"

    def _holds(self, limit: float) -> bool:
        return self.value >= limit if self.rising else self.value <= limit

    def json(self) -> dict[str, Any]:
        """The result as plain values, for JSON."""
        return asdict(self.view())

    def view(self) -> ResultView:
        """The result for programs."""
        return ResultView(**asdict(self), ratio=self.ratio, verdict=self.verdict)


@dataclass(frozen=True, slots=True)
class ResultView:
    """A result for programs: the fields of Result, `ratio` to the reference, and `verdict`: reached, bar, missed, or ""
    without a bar."""

    name: str
    value: float
    unit: str
    bar: float | None
    reach: float | None
    against: str
    reference: float | None
    rising: bool
    more: dict[str, float | str]
    ratio: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class BenchView:
    """The answer of `headgate bench -o json`; `version` is that of the form. `failed` has the reason by measurement."""

    version: int
    machine: dict[str, str]
    size: str
    results: tuple[ResultView, ...]
    failed: dict[str, str]


@dataclass(frozen=True, slots=True)
class MeasurementsView:
    """The answer of `headgate bench --list -o json`: what each measurement shows, by name."""

    version: int
    measurements: dict[str, str]


def from_json(values: dict[str, Any]) -> Result:
    """The result of plain values that `json` returned."""
    return Result(**{key: value for key, value in values.items() if key not in ("ratio", "verdict")})


def figure_text(value: float | None) -> str:
    """A figure with three significant digits, "" for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def quantile(values: Sequence[float], part: float) -> float:
    """The value that the share `part` (0..1) of all values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, between the bounds of an interval that contains the real one with 95 %.

    The bounds are values of the sample, by the binomial distribution (normal approximation), so nothing is assumed of
    how values spread. Of fewer than six values they are the least and the largest.
    """
    ordered, count = sorted(values), len(values)
    first = max(0, math.floor((count - 1.96 * math.sqrt(count)) / 2))
    return ordered[first], statistics.median(ordered), ordered[count - 1 - first]


def cpu(work: Callable[[], T]) -> tuple[T, float, float]:
    """The result of `work`, the CPU seconds and the wall-clock seconds that it took."""
    cpu_before, before = time.process_time(), time.perf_counter()
    found = work()
    return found, time.process_time() - cpu_before, time.perf_counter() - before


def cpu_of(pid: int) -> float:
    """The CPU seconds of another process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def precise_cpu_of(pid: int) -> float:
    """The same without ticks of 10 ms, of the threads that run now. Raises OSError where the kernel does not say."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory() -> float:
    """Resident megabytes of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


def most_memory() -> float:
    """Peak resident megabytes of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def machine_facts() -> dict[str, str]:
    """Facts of the machine that figures depend on, by name."""
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
