"""The flows of pods' ports in bulk: a template is made from what `render_pod` gives for sample pods, then filled in.

Pods with as many addresses of the same IP versions, with or without a MAC address, with the same isolation and limits
have the same flows but for values: ofport, MAC and addresses. Which flows there are is decided in `render.pods` alone;
a pod for which values could change that (see `_values`) is rendered flow by flow.

Example. The sample of pods with one IPv4 address has ofport 0x9091, MAC 92:93:94:95:96:97 and address 0x98999a9b. Its
encoded keys are split wherever one of these byte strings stands; `fill` joins the pieces with another pod's values. A
second sample verifies that nothing else differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from operator import itemgetter
from struct import Struct

from flows.bridge.state import PodBinding
from flows.cluster.net import ADDRESS_BITS
from flows.openflow.actions import Action, Learn, Load, Meter, Output
from flows.openflow.flow import Flow
from flows.pipeline.cookies import COOKIE_NUMBER_MASK
from flows.pipeline.pod_limits import Limit, learned_by
from flows.policy.rule import Applies
from flows.render.flow_set import FlowSet
from flows.render.neighbors import link_local
from flows.render.pods import render_pod
from flows.wire.codec import encode_body, encode_key
from flows.wire.values import Body, FlowKey

# Keys, and as many bodies in the same order.
EncodedFlows = tuple[tuple[FlowKey, ...], tuple[Body, ...]]
MOST_TEMPLATE_ADDRESSES = 4  # a pod with more is rendered flow by flow: this bounds the number of templates
_SIZES = {version: width // 8 for version, width in ADDRESS_BITS.items()}
_CACHED_PORTS = 1 << 10  # per template: bridges have pods at the same ofports
# The first bytes of the two samples; each following byte is one more, so that all differ.
_FIRST_SAMPLE, _SECOND_SAMPLE = 0x90, 0x10


class PodTemplates:
    """Encodes the flows of pods' ports. All bridges share one."""

    def __init__(self) -> None:
        self._templates: dict[tuple[tuple[int, ...], frozenset[Applies], tuple[Limit, ...], bool], PodTemplate] = {}

    def flows(self, pod: PodBinding, isolated: frozenset[Applies], routes: bool = False) -> EncodedFlows:
        """The flows that `render_pod` gives, in any order. Raises what it and the codec raise."""
        values = _values(pod)
        if values is None:
            return self.plain(pod, isolated, routes)
        shape = tuple(map(len, values)), isolated, pod.limits, routes
        template = self._templates.get(shape)
        if template is None:
            template = self._templates[shape] = self._make(pod, isolated, routes)
        return template.fill(pod.ofport, values)

    def plain(self, pod: PodBinding, isolated: frozenset[Applies], routes: bool = False) -> EncodedFlows:
        """The same, rendered and encoded flow by flow."""
        flows = _rendered(pod, isolated, routes)
        keys = tuple([encode_key(flow.table, flow.priority, flow.match) for flow in flows])
        return keys, tuple([encode_body(flow.cookie, flow.actions, flow.goto) for flow in flows])

    def _make(self, pod: PodBinding, isolated: frozenset[Applies], routes: bool) -> PodTemplate:
        """The template of pods like this one. Raises ValueError where flows differ in more than values."""
        sample, other = _sample(pod, _FIRST_SAMPLE), _sample(pod, _SECOND_SAMPLE)
        values, others = _values(sample), _values(other)
        if values is None or others is None:
            raise ValueError("sample pods that no template can stand for")
        keys, _ = self.plain(sample, isolated, routes)
        template = PodTemplate(_rendered(sample, isolated, routes), keys, sample.ofport, values)
        filled, plain = template.fill(other.ofport, others), self.plain(other, isolated, routes)
        if dict(zip(*filled, strict=True)) != dict(zip(*plain, strict=True)):
            raise ValueError("flows of pods that differ in more than their values")
        return template


class PodTemplate:
    """The flows of pods that differ in values only.

    `keys` are the sample's, in the order of its `flows`; `values` are those of `_values`.
    """

    def __init__(self, flows: list[Flow], keys: tuple[FlowKey, ...], ofport: int, values: list[bytes]) -> None:
        # Keys with no value but the ofport come first: all bridges share them.
        own = [any(value in key for value in values[1:]) for key in keys]
        does = [(flow.cookie, flow.actions, flow.goto) for flow in flows]
        self._does = list(dict.fromkeys(does))
        self._which = [self._does.index(does[place]) for place in sorted(range(len(flows)), key=own.__getitem__)]
        self._ofport, self._marker = ofport, values[0]
        self._shared = [key for key, owned in zip(keys, own, strict=True) if not owned]
        rest = [key for key, owned in zip(keys, own, strict=True) if owned]
        # In turn: the bytes between values, and values.
        self._pieces = re.split(b"(" + b"|".join(map(re.escape, values)) + b")", b"".join(rest))
        holes = [values.index(piece) for piece in self._pieces[1::2]]
        self._in_holes = _picked(holes)
        self._keys = Struct("".join(f"{len(key)}s" for key in rest))
        self._at = lru_cache(maxsize=_CACHED_PORTS)(self._encode_port)

    def fill(self, ofport: int, values: list[bytes]) -> EncodedFlows:
        """The flows of the pod at this port with these values."""
        keys, bodies = self._at(ofport)
        pieces = self._pieces.copy()
        pieces[1::2] = self._in_holes(values)
        return keys + self._keys.unpack(b"".join(pieces)), bodies

    def _encode_port(self, ofport: int) -> EncodedFlows:
        """The keys with no other value than the ofport, and all bodies."""
        old, place = self._ofport, ofport.to_bytes(len(self._marker), "big")
        keys = tuple([key.replace(self._marker, place) for key in self._shared])
        bodies = [
            encode_body(
                _cookie_of_port(cookie, old, ofport),
                tuple([_action_of_port(action, old, ofport) for action in actions]),
                goto,
            )
            for cookie, actions, goto in self._does
        ]
        return keys, tuple([bodies[which] for which in self._which])


def _picked(places: list[int]) -> Callable[[list[bytes]], tuple[bytes, ...]]:
    """What gives the values at these places, in their order."""
    return itemgetter(*places) if len(places) > 1 else lambda values: tuple([values[place] for place in places])


def _rendered(pod: PodBinding, isolated: frozenset[Applies], routes: bool) -> list[Flow]:
    flows = FlowSet()
    render_pod(flows, pod, isolated, routes)
    return flows.flows()


def _values(pod: PodBinding) -> list[bytes] | None:
    """The values in big-endian bytes: ofport, MAC, addresses, and the link-local address where the pod has one.

    None for a pod that must be rendered flow by flow: where two addresses are equal, where one is zero or a prefix, or
    a value is too large, flows may coincide or be refused.
    """
    nets, mac = pod.addresses, pod.mac
    if len(nets) > MOST_TEMPLATE_ADDRESSES:
        return None
    try:
        values = [pod.ofport.to_bytes(2, "big")]
        if mac is not None:
            values.append(mac.to_bytes(6, "big"))
        six = False
        for version, value, prefix in nets:
            if not value or prefix != ADDRESS_BITS[version]:
                return None
            values.append(value.to_bytes(_SIZES[version], "big"))
            six |= version == 6
        if six and mac is not None:
            own = link_local(mac)
            nets = (*nets, own)
            values.append(own.value.to_bytes(_SIZES[6], "big"))
    except OverflowError:
        return None
    return values if len(nets) < 2 or len(set(nets)) == len(nets) else None


def _sample(pod: PodBinding, least: int) -> PodBinding:
    """A pod like this one, with values whose bytes all differ, from `least` on."""
    fresh = iter(range(least, 0x100))

    def value(size: int) -> int:
        return int.from_bytes([next(fresh) for _ in range(size)], "big")

    ofport, mac = value(2), None if pod.mac is None else value(6)
    nets = tuple([net._replace(value=value(_SIZES[net.version])) for net in pod.addresses])
    return pod._replace(ofport=ofport, mac=mac, addresses=nets)


def _action_of_port(action: Action, old: int, new: int) -> Action:
    """The same action in the flows of ofport `new`."""
    if isinstance(action, Load) and action.value == old:
        return Load(action.place, new)
    if isinstance(action, Meter):
        return Meter(action.number - old + new)
    if isinstance(action, Learn):
        return replace(action, cookie=learned_by(new))
    return Output(new) if isinstance(action, Output) and action.port == old else action


def _cookie_of_port(number: int, old: int, new: int) -> int:
    """The same cookie in the flows of ofport `new`."""
    return number - old + new if number & COOKIE_NUMBER_MASK == old else number
