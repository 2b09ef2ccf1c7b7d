"""Probes and their outcomes as values: comparable, convertible to JSON. No sockets here."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from topology.spec.model import LabPort


class Outcome(enum.Enum):
    """The outcome of one probe.

    ALLOWED: the right server answered, twice. CLOSED: the destination answered that no server listens on the port.
    DENIED: no answer in any attempt. WRONG: another server answered.
    """

    ALLOWED = "allowed"
    CLOSED = "closed"
    DENIED = "denied"
    WRONG = "wrong"

    @property
    def reachable(self) -> bool:
        """Whether packets pass, with or without a server on the port: this is what policies decide."""
        return self in (Outcome.ALLOWED, Outcome.CLOSED)


class LabProbe(NamedTuple):
    """One probe from endpoint to endpoint (`namespace/pod`, `node:NAME`, `external:NAME`).

    `protocol` is TCP, UDP, SCTP or ICMP; `port` is 0 for ICMP; `family` is 4 or 6.
    """

    source: str
    destination: str
    protocol: str
    port: int
    family: int

    @property
    def way(self) -> str:
        """Protocol and port: `TCP 80`, `ICMP`."""
        return f"{self.protocol} {self.port}" if self.port else self.protocol

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} {self.way} IPv{self.family}"


def probe_mesh(
    names: Sequence[str],
    ports: Iterable[LabPort],
    families: Iterable[int],
    icmp: bool = False,
    destinations: Sequence[str] | None = None,
) -> list[LabProbe]:
    """Probes from every endpoint to every endpoint (or to `destinations`) over every port and family.

    `icmp` adds echo requests.
    """
    there = names if destinations is None else destinations
    ways = [*dict.fromkeys((port.protocol, port.port) for port in ports), *([("ICMP", 0)] if icmp else [])]
    kinds = [(protocol, port, family) for protocol, port in ways for family in families]
    return [LabProbe(source, destination, *kind) for source in names for destination in there for kind in kinds]


@dataclass(frozen=True)
class Matrix:
    """The results of one run. Iteration order of `results` is the order of the topology."""

    results: Mapping[LabProbe, Outcome]

    def sources(self) -> list[str]:
        """The source endpoints, in order."""
        return list(dict.fromkeys(probe.source for probe in self.results))

    def destinations(self) -> list[str]:
        """The destination endpoints, in order."""
        return list(dict.fromkeys(probe.destination for probe in self.results))

    def ways(self) -> list[tuple[str, int]]:
        """The protocols and ports that were probed, in order."""
        return list(dict.fromkeys((probe.protocol, probe.port) for probe in self.results))

    def families(self) -> list[int]:
        """The address families that were probed."""
        return sorted({probe.family for probe in self.results})

    def changes(self, before: Matrix) -> dict[LabProbe, tuple[Outcome, Outcome]]:
        """The probes of both runs whose outcome differs, with both outcomes, the earlier one first."""
        both = ((probe, before.results[probe], now) for probe, now in self.results.items() if probe in before.results)
        return {probe: (then, now) for probe, then, now in both if then is not now}

    def count(self) -> dict[str, int]:
        """The number of probes with each outcome."""
        values = list(self.results.values())
        return {outcome.value: values.count(outcome) for outcome in Outcome}

    def to_json(self) -> str:
        """The results as JSON: a list of objects, one a probe, and the counts."""
        probes = [{**probe._asdict(), "outcome": outcome.value} for probe, outcome in self.results.items()]
        return json.dumps({"count": self.count(), "probes": probes}, indent=2)

    @staticmethod
    def from_json(text: str) -> Matrix:
        """What `to_json` wrote."""
        return Matrix(dict(_entries(json.loads(text)["probes"])))


def _entries(probes: Iterable[Mapping[str, object]]) -> Iterable[tuple[LabProbe, Outcome]]:
    for entry in probes:
        fields = {name: entry[name] for name in LabProbe._fields}
        yield LabProbe(**fields), Outcome(entry["outcome"])  # type: ignore[arg-type]  # values of our own JSON
