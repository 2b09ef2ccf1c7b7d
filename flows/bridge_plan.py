"""Everything one bridge shall have, kept piece by piece: the bridge itself, each port, and the rules.

A change costs the pieces that it changes; `take` says which flows came, went or differ. Equal to `render` of the same
switch and policy, which is what tests hold it to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from flows.attach import Attachment, SwitchView
from flows.bridge_rules import BridgeRules, Slot
from flows.builder import FlowSet
from flows.flow import Flow, FlowError
from flows.model import Direction, Key
from flows.pipeline import PipelineError
from flows.render import render_bridge
from flows.render_ports import render_pod

W = TypeVar("W")
Isolated = Callable[[Key], frozenset[Direction]]
BRIDGE = -1  # the piece that is no port's


class BridgePlan(Generic[W]):
    """The desired flows of one bridge as `flows`: encoded, by whatever key the encoder's result is identified by.

    `error` says why rules are left out, "" when they are not: their pods are then cut off.
    """

    def __init__(
        self, encode: Callable[[Flow], W], identify: Callable[[W], tuple[int, int, bytes]], userspace: bool
    ) -> None:
        self.view = SwitchView(userspace=userspace)
        self.flows: dict[tuple[int, int, bytes], W] = {}
        self.error = ""
        self.rules = BridgeRules(userspace)
        self._encode = encode
        self._identify = identify
        self._keys: dict[Slot, tuple[int, int, bytes]] = {}
        self._pieces: dict[int, dict[Slot, Flow]] = {}
        self._owner: dict[Slot, int] = {}
        self._changed: dict[Slot, Flow | None] = {}

    def set_view(self, view: SwitchView, isolated: Isolated) -> None:
        """The switch and its ports are these now. The caller updates the rules of pods that came or went."""
        old, self.view = self.view, view
        if old.userspace != view.userspace:
            raise ValueError("a bridge that changed its datapath type needs a new plan")
        before = {pod.ofport: pod for pod in old.attachments}
        after = {pod.ofport: pod for pod in view.attachments}
        for ofport in before.keys() - after.keys():
            self._place(ofport, {})
        for ofport, pod in after.items():
            if before.get(ofport) != pod:
                self._place(ofport, _port(pod, isolated))
        flows = FlowSet()
        render_bridge(flows, view)
        self._place(BRIDGE, _slots(flows))

    def isolate(self, pod: Key, isolated: Isolated) -> None:
        """The directions in which policy isolates a pod have changed."""
        for attachment in self.view.attachments:
            if attachment.pod == pod:
                self._place(attachment.ofport, _port(attachment, isolated))

    def _place(self, piece: int, flows: dict[Slot, Flow]) -> None:
        old = self._pieces.pop(piece, {})
        if flows:
            self._pieces[piece] = flows
        for slot in old.keys() - flows.keys():
            # What a piece gives up may be another's by now.
            if self._owner.get(slot) == piece:
                del self._owner[slot]
                self._changed[slot] = None
        for slot, flow in flows.items():
            if old.get(slot) != flow:
                self._owner[slot] = piece
                self._changed[slot] = flow

    def take(self) -> set[tuple[int, int, bytes]]:
        """The keys of `flows` that came, went or differ since the last call."""
        try:
            changed = {**self._changed, **self.rules.take()}
            self.error = ""
        except (FlowError, PipelineError) as problem:
            changed = {**self._changed, **self.rules.drop()}
            self.error = f"policy rules cannot be rendered, isolated pods are cut off: {problem}"
        self._changed = {}
        keys = set()
        for slot, flow in changed.items():
            if flow is None:
                key = self._keys.pop(slot, None)
                if key is not None:
                    del self.flows[key]
                    keys.add(key)
                continue
            wire = self._encode(flow)
            key = self._identify(wire)
            self._keys[slot] = key
            if self.flows.get(key) != wire:
                self.flows[key] = wire
                keys.add(key)
        return keys


def _port(pod: Attachment, isolated: Isolated) -> dict[Slot, Flow]:
    flows = FlowSet()
    render_pod(flows, pod, isolated(pod.pod))
    return _slots(flows)


def _slots(flows: FlowSet) -> dict[Slot, Flow]:
    return {(flow.table, flow.priority, flow.match): flow for flow in flows.flows()}
