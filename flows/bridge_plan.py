"""Everything one bridge shall have, kept piece by piece: the bridge itself, each port, and the rules.

A change costs the pieces that it changes; `take` says which flows came, went or differ. Equal to `render` of the same
switch and policy, which is what tests hold it to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Generic, NamedTuple, TypeVar

from flows.attach import Attachment, SwitchView
from flows.bridge_rules import BridgeRules
from flows.builder import FlowSet
from flows.encoding import FlowEncoder, FlowKey
from flows.flow import FlowError
from flows.model import Direction, Key
from flows.net import Net
from flows.pipeline import PipelineError
from flows.render import render_bridge
from flows.render_ports import render_flood

W = TypeVar("W")
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
Isolated = Callable[[Key], frozenset[Direction]]


# There are four of these, and very many pods.
_SAME = {one: one for one in map(frozenset, ((), (EGRESS,), (INGRESS,), (EGRESS, INGRESS)))}


class Port(NamedTuple):
    """A pod's port as it was rendered, and the flows that it gave."""

    pod: Attachment
    isolated: frozenset[Direction]
    flows: tuple[FlowKey, ...]


class Bridge(NamedTuple):
    """All that the flows of a bridge itself depend on."""

    node_addresses: tuple[Net, ...]
    local_mac: int | None
    uplink: int | None


class BridgePlan(Generic[W]):
    """The desired flows of one bridge as `flows`: encoded, bodies by their keys.

    `error` says why rules are left out, "" when they are not: their pods are then cut off.
    """

    def __init__(self, encoder: FlowEncoder[W], userspace: bool) -> None:
        self.view = SwitchView(userspace=userspace)
        self.flows: dict[FlowKey, W] = {}
        self.error = ""
        self.rules = BridgeRules(userspace, encoder)
        self._encoder = encoder
        self._ports: dict[int, Port] = {}  # by ofport
        self._pods: dict[Key, int] = {}
        self._bridge: Bridge | None = None
        self._of_bridge: tuple[FlowKey, ...] = ()
        self._flooded: tuple[int | None, tuple[int, ...]] | None = None  # what the flood's flow depends on
        self._before: dict[FlowKey, W | None] = {}  # what `take` handed out last, of all that was touched since

    def set_view(self, view: SwitchView, isolated: Isolated) -> None:
        """The switch and its ports are these now. The caller updates the rules of pods that came or went."""
        old, self.view = self.view, view
        if old.userspace != view.userspace:
            raise ValueError("a bridge that changed its datapath type needs a new plan")
        wanted = {pod.ofport: pod for pod in view.attachments}
        gone = self._ports.keys() - wanted.keys()
        changed = self._changed(wanted, gone)
        bridge = Bridge(view.node_addresses, view.local_mac, view.uplink)
        anew = bridge != self._bridge
        # What one piece gives up may be another's from now on, so everything is given up first.
        for ofport in [*gone, *changed]:
            self._clear(ofport)
        if anew:
            self._drop(self._of_bridge)
        for ofport in changed:
            self._fill(wanted[ofport], isolated(wanted[ofport].pod))
        if anew:
            self._bridge = bridge
            self._of_bridge = self._put(render_bridge)
        flooded = (bridge.uplink, tuple([pod.ofport for pod in view.attachments if pod.addresses]))
        if flooded != self._flooded:
            self._flooded = flooded
            self._put(render_flood)

    def _changed(self, wanted: dict[int, Attachment], gone: set[int]) -> list[int]:
        """The ports to be rendered again. Ports with one MAC address share a flow, so they go together."""
        ports = self._ports
        changed = {
            ofport
            for ofport, pod in wanted.items()
            if (port := ports.get(ofport)) is None or (port.pod is not pod and port.pod != pod)
        }
        macs = {ports[ofport].pod.mac for ofport in [*gone, *changed] if ofport in ports}
        macs.update(wanted[ofport].mac for ofport in changed)
        macs.discard(None)
        return [ofport for ofport, pod in wanted.items() if ofport in changed or pod.mac in macs]

    def port(self, ofport: int) -> Port | None:
        """A pod's port as it was rendered last."""
        return self._ports.get(ofport)

    def isolate(self, pod: Key, isolated: Isolated) -> None:
        """The directions in which policy isolates a pod may have changed."""
        port = self._ports.get(self._pods.get(pod, -1))
        directions = isolated(pod)
        if port is not None and port.isolated != directions:
            # Which flows there are does not depend on it, only what they do.
            self._fill(port.pod, directions)

    def _fill(self, pod: Attachment, isolated: frozenset[Direction]) -> None:
        isolated = _SAME[isolated]
        keys, bodies = self._encoder.pod(pod, isolated)
        self._set(keys, bodies)
        before = self._ports.get(pod.ofport)
        if before is not None and before.flows == keys:
            keys = before.flows  # they stand in `flows` already
        self._ports[pod.ofport] = Port(pod, isolated, keys)
        self._pods[pod.pod] = pod.ofport

    def _clear(self, ofport: int) -> None:
        port = self._ports.pop(ofport, None)
        if port is not None:
            self._drop(port.flows)
            if self._pods.get(port.pod.pod) == ofport:
                del self._pods[port.pod.pod]

    def _put(self, render: Callable[[FlowSet, SwitchView], None]) -> tuple[FlowKey, ...]:
        found = FlowSet()
        render(found, self.view)
        encoded = [self._encoder.flow(flow) for flow in found.flows()]
        keys = tuple([key for key, _ in encoded])
        self._set(keys, [body for _, body in encoded])
        return keys

    def _set(self, keys: Collection[FlowKey], bodies: Iterable[W]) -> None:
        flows, earlier = self.flows, self._before
        if flows.keys().isdisjoint(keys) and earlier.keys().isdisjoint(keys):
            flows.update(zip(keys, bodies, strict=True))
            earlier.update(dict.fromkeys(keys))
            return
        for key, body in zip(keys, bodies, strict=True):
            before = flows.get(key)
            if before is not body and before != body:
                earlier.setdefault(key, before)
                flows[key] = body

    def _drop(self, keys: Iterable[FlowKey]) -> None:
        for key in keys:
            self._before.setdefault(key, self.flows.pop(key, None))

    def take(self) -> dict[FlowKey, W | None]:
        """The keys of `flows` that came, went or differ since the last call, with what was there before."""
        try:
            changed = self.rules.take()
            self.error = ""
        except (FlowError, PipelineError) as problem:
            changed = self.rules.drop()
            self.error = f"policy rules cannot be rendered, isolated pods are cut off: {problem}"
        flows, earlier = self.flows, self._before
        for key, body in changed.items():
            before = flows.get(key)
            if before is body or before == body:
                continue
            earlier.setdefault(key, before)
            if body is None:
                del flows[key]
            else:
                flows[key] = body
        self._before = {}
        return {key: before for key, before in earlier.items() if flows.get(key) != before}
