"""Matches as frozen values: terms on fields in canonical order, with the prerequisites that OVS demands checked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from flows.openflow import match_fields as oxm
from flows.openflow.register_bits import Range


class FlowError(Exception):
    """A flow that OVS would refuse: a prerequisite is missing, or a value does not fit its field."""


class Term(NamedTuple):
    """One field of a match with value and mask; bits outside the mask are zero. An exact match has the full mask."""

    field: oxm.Field
    value: int
    mask: int


Match = tuple[Term, ...]  # sorted in the order of oxm.ALL_FIELDS; build it with `match`


def exactly(field: oxm.Field, value: int) -> Term:
    """A term that matches one value. Raises FlowError where it does not fit the field."""
    if value < 0 or value > field.full_mask:
        raise FlowError(f"{value:#x} does not fit the {field.width} bits of {field.name}")
    return Term(field, int(value), field.full_mask)  # no IntFlag, whose operators are Python functions


def masked(field: oxm.Field, value: int, mask: int) -> Term:
    """A term that matches `value` in the bits of `mask`. Raises FlowError where the field takes no mask, or `value` has
    bits outside it."""
    if mask == field.full_mask:
        return exactly(field, value)
    if not field.maskable or mask <= 0 or mask > field.full_mask or value & ~mask:
        raise FlowError(f"{field.name}={value:#x}/{mask:#x} is no valid masked match")
    return Term(field, int(value), int(mask))


def in_range(place: Range, value: int) -> Term:
    """A term that matches a value in a register range. Raises ValueError where it does not fit."""
    return masked(place.register, place.place(value), place.mask)


_ORDER = {field.name: number for number, field in enumerate(oxm.ALL_FIELDS)}
_DECIDING = frozenset({"eth_type", "ip_proto", "icmpv6_type", "icmpv6_code"})


def match(*terms: Term) -> Match:
    """A match of these terms: terms on one register are merged, the order is canonical, prerequisites are checked.

    Raises FlowError with the field whose prerequisite is missing, or that is matched twice against different values.
    """
    merged = _merge(terms)
    shape = tuple((t.field.name, t.value if t.field.name in _DECIDING else 0) for t in merged)
    _check_shape(shape, _has_valid_ct_state(merged))
    return merged


def _merge(terms: Iterable[Term]) -> Match:
    by_name: dict[str, Term] = {}
    for term in terms:
        old = by_name.get(term.field.name)
        if old is None:
            by_name[term.field.name] = term
            continue
        if (old.value ^ term.value) & old.mask & term.mask:
            raise FlowError(f"{term.field.name} is matched twice, against different values")
        by_name[term.field.name] = Term(term.field, old.value | term.value, old.mask | term.mask)
    return tuple(sorted(by_name.values(), key=lambda term: _ORDER[term.field.name]))


_TRACKED, _INVALID = int(oxm.CtState.TRK), int(oxm.CtState.INV)
_VALID = int(oxm.CtState.NEW | oxm.CtState.EST | oxm.CtState.REL | oxm.CtState.RPL)


def _has_valid_ct_state(terms: Match) -> bool:
    for field, value, mask in terms:
        if field is oxm.CT_STATE:
            return bool(value & _VALID or (value & _TRACKED and mask & _INVALID and not value & _INVALID))
    return False


@lru_cache(maxsize=1024)
def _check_shape(shape: tuple[tuple[str, int], ...], ct_valid: bool) -> None:
    present = dict(shape)
    for name in present:
        field = oxm.FIELDS_BY_NAME[name]
        for needed, values in field.needs:
            if present.get(needed) not in values:
                raise FlowError(f"{name} needs {needed} to be one of {', '.join(map(hex, values))}")
        if field in (oxm.CT_TP_SRC, oxm.CT_TP_DST) and oxm.CT_NW_PROTO.name not in present:
            raise FlowError(f"{name} needs ct_nw_proto: without it OVS caches the answer for every port")
        if field in oxm.NEED_CT_STATE and not ct_valid:
            raise FlowError(f"{name} needs a ct_state that is tracked and not invalid")
