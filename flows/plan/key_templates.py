"""Keys of rule flows in bulk: one template for all keys that differ in one value only.

A bridge can have very many clause flows, whose keys differ in an address, an ofport or a port. A template
is made from the codec's keys for two values, and then filled in.

Example. The keys of ct_nw_src=0.0.0.0 and 255.255.255.255 differ in four bytes, so the template keeps the bytes before
and after them, and the key of 10.0.2.7 is `before + b"\\x0a\\x00\\x02\\x07" + after`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import NamedTuple, Protocol

from flows.cluster.net import ADDRESS_BITS, Net
from flows.openflow.match import Match, Term, exactly, in_range, match
from flows.openflow.match_fields import CONJ_ID, CT_TP_DST
from flows.render.rules import AnyStage, anything, peer_terms
from flows.wire.codec import encode_key
from flows.wire.values import KEY_PREFIX, FlowKey

# One element of a dimension: an ofport (subject), a prefix (peer), a match (service), or None (anything).
Element = int | Net | Match | None
_CACHED_ADDRESSES = 1 << 17  # keys of single IPv4 addresses, which bridges share
_CACHED_KEYS = 4096


class KeyTemplate(NamedTuple):
    """Keys that differ in one value: the bytes before and after it, and its size in bytes."""

    before: bytes
    size: int
    after: bytes

    def key(self, value: int) -> FlowKey:
        """The key with this value. Raises OverflowError when it does not fit."""
        return self.before + value.to_bytes(self.size, "big") + self.after


def key_template(make: Callable[[int], FlowKey], largest: int, size: int) -> KeyTemplate:
    """The template of the keys that `make` gives for values of `size` bytes; the first byte of `largest` is not 0.

    Raises ValueError where they differ in more than the value.
    """
    least, most = make(0), make(largest)
    start = next((place for place, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
    template = KeyTemplate(least[:start], size, least[start + size :])
    if template.key(0) != least or template.key(largest) != most:
        raise ValueError("keys that differ in more than one value")
    return template


class KeyTemplates(Protocol):
    """Makes the keys of the rule flows of one stage at one priority."""

    def keys(self, elements: Collection[Element], /) -> list[FlowKey]:
        """The keys of elements, in their order."""

    def hit_key(self, number: int, /) -> FlowKey:
        """The key of the `conj_id` flow of a rule."""


class LevelTemplates:
    """The keys of one order of a tier's rules: those of another priority of the same table, with this one in it."""

    __slots__ = ("_prefix", "_templates")

    def __init__(self, templates: BandTemplates, table: int, priority: int) -> None:
        self._templates = templates
        self._prefix = KEY_PREFIX.pack(table, priority)

    def keys(self, elements: Collection[Element]) -> list[FlowKey]:
        """The keys of elements, in their order."""
        prefix, size = self._prefix, KEY_PREFIX.size
        return [prefix + key[size:] for key in self._templates.keys(elements)]

    def hit_key(self, number: int) -> FlowKey:
        """The key of the `conj_id` flow of a rule."""
        return self._prefix + self._templates.hit_key(number)[KEY_PREFIX.size :]


class BandTemplates:
    """The keys of one stage's rule flows in one band of priorities."""

    def __init__(self, stage: AnyStage, band: int) -> None:
        self._stage = stage
        table, priority = stage.table.number, stage.priority(band)
        self._key = lru_cache(maxsize=_CACHED_KEYS)(lambda terms: encode_key(table, priority, terms))
        subject = key_template(
            lambda value: encode_key(table, priority, match(in_range(stage.subject, value))), 0xFFFF, 2
        )
        self._subject = lru_cache(maxsize=_CACHED_KEYS)(subject.key)  # all bridges have pods at the same ofports
        self._hit = key_template(
            lambda value: encode_key(table, priority, match(exactly(CONJ_ID, value))), 0xFFFFFFFF, 4
        )
        self.hit_key = self._hit.key  # the key of the `conj_id` flow of a rule, by its number
        self._nets: dict[tuple[int, int], KeyTemplate] = {}  # by IP version and prefix length
        self._ports: dict[tuple[Match, int], KeyTemplate] = {}  # by the other terms and the port's mask
        # Keys of single IPv4 addresses. Very many are asked for, so all are forgotten where there are too many: that
        # takes less time than to know the oldest.
        self._addresses: dict[int, FlowKey] = {}

    def keys(self, elements: Collection[Element]) -> list[FlowKey]:
        """The keys of elements, in their order."""
        known, whole = self._addresses, ADDRESS_BITS[4]
        before, size, after = self._net(4, whole)
        if len(known) > _CACHED_ADDRESSES:
            known.clear()
        found, subject = [], self._subject
        for element in elements:
            # Single IPv4 addresses are most of all elements, and ofports most of the others.
            if isinstance(element, Net) and element[2] == whole and element[0] == 4:
                value = element[1]
                key = known.get(value)
                if key is None:
                    key = known[value] = before + value.to_bytes(size, "big") + after
            elif isinstance(element, int):
                key = subject(element)
            else:
                key = self.key(element)
            found.append(key)
        return found

    def key(self, element: Element) -> FlowKey:
        """The key of one element."""
        if isinstance(element, int):
            return self._subject(element)
        if isinstance(element, Net):
            # A prefix of length 0 matches the IP version only, so it has no address to fill in.
            version, value, prefix = element
            return self._net(version, prefix).key(value) if prefix else self._encode_net(element)
        if element is None:
            return self._key(match(*anything()))
        field, value, mask = element[-1]
        return self._port(element[:-1], mask).key(value) if field is CT_TP_DST else self._key(element)

    def _port(self, others: Match, mask: int) -> KeyTemplate:
        """The template of services that differ in the port."""
        template = self._ports.get((others, mask))
        if template is None:
            template = key_template(lambda value: self._key((*others, Term(CT_TP_DST, value, mask))), mask, 2)
            self._ports[others, mask] = template
        return template

    def _net(self, version: int, prefix: int) -> KeyTemplate:
        """The template of prefixes of one length, which is not 0."""
        template = self._nets.get((version, prefix))
        if template is None:
            width = ADDRESS_BITS[version]

            def make(value: int) -> FlowKey:
                return self._encode_net(Net(version, value, prefix))

            ones = ((1 << prefix) - 1) << (width - prefix)
            template = self._nets[version, prefix] = key_template(make, ones, width // 8)
        return template

    def _encode_net(self, net: Net) -> FlowKey:
        return self._key(match(*peer_terms(self._stage.peer, net)))
