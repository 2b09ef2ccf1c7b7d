"""The matrix: who reaches whom among pods, workloads or namespaces, and the addresses outside, on which ports.

Theory of operation. A group (a workload, for one) is a span of ends. Ends with equal keys (`Decision.key`) share a row,
which is projected once on the groups: those that it touches, and those that it covers. A row of the matrix is the
union of its ends' rows; where it does not cover a group on the same ports, the cell is partial: it holds for some pods.
Rows that are equal become one block, so that a cluster in which everybody reaches everybody is one block.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from flows.cluster.model import Direction, Key
from flows.reach.bits import bits_between, span, text_of
from flows.reach.decision import Decision, RegionKey
from flows.reach.ends import Ends
from flows.reach.ports import NOTHING, Ports, common
from flows.reach.regions import Region, region_of


class Level(enum.StrEnum):
    """What a group is. Addresses outside are groups at every level."""

    POD = "pod"
    WORKLOAD = "workload"
    NAMESPACE = "namespace"


class Group(NamedTuple):
    """The ends from `first` up to and without `end`, of `pods` pods: none for addresses outside."""

    name: str
    first: int
    end: int
    pods: int


class Cell(NamedTuple):
    """These ports of these groups (their numbers as a set). `complete`: every pod of the source reaches every pod of
    the group on exactly these; else only some do, or on some of the ports."""

    ports: Ports
    groups: int
    complete: bool


class Block(NamedTuple):
    """Every group of `sources` reaches every group of `destinations`: sets of their numbers.

    The pair of a group with itself is about different pods of it, so it means nothing for a group of one pod.
    """

    sources: int
    destinations: int
    ports: Ports
    complete: bool


class Matrix:
    """The matrix of one decision at one level."""

    def __init__(self, decision: Decision, level: Level) -> None:
        self.decision = decision
        self.level = level
        self.groups = groups_of(decision.ends, level)
        self._spans = [span(one.first, one.end) for one in self.groups]
        self._group_at = [n for n, one in enumerate(self.groups) for _ in range(one.first, one.end)]
        self._family_counts = {
            version: self._counts(bits & decision.present) for version, bits in decision.ends.families.items()
        }
        self._having = {version: bits_between(counts) for version, counts in self._family_counts.items()}
        self._projected: dict[tuple[int, int], tuple[int, int]] = {}
        self._rows: dict[object, tuple[Cell, ...]] = {}

    def row(self, number: int) -> tuple[Cell, ...]:
        """What a group reaches: cells that do not overlap; groups in none of them are not reached."""
        group = self.groups[number]
        rows: dict[RegionKey, list[int]] = {}
        for n in range(group.first, group.end):
            if key := self.decision.key(n, Direction.EGRESS):
                rows.setdefault(key, []).append(n)
        alike = frozenset(rows)
        cells = self._rows.get(alike)
        if cells is None:
            cells = self._rows[alike] = self._cells([(ends[0], key) for key, ends in rows.items()])
        return cells if group.pods < 2 else self._with_itself(number, cells, list(rows.values()))

    def blocks(self, asked: Ports | None = None) -> list[Block]:
        """The whole matrix, with equal rows as one. With `asked`, only what these ports have to do with."""
        merged: dict[tuple[Cell, ...], list[int]] = {}
        for number in range(len(self.groups)):
            cells = self.row(number)
            if cells:
                merged.setdefault(cells, []).append(number)
        return [
            Block(bits_between(sources), cell.groups, ports, cell.complete)
            for cells, sources in merged.items()
            for cell in cells
            if (ports := cell.ports if asked is None else common(cell.ports, asked)) != NOTHING
        ]

    # -- one row -----------------------------------------------------------------------------------------------------

    def _cells(self, ends: Iterable[tuple[int, RegionKey]]) -> tuple[Cell, ...]:
        """The cells of a group whose ends have these keys. Its cell with itself is as if it had more pods."""
        regions = [
            (self.decision.ends.version_of(n), self.decision.region(n, Direction.EGRESS)) for n, _ in ends
        ]  # fmt: skip
        some = region_of(
            (ports, self._project(bits, version)[0]) for version, region in regions for ports, bits in region.items()
        )
        found = []
        for ports, groups in some.items():
            complete = groups
            for version, region in regions:
                covered = self._project(region[ports], version)[1] if ports in region else 0
                complete &= covered | ~self._having[version]
            found += [Cell(ports, part, part == complete) for part in (complete, groups & ~complete) if part]
        return tuple(sorted(found))

    def _project(self, bits: int, version: int) -> tuple[int, int]:
        """The groups with an end of the set, and those that have all their ends of this family in it."""
        found = self._projected.get((bits, version))
        if found is None:
            counts = self._counts(bits)
            family = self._family_counts[version]
            touched = bits_between(counts)
            covered = bits_between([n for n, count in counts.items() if count == family[n]])
            found = self._projected[bits, version] = (touched, covered)
        return found

    def _counts(self, bits: int) -> dict[int, int]:
        """How many ends of the set each group has that has any. The cost is that of the span from its first to its last
        end: most sets are of one namespace."""
        found: dict[int, int] = {}
        if not bits:
            return found
        low = (bits & -bits).bit_length() - 1
        text = text_of(bits >> low)
        place = 0
        while place >= 0:
            n = self._group_at[low + place]
            end = self.groups[n].end - low
            found[n] = text.count("1", place, end)
            place = text.find("1", end)
        return found

    def _with_itself(self, number: int, cells: tuple[Cell, ...], alike: list[list[int]]) -> tuple[Cell, ...]:
        """The row of a group of several pods: its cell with itself leaves out each pod's connection with itself."""
        bit = 1 << number
        found = [cell._replace(groups=cell.groups & ~bit) for cell in cells]
        own = self._own_cell(number, alike)
        if own is not None:
            same = next((n for n, cell in enumerate(found) if (cell.ports, cell.complete) == own), None)
            if same is None:
                found.append(Cell(own[0], bit, own[1]))
            else:
                found[same] = found[same]._replace(groups=found[same].groups | bit)
        return tuple(sorted(cell for cell in found if cell.groups))

    def _own_cell(self, number: int, alike: list[list[int]]) -> tuple[Ports, bool] | None:
        ends, whole = self.decision.ends, self._spans[number]
        parts: list[Region] = []
        complete = True
        for numbers in alike:
            region = self.decision.region(numbers[0], Direction.EGRESS)
            family = whole & ends.families[ends.version_of(numbers[0])] & self.decision.present
            pods = {ends.addresses[n][0] for n in numbers}
            others = family & ~ends.of_pods(pods) if len(pods) == 1 else family
            part = {ports: bits & others for ports, bits in region.items() if bits & others}
            complete = complete and (not others or (len(part) == 1 and others in part.values()))
            if others:
                parts.append(part)
        union = region_of((ports, 1) for part in parts for ports in part)
        if not union:
            return None
        (ports,) = union
        return ports, complete and all(ports in part for part in parts)


def groups_of(ends: Ends, level: Level) -> list[Group]:
    """The groups of pods at a level in the order of their ends, then each class of addresses outside."""
    found: list[Group] = []
    first, before = 0, ""
    keys: set[Key] = set()
    for n, (key, _) in enumerate(ends.addresses):
        name = _name(key, ends.workloads[n], level)
        if n and name != before:
            found.append(Group(before, first, n, len(keys)))
            first, keys = n, set()
        before = name
        keys.add(key)
    pods = len(ends.addresses)
    if pods:
        found.append(Group(before, first, pods, len(keys)))
    return found + [Group(str(one), pods + n, pods + n + 1, 0) for n, one in enumerate(ends.outside)]


def _name(key: Key, workload: str, level: Level) -> str:
    if level is Level.NAMESPACE:
        return key.namespace
    return f"{key.namespace}/{workload}" if level is Level.WORKLOAD else str(key)
