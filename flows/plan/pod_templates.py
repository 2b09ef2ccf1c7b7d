"""A pod's port flows in bulk: cut once from what `render_pod` says of two sample pods, then filled in.

Of pods with as many addresses, a MAC address or none, and the same isolation, only values differ: ofport, MAC and
addresses. Which flows there are is said in `render_ports` alone; pods whose values may mean more are rendered by it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from struct import Struct

from flows.bridge.state import PodBinding
from flows.cluster.model import Direction
from flows.cluster.net import ADDRESS_BITS
from flows.openflow.actions import Action, LearnReply, Load, Meter, Output
from flows.openflow.flow import Flow
from flows.pipeline.cookies import COOKIE_NUMBER_MASK
from flows.pipeline.pod_limits import Limit, learned_by
from flows.render.discovery import link_local
from flows.render.flow_set import FlowSet
from flows.render.pods import render_pod
from flows.wire.codec import encode_body, encode_key
from flows.wire.values import Body, FlowKey

# Keys, and as many bodies.
EncodedFlows = tuple[tuple[FlowKey, ...], tuple[Body, ...]]
MOST_TEMPLATE_ADDRESSES = 4  # of a pod that is filled in; it bounds the number of frames
_SIZES = {version: width // 8 for version, width in ADDRESS_BITS.items()}
_CACHED_PORTS = 1 << 10  # ofports that a frame remembers: bridges have pods at the same ones
# Samples are made of bytes that are all different, from here on.
_SAMPLE, _OTHER = 0x90, 0x10


class PodTemplates:
    """Encodes the flows of pods' ports. All bridges share one."""

    def __init__(self) -> None:
        self._frames: dict[tuple[tuple[int, ...], frozenset[Direction], tuple[Limit, ...]], PodTemplate] = {}

    def flows(self, pod: PodBinding, isolated: frozenset[Direction]) -> EncodedFlows:
        """The flows that `render_pod` gives, in any order. Raises what it raises, and what the encoder does."""
        values = _values(pod)
        if values is None:
            return self.plain(pod, isolated)
        shape = tuple(map(len, values)), isolated, pod.limits
        frame = self._frames.get(shape)
        if frame is None:
            frame = self._frames[shape] = self._cut(pod, isolated)
        return frame.fill(pod.ofport, values)

    def plain(self, pod: PodBinding, isolated: frozenset[Direction]) -> EncodedFlows:
        """The same, flow by flow."""
        flows = _rendered(pod, isolated)
        keys = tuple([encode_key(flow.table, flow.priority, flow.match) for flow in flows])
        return keys, tuple([encode_body(flow.cookie, flow.actions, flow.goto) for flow in flows])

    def _cut(self, pod: PodBinding, isolated: frozenset[Direction]) -> PodTemplate:
        """The frame of pods like this one. Raises ValueError where more than their values differs."""
        sample, other = _sample(pod, _SAMPLE), _sample(pod, _OTHER)
        values, others = _values(sample), _values(other)
        if values is None or others is None:
            raise ValueError("samples of pods that are not filled in")
        keys, _ = self.plain(sample, isolated)
        frame = PodTemplate(_rendered(sample, isolated), keys, sample.ofport, values)
        filled, plain = frame.fill(other.ofport, others), self.plain(other, isolated)
        if dict(zip(*filled, strict=True)) != dict(zip(*plain, strict=True)):
            raise ValueError("flows of pods that differ in more than their values")
        return frame


class PodTemplate:
    """The flows of pods that differ in values: keys are cut where the sample's values stand, bodies know its ofport."""

    def __init__(self, flows: list[Flow], keys: tuple[FlowKey, ...], ofport: int, values: list[bytes]) -> None:
        # Flows whose keys say nothing but the ofport come first: all bridges share them.
        own = [any(value in key for value in values[1:]) for key in keys]
        does = [(flow.cookie, flow.actions, flow.goto) for flow in flows]
        self._does = list(dict.fromkeys(does))
        self._which = [self._does.index(does[place]) for place in sorted(range(len(flows)), key=own.__getitem__)]
        self._ofport, self._marker = ofport, values[0]
        self._shared = [key for key, owned in zip(keys, own, strict=True) if not owned]
        rest = [key for key, owned in zip(keys, own, strict=True) if owned]
        # What stands between values, and values, in turn.
        self._pieces = re.split(b"(" + b"|".join(map(re.escape, values)) + b")", b"".join(rest))
        self._holes = [values.index(piece) for piece in self._pieces[1::2]]
        self._keys = Struct("".join(f"{len(key)}s" for key in rest))
        self._at = lru_cache(maxsize=_CACHED_PORTS)(self._encode_port)

    def fill(self, ofport: int, values: list[bytes]) -> EncodedFlows:
        """The flows of the pod at this port with these values."""
        keys, bodies = self._at(ofport)
        pieces = self._pieces.copy()
        pieces[1::2] = [values[hole] for hole in self._holes]
        return keys + self._keys.unpack(b"".join(pieces)), bodies

    def _encode_port(self, ofport: int) -> EncodedFlows:
        """Keys of the flows that say nothing else, and the bodies of all."""
        old, place = self._ofport, ofport.to_bytes(len(self._marker), "big")
        keys = tuple([key.replace(self._marker, place) for key in self._shared])
        bodies = [
            encode_body(_owned(owner, old, ofport), tuple([_moved(action, old, ofport) for action in actions]), goto)
            for owner, actions, goto in self._does
        ]
        return keys, tuple([bodies[which] for which in self._which])


def _rendered(pod: PodBinding, isolated: frozenset[Direction]) -> list[Flow]:
    flows = FlowSet()
    render_pod(flows, pod, isolated)
    return flows.flows()


def _values(pod: PodBinding) -> list[bytes] | None:
    """All in which pods alike differ: ofport, MAC, addresses, and the link-local one where the pod has it.

    None where two addresses are the same, where one is zero or no single address, or a value is too large: flows may
    then coincide, or be refused.
    """
    nets, mac = pod.addresses, pod.mac
    if len(nets) > MOST_TEMPLATE_ADDRESSES:
        return None
    try:
        values = [pod.ofport.to_bytes(2, "big")]
        if mac is not None:
            values.append(mac.to_bytes(6, "big"))
            if any(net[0] == 6 for net in nets):
                nets = (*nets, link_local(mac))
        for version, value, prefix in nets:
            if not value or prefix != ADDRESS_BITS[version]:
                return None
            values.append(value.to_bytes(_SIZES[version], "big"))
    except OverflowError:
        return None
    return values if len(nets) < 2 or len(set(nets)) == len(nets) else None


def _sample(pod: PodBinding, least: int) -> PodBinding:
    """A pod like this one, all bytes of whose values are different."""
    fresh = iter(range(least, 0x100))

    def value(size: int) -> int:
        return int.from_bytes([next(fresh) for _ in range(size)], "big")

    ofport, mac = value(2), None if pod.mac is None else value(6)
    nets = tuple([net._replace(value=value(_SIZES[net.version])) for net in pod.addresses])
    return replace(pod, ofport=ofport, mac=mac, addresses=nets)


def _moved(action: Action, old: int, new: int) -> Action:
    """The action of a flow of another port."""
    if isinstance(action, Load) and action.value == old:
        return Load(action.place, new)
    if isinstance(action, Meter):
        return Meter(action.number - old + new)
    if isinstance(action, LearnReply):
        return replace(action, cookie=learned_by(new))
    return Output(new) if isinstance(action, Output) and action.port == old else action


def _owned(number: int, old: int, new: int) -> int:
    """The cookie of a flow of another port."""
    return number - old + new if number & COOKIE_NUMBER_MASK == old else number
