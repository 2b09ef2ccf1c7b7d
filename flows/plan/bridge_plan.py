"""Everything one bridge shall have, kept piece by piece: the bridge itself, each port, the flood's chunks, the rules.

A change costs the pieces that it changes; `take` says which flows came, went or differ. Equal to `render` of the same
switch and policy, which is what tests hold it to. What cannot be rendered is contained here: a port whose flows cannot
be made has none and so stays shut, rules that cannot be made are left out and their pods cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from flows.bridge.state import Binding, BridgeBinding, PodBinding
from flows.cluster.model import Direction, Key
from flows.openflow.match import FlowError
from flows.openflow.port_numbers import MAX_OFPORT
from flows.pipeline.tables import PipelineError
from flows.plan.encoder import FlowEncoder
from flows.plan.pieces import Pieces
from flows.plan.rules import BridgeRules, PeersWatcher
from flows.render.fixed import render_bridge
from flows.render.flood import flood_chunk, render_flood_chunk, render_flood_to_all
from flows.render.flow_set import FlowSet
from flows.wire.values import Body, FlowKey

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
IsolationOf = Callable[[Key], frozenset[Direction]]

# Numbers of pieces: ports have their ofport, and where two want one flow the smaller number has it.
_SHARED = -1  # what all bridges have
_BRIDGE = 0
_EVERYBODY = MAX_OFPORT + 1
_CHUNKS = _EVERYBODY + 1  # and the chunk's number

# There are four of these, and very many pods.
_SAME = {one: one for one in map(frozenset, ((), (EGRESS,), (INGRESS,), (EGRESS, INGRESS)))}


class RenderedPort(NamedTuple):
    """A pod's port as it was rendered."""

    pod: PodBinding
    isolated: frozenset[Direction]


class BridgePlan:
    """The desired flows of one bridge as `flows`: encoded, bodies by their keys.

    `error` says why rules are left out, "" when they are not: their pods are then cut off. `refused` has the ports
    whose flows cannot be made, by ofport, and why.
    """

    __slots__ = (
        "_bridge", "_chunks", "_encoder", "_pieces", "_ports", "error", "flows", "refused", "rules", "userspace",
    )  # fmt: skip

    def __init__(self, encoder: FlowEncoder, userspace: bool, watch: PeersWatcher | None = None) -> None:
        self.userspace = userspace
        self.error = ""
        self.refused: dict[int, str] = {}
        self.rules = BridgeRules(userspace, encoder, watch)
        self._encoder = encoder
        self._pieces: Pieces = Pieces()
        self.flows = self._pieces.flows
        self._ports: dict[int, RenderedPort] = {}  # by ofport
        self._bridge: BridgeBinding | None = None
        self._chunks: dict[int, set[int]] = {}  # the ports that the flood goes to

    @property
    def view(self) -> Binding:
        """The switch and its ports as they are rendered."""
        pods = sorted((port.pod for port in self._ports.values()), key=attrgetter("ofport"))
        own, mac, uplink, answered = self._bridge or BridgeBinding()
        return Binding(own, mac, uplink, tuple(pods), self.userspace, answered)

    def set_view(self, view: Binding, isolated: IsolationOf) -> None:
        """The switch and its ports are these now. The caller updates the rules of pods that came or went."""
        if self.userspace != view.userspace:
            raise ValueError("a bridge that changed its datapath type needs a new plan")
        wanted = {pod.ofport: pod for pod in view.pods}
        gone = [ofport for ofport in self._ports if ofport not in wanted]
        came = [pod for ofport, pod in wanted.items() if (port := self._ports.get(ofport)) is None or port.pod != pod]
        self.update(
            BridgeBinding(view.node_addresses, view.local_mac, view.uplink, view.confirmed_addresses),
            gone,
            came,
            isolated,
        )

    def update(
        self, bridge: BridgeBinding, gone: Iterable[int], came: Collection[PodBinding], isolated: IsolationOf
    ) -> None:
        """The bridge is this now; these ports are gone, and these are new or differ."""
        before = self._bridge
        chunks: set[int] = set()
        for ofport in gone:
            self._clear(ofport, chunks)
        if bridge != before:
            self._bridge = bridge
            if before is None:
                self._pieces.put(_SHARED, *self._encoder.same(self.userspace))
            self._render(_BRIDGE, partial(render_bridge, binding=self.view))
        for pod in came:
            self._fill(pod, isolated(pod.pod))
            self._flood(pod.ofport, bool(pod.addresses) and pod.ofport not in self.refused, chunks)
        if chunks or before is None or before.uplink != bridge.uplink:
            self._render_flood(chunks, before)

    def flows_of(self, ofport: int) -> tuple[FlowKey, ...]:
        """The keys of the flows that a pod's port wants; none for a port that is not a pod's, or stays shut."""
        return self._pieces.keys(ofport)

    def isolate(self, ofport: int, directions: frozenset[Direction]) -> None:
        """The directions in which policy isolates the pod at a port are these."""
        port = self._ports.get(ofport)
        if port is not None and port.isolated != directions:
            # Which flows there are does not depend on it, only what they do.
            chunks: set[int] = set()
            self._fill(port.pod, directions)
            self._flood(ofport, bool(port.pod.addresses) and ofport not in self.refused, chunks)
            if chunks:
                self._render_flood(chunks, self._bridge)

    def _fill(self, pod: PodBinding, isolated: frozenset[Direction]) -> None:
        """Make a port's flows; it has none where that cannot be done, for then it must stay shut."""
        isolated = _SAME[isolated]
        self._ports[pod.ofport] = RenderedPort(pod, isolated)
        try:
            keys, bodies = self._encoder.pod(pod, isolated)
            self._pieces.put(pod.ofport, keys, bodies)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this port and no other
            self._pieces.drop(pod.ofport)
            self.refused[pod.ofport] = f"its flows cannot be made, so it stays shut: {type(error).__name__}: {error}"
        else:
            self.refused.pop(pod.ofport, None)

    def _clear(self, ofport: int, chunks: set[int]) -> None:
        if self._ports.pop(ofport, None) is not None:
            self.refused.pop(ofport, None)
            self._pieces.drop(ofport)
            self._flood(ofport, False, chunks)

    def _flood(self, ofport: int, wanted: bool, changed: set[int]) -> None:
        """Whether the flood goes to a port; `changed` gets the chunk where that is new."""
        number = flood_chunk(ofport)
        chunk = self._chunks.setdefault(number, set())
        if wanted != (ofport in chunk):
            changed.add(number)
            if wanted:
                chunk.add(ofport)
            else:
                chunk.discard(ofport)
        if not chunk:
            del self._chunks[number]

    def _render_flood(self, changed: set[int], before: BridgeBinding | None) -> None:
        """The chunks that changed; and the flow that calls them all, if there are others or another uplink."""
        pieces, uplink = self._pieces, self._bridge.uplink if self._bridge else None
        anew = before is None or before.uplink != uplink
        for number in changed:
            ports = self._chunks.get(number)
            keys = pieces.keys(_CHUNKS + number)
            anew |= bool(keys) != bool(ports)
            if not ports:
                pieces.drop(_CHUNKS + number)
            elif keys:
                pieces.put(_CHUNKS + number, keys, (self._encoder.outputs(sorted(ports)),))
            else:
                self._render(_CHUNKS + number, partial(render_flood_chunk, chunk=number, ports=ports))
        if anew:
            self._render(_EVERYBODY, partial(render_flood_to_all, chunks=self._chunks, uplink=uplink))

    def _render(self, piece: int, render: Callable[[FlowSet], None]) -> None:
        found = FlowSet()
        render(found)
        encoded = [self._encoder.flow(flow) for flow in found.flows()]
        self._pieces.put(piece, tuple([key for key, _ in encoded]), [body for _, body in encoded])

    def take(self) -> dict[FlowKey, Body | None]:
        """The keys of `flows` that came, went or differ since the last call, with what was there before."""
        try:
            changed = self.rules.take()
            self.error = ""
        except (FlowError, PipelineError) as problem:
            changed = self.rules.drop()
            self.error = f"policy rules cannot be rendered, isolated pods are cut off: {problem}"
        self._pieces.write_all(changed)
        return self._pieces.take()
