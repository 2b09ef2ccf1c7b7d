"""How flows become what a switch is compared with: a key and a body each, by an encoder that is handed in.

A rule's flows are many and alike: of the peers only the address differs, of the subjects only the port. So their keys
are cut once from what the encoder makes of two of them, and then filled in. What bytes mean is the encoder's business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import NamedTuple

from flows.bridge.state import PodBinding
from flows.cluster.model import Direction
from flows.cluster.net import ADDRESS_BITS, Net
from flows.openflow.actions import Conjunction, Output
from flows.openflow.flow import Flow
from flows.openflow.match import Match, Term, exactly, in_range, match
from flows.openflow.match_fields import CONJ_ID, CT_TP_DST
from flows.pipeline.cookies import CookieKind, cookie
from flows.plan.pod_templates import PodTemplates
from flows.render.fixed import render_fixed
from flows.render.flow_set import FlowSet
from flows.render.rules import Stage, anything, peer_terms
from flows.wire.codec import encode_body, encode_key
from flows.wire.values import Body, FlowKey

# A term of a dimension: an ofport (subject), a prefix (peer), a match (service), or None (anything).
Element = int | Net | Match | None
CLAUSE_COOKIE = cookie(CookieKind.CLAUSE)
_CACHED_PORTS = 1 << 16  # there are no more of them
_CACHED_ADDRESSES = 1 << 17  # the keys of addresses that bridges share


class KeyTemplate(NamedTuple):
    """The keys of flows that differ in one value."""

    before: bytes
    size: int
    after: bytes

    def key(self, value: int) -> FlowKey:
        """The key with this value. Raises OverflowError when it does not fit."""
        return self.before + value.to_bytes(self.size, "big") + self.after


def key_template(make: Callable[[int], FlowKey], largest: int, size: int) -> KeyTemplate:
    """The frame of the keys that `make` gives for values of `size` bytes; the first byte of `largest` is not 0.

    Raises ValueError where they differ in more than the value.
    """
    least, most = make(0), make(largest)
    start = next((place for place, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
    frame = KeyTemplate(least[:start], size, least[start + size :])
    if frame.key(0) != least or frame.key(largest) != most:
        raise ValueError("keys that differ in more than one value")
    return frame


class KeyTemplates:
    """The keys of one stage's rule flows in one band of priorities."""

    def __init__(self, stage: Stage, band: int) -> None:
        self._stage = stage
        table, priority = stage.table.number, stage.priority(band)
        self._key = lru_cache(maxsize=4096)(lambda terms: encode_key(table, priority, terms))
        subject = key_template(
            lambda value: encode_key(table, priority, match(in_range(stage.subject, value))), 0xFFFF, 2
        )
        self._subject = lru_cache(maxsize=4096)(subject.key)  # all bridges have pods at the same ports
        self.hit = key_template(
            lambda value: encode_key(table, priority, match(exactly(CONJ_ID, value))), 0xFFFFFFFF, 4
        )
        self._nets: dict[tuple[int, int], KeyTemplate] = {}
        self._ports: dict[tuple[Match, int], KeyTemplate] = {}
        self._address = lru_cache(maxsize=_CACHED_ADDRESSES)(self._net(4, ADDRESS_BITS[4]).key)

    def keys(self, elements: Collection[Element]) -> list[FlowKey]:
        """The keys of elements, in their order."""
        key, ipv4, whole = self.key, self._address, ADDRESS_BITS[4]
        # Single IPv4 addresses are most of all elements.
        return [
            ipv4(element[1]) if isinstance(element, Net) and element[2] == whole and element[0] == 4 else key(element)
            for element in elements
        ]

    def key(self, element: Element) -> FlowKey:
        """The key of one element."""
        if isinstance(element, int):
            return self._subject(element)
        if isinstance(element, Net):
            # The shortest prefix has no address.
            version, value, prefix = element
            return self._net(version, prefix).key(value) if prefix else self._encode_net(element)
        if element is None:
            return self._key(match(*anything()))
        field, value, mask = element[-1]
        return self._port(element[:-1], mask).key(value) if field is CT_TP_DST else self._key(element)

    def _port(self, others: Match, mask: int) -> KeyTemplate:
        """The frame of services that differ in the port."""
        frame = self._ports.get((others, mask))
        if frame is None:
            frame = key_template(lambda value: self._key((*others, Term(CT_TP_DST, value, mask))), mask, 2)
            self._ports[others, mask] = frame
        return frame

    def _net(self, version: int, prefix: int) -> KeyTemplate:
        """The frame of prefixes of one length, which is not 0."""
        frame = self._nets.get((version, prefix))
        if frame is None:
            width = ADDRESS_BITS[version]

            def make(value: int) -> FlowKey:
                return self._encode_net(Net(version, value, prefix))

            ones = ((1 << prefix) - 1) << (width - prefix)
            frame = self._nets[version, prefix] = key_template(make, ones, width // 8)
        return frame

    def _encode_net(self, net: Net) -> FlowKey:
        return self._key(match(*peer_terms(self._stage.peer, net)))


class Dimension(NamedTuple):
    """One dimension of a rule: its conjunction, and the body of a flow that is a clause of nothing else."""

    conjunction: Conjunction
    alone: Body


class FlowEncoder:
    """Encodes single flows, and the flows of rules in bulk. All bridges share one, and its caches."""

    def __init__(self) -> None:
        self._frames: dict[tuple[int, int], KeyTemplates] = {}  # by table and band
        self._members: dict[int, Dimension] = {}  # the last one for each place
        self._pods = PodTemplates()
        self._same: dict[bool, tuple[tuple[FlowKey, ...], tuple[Body, ...]]] = {}
        self._outputs = lru_cache(maxsize=_CACHED_PORTS)(Output)

    def flow(self, flow: Flow) -> tuple[FlowKey, Body]:
        """Any flow."""
        return encode_key(flow.table, flow.priority, flow.match), encode_body(flow.cookie, flow.actions, flow.goto)

    def outputs(self, ports: Iterable[int]) -> Body:
        """The body of a pipeline flow that sends to these ports, in order."""
        return encode_body(cookie(CookieKind.PIPELINE), tuple(map(self._outputs, ports)), None)

    def same(self, userspace: bool) -> tuple[tuple[FlowKey, ...], tuple[Body, ...]]:
        """The flows that all bridges of a kind of datapath have: keys, and as many bodies. Bridges share them."""
        found = self._same.get(userspace)
        if found is None:
            flows = FlowSet()
            render_fixed(flows, userspace)
            encoded = [self.flow(flow) for flow in flows.flows()]
            found = self._same[userspace] = tuple([key for key, _ in encoded]), tuple([body for _, body in encoded])
        return found

    def pod(self, pod: PodBinding, isolated: frozenset[Direction]) -> tuple[tuple[FlowKey, ...], tuple[Body, ...]]:
        """The flows of a pod's port, in any order: keys, and as many bodies."""
        return self._pods.flows(pod, isolated)

    def frames(self, stage: Stage, band: int) -> KeyTemplates:
        """The keys of a stage's rule flows in a band."""
        place = stage.table.number, band
        found = self._frames.get(place)
        if found is None:
            found = self._frames[place] = KeyTemplates(stage, band)
        return found

    def member(self, number: int, place: int, count: int) -> Dimension:
        """The dimension number `place`, from 1, of `count` that a rule has. Bridges of the same rule share it."""
        wanted = Conjunction(number, place, count)
        member = self._members.get(place)
        if member is None or member.conjunction != wanted:
            member = self._members[place] = Dimension(wanted, self.clause((wanted,)))
        return member

    def clause(self, members: tuple[Conjunction, ...]) -> Body:
        """The body of a flow that is a clause of these conjunctions, which are in order."""
        return encode_body(CLAUSE_COOKIE, members, None)

    def hit(self, stage: Stage, number: int) -> Body:
        """The body of the flow that a complete conjunction ends in."""
        return encode_body(cookie(CookieKind.RULE, number), (), stage.onward.number)
