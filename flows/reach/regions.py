"""Regions: for a set of ends, which ports each is reached on. A dict from Ports to the ends that have exactly these.

Ends that are not in a region are not reached at all. The sets of a region never overlap. How rules become regions is in
`decision`, and the order in which rules of tiers decide in `tiers`.
"""

from __future__ import annotations

from collections.abc import Iterable

from flows.reach.ports import EVERYTHING, NOTHING, Ports, common, union, without

Region = dict[Ports, int]
Allowance = tuple[Ports, int]  # these ports, for these ends


def region_of(allowances: Iterable[Allowance]) -> Region:
    """The union of allowances, which may overlap."""
    merged: Region = {}
    for ports, bits in allowances:
        if bits:
            merged[ports] = merged.get(ports, 0) | bits
    if len(merged) < 2:
        return merged
    found: Region = {}
    everywhere = merged.pop(EVERYTHING, 0)
    for ports, bits in merged.items():
        _add(found, ports, bits & ~everywhere)
    if everywhere:
        found[EVERYTHING] = found.get(EVERYTHING, 0) | everywhere
    return found


def _add(found: Region, ports: Ports, bits: int) -> None:
    """Add one allowance to a region: where it overlaps a part, the overlap gets the union of both."""
    overlaps: list[Allowance] = []
    for other, part in list(found.items()):
        if not bits:
            break
        both = bits & part
        if not both:
            continue
        bits &= ~both
        if (joined := union(ports, other)) != other:
            overlaps.append((joined, both))
            if part == both:
                del found[other]
            else:
                found[other] = part & ~both
    for joined, both in (*overlaps, (ports, bits)):
        if both:
            found[joined] = found.get(joined, 0) | both


def meet(one: Region, other: Region, within: int) -> Region:
    """What both regions allow, for the ends in `within`."""
    found: Region = {}
    for ports, bits in one.items():
        bits &= within
        if not bits:
            continue
        for more, part in other.items():
            if (both := bits & part) and (joined := common(ports, more)) != NOTHING:
                found[joined] = found.get(joined, 0) | both
    return found


def take(region: Region, ports: Ports, bits: int) -> tuple[Region, Region]:
    """What of a region is on these ports of these ends, and the rest."""
    taken: Region = {}
    rest: Region = {}
    for other, part in region.items():
        both = part & bits
        shared = common(other, ports) if both else NOTHING
        if shared == NOTHING:
            rest[other] = rest.get(other, 0) | part
            continue
        taken[shared] = taken.get(shared, 0) | both
        if part != both:
            rest[other] = rest.get(other, 0) | (part & ~both)
        if (left := without(other, ports)) != NOTHING:
            rest[left] = rest.get(left, 0) | both
    return taken, rest


def only(region: Region, bits: int) -> Region:
    """A region without all other ends."""
    return {ports: both for ports, part in region.items() if (both := part & bits)}


def at(region: Region, number: int) -> Ports:
    """The ports that one end is reached on."""
    bit = 1 << number
    return next((ports for ports, bits in region.items() if bits & bit), NOTHING)
