"""The desired flows of one bridge, kept as its ports and the policy change.

Theory of operation. The flows are made of pieces, each with a number: those that all bridges of a datapath type share,
those of the bridge itself, one piece for each pod's port (its ofport), one for each chunk of ports that floods go to,
one flow that sends a flood to all chunks, and one piece for each other node that is reached through a tunnel. Where the
switch routes there are no floods, and each port of a Service has a piece (`bridge_services`). The flows of rules come
from `rules`. A change renders the pieces that it touches, `pieces` works out which flows really differ, and `take`
hands those out.

Example. Pod `x/a` behind ofport 7 becomes isolated for ingress. `isolate(7, {INGRESS})` renders piece 7 again: its keys
are the same, and the bodies of its default-deny flows differ. `take` returns those keys with the bodies that they had.

The flows equal those of `render.reference.render` for the same binding and policy, which tests verify. What cannot be
rendered is contained: a port whose flows raise has none, so that its packets are dropped, and rules that raise are left
out, so that isolated pods receive nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from flows.bridge.state import Binding, BridgeBinding, PodBinding
from flows.cluster.model import Key
from flows.cluster.net import Net
from flows.cluster.tuples import new_tuple
from flows.openflow.match import FlowError
from flows.openflow.port_numbers import MAX_OFPORT
from flows.pipeline.tables import PipelineError
from flows.plan.answer_flows import AnswerFlows
from flows.plan.bridge_groups import BridgeGroups
from flows.plan.bridge_services import BridgeServices
from flows.plan.concerning_flows import ConcerningFlows
from flows.plan.encoder import FlowEncoder
from flows.plan.named_peers import Learned
from flows.plan.pieces import Pieces
from flows.plan.remote_nodes import RemoteNodes
from flows.plan.rules import BridgeRules, PeersWatcher
from flows.policy.rule import Applies, Watch, of_staged, of_tiers, only_isolates
from flows.policy.tracked_sets import TrackedRule
from flows.render.answers import DnsServer
from flows.render.audit import is_audited, render_audit, watched
from flows.render.fixed import render_bridge
from flows.render.flood import flood_chunk, render_flood_to_all
from flows.render.flow_set import FlowSet
from flows.wire.values import Body, FlowKey

IsolationOf = Callable[[Key], frozenset[Applies]]

# Numbers of pieces; a port's piece has its ofport. Where two pieces have the same flow, the smaller number wins.
TOO_MANY_OF_TIERS = (
    "the rules of ClusterNetworkPolicies would need too many flows here, so all that they might decide is denied"
)
_STAGED = -4  # on bridges with a pod that some staged policy selects
_AUDIT = -3  # on bridges with an audited pod
_TIERS = -2  # on bridges with a pod that some ClusterNetworkPolicy selects
_FIXED = -1  # what all bridges have
_BRIDGE = 0
_FLOOD = MAX_OFPORT + 1
_FLOOD_CHUNKS = _FLOOD + 1  # plus the chunk's number
_REMOTE_NODES = _FLOOD_CHUNKS + MAX_OFPORT + 1  # plus the number of the remote node in this plan
_ANSWERS = 1 << 24  # plus one and an ofport
_SERVICES = 1 << 32  # plus the number of the piece in `cluster_services`

# One object for each set, since very many ports refer to them: there are at most 18,432.
_SHARED_ISOLATION: dict[frozenset[Applies], frozenset[Applies]] = {}


class RenderedPort(NamedTuple):
    """A pod's port as it was rendered."""

    pod: PodBinding
    isolated: frozenset[Applies]


class BridgePlan:
    """`flows` are the desired flows: bodies by key; `groups` the desired groups that flows refer to.

    `services` keeps those of Services. `error` says why all rules are left out, "" when they are not. `refused` has the
    ports whose flows cannot be made, by ofport, and why. `left` has the pods that lost a port since somebody emptied
    it, by ofport; None for several.
    """

    __slots__ = (
        "_audited", "_beyond", "_bridge", "_chunks", "_encoder", "_learned", "_pieces", "_ports", "_remotes",
        "_shows_beyond", "_staged", "_tiers", "answers", "dns_servers", "error", "flows", "groups", "left", "refused",
        "routes", "rules", "services", "userspace",
    )  # fmt: skip

    def __init__(
        self,
        encoder: FlowEncoder,
        userspace: bool,
        watch: PeersWatcher | None = None,
        routes: bool = False,
        learned: Callable[[Key], Learned] = lambda _: {},
    ) -> None:
        self.userspace = userspace
        self.routes = routes
        self.error = ""
        self.refused: dict[int, str] = {}
        self.left: dict[int, Key | None] = {}
        self._learned = learned
        self.rules = BridgeRules(userspace, encoder, watch, self._learned_at)
        self._encoder = encoder
        self._pieces = Pieces()
        self.flows = self._pieces.flows
        self.groups = BridgeGroups()
        self.services = BridgeServices(self._pieces, self.groups, _SERVICES)
        self._ports: dict[int, RenderedPort] = {}  # by ofport
        self._tiers = ConcerningFlows(self._pieces, _TIERS, of_tiers, partial(encoder.tier_flows, userspace))
        self._staged = ConcerningFlows(self._pieces, _STAGED, of_staged, lambda _: encoder.staged_flows())
        self._beyond: set[int] = set()  # the ofports of pods to which more applies than isolation
        self._shows_beyond = False  # whether flows of tiers or of staged policies may be there
        self._audited: set[int] = set()  # the ofports of audited pods
        self.answers = AnswerFlows(self._pieces, encoder, _ANSWERS, userspace)
        self.dns_servers: tuple[DnsServer, ...] | None = None  # None where answers cannot be held
        self._bridge: BridgeBinding | None = None
        self._remotes = RemoteNodes(self._pieces, encoder, _REMOTE_NODES)
        self._chunks: dict[int, list[int]] = {}  # ofports that floods go to, by chunk, sorted

    # -- changes -----------------------------------------------------------------------------------------------------

    def set_binding(self, binding: Binding, isolated: IsolationOf) -> None:
        """The bridge and its ports are these now. The caller updates the rules of pods that came or went.

        Raises ValueError for another datapath type or mode than the plan's: that needs a new plan.
        """
        if (self.userspace, self.routes) != (binding.userspace, binding.routing.routes):
            raise ValueError("a bridge that changed its datapath type or its mode needs a new plan")
        new = {pod.ofport: pod for pod in binding.pods}
        gone = [ofport for ofport in self._ports if ofport not in new]
        came = [pod for ofport, pod in new.items() if (port := self._ports.get(ofport)) is None or port.pod != pod]
        bridge = BridgeBinding(*(getattr(binding, name) for name in BridgeBinding._fields))
        self.update(bridge, gone, came, isolated)

    def update(
        self, bridge: BridgeBinding, gone: Iterable[int], came: Collection[PodBinding], isolated: IsolationOf
    ) -> None:
        """The bridge is this now; these ofports are gone, and these ports are new or differ."""
        before = self._bridge
        chunks: set[int] = set()
        for ofport in gone:
            self._remove_port(ofport, chunks)
        if bridge != before:
            self._bridge = bridge
            if before is None:
                self._pieces.put(_FIXED, *self._encoder.fixed_flows(self.userspace, self.routes))
            if before is None or _without_nodes(before) != _without_nodes(bridge):
                self._render(_BRIDGE, partial(render_bridge, binding=self.binding))
                if self._audited:
                    self._render_audit()
            self._remotes.set(bridge.routing, bridge.tunnel)
        for pod in came:
            self._put_port(pod, isolated(pod.pod))
            self.update_names(pod.ofport, None)
            self._set_flooded(pod.ofport, bool(pod.addresses) and pod.ofport not in self.refused, chunks)
        if not self.routes and (chunks or before is None or before.uplink != bridge.uplink):
            self._render_flood(chunks, before)

    def isolate(self, ofport: int, directions: frozenset[Applies]) -> bool:
        """The directions in which policy isolates the pod at a port are these. Returns whether they were others."""
        port = self._ports.get(ofport)
        if port is None or port.isolated is directions or port.isolated - {Watch.SENDER} == directions:
            return False
        # Mostly the keys do not depend on isolation, only the bodies do.
        chunks: set[int] = set()
        self._put_port(port.pod, directions)
        self._set_flooded(ofport, bool(port.pod.addresses) and ofport not in self.refused, chunks)
        if chunks and not self.routes:
            self._render_flood(chunks, self._bridge)
        return True

    def take(self) -> Mapping[FlowKey, Body | None]:
        """The keys of `flows` that came, went or differ since the last call.

        With each is the body before, None where there was no flow. The first call returns a view of `flows`.
        """
        try:
            changed = self.rules.take()
            self.error = TOO_MANY_OF_TIERS if self.rules.tiers_left_out else ""
        except (FlowError, PipelineError) as error:
            changed = self.rules.drop()
            self.error = (
                "policy rules cannot be rendered, so isolated pods get no allow rule and all their packets are denied, "
                "as are those of pods that a ClusterNetworkPolicy selects: "
                f"{error}"
            )
        if self.rules.names_changed:  # after `take`, which chooses the rules that have room
            self.answers.hold(self.rules.named_ports(), self.dns_servers)
        if self._beyond or self._shows_beyond:  # of most bridges neither, and this is asked of very many
            self._tiers.show(bool(self.error))
            self._staged.show(None if self.error or self.rules.staged_left_out else True)
            self._shows_beyond = bool(self._beyond)
        if self.answers.changes:
            self._pieces.write_all(self.answers.take())
        return self._pieces.take(changed)

    def set_dns(self, servers: tuple[DnsServer, ...] | None) -> None:
        """The servers whose answers are held; None where they cannot be, because the switch has no meters."""
        if servers != self.dns_servers:
            self.dns_servers = servers
            self.rules.names_changed = True

    def update_names(self, ofport: int, addresses: Collection[Net] | None) -> None:
        """The pod at a port learned or lost something: of these addresses, or any for None."""
        port = self._ports.get(ofport)
        if port is not None:
            if self.rules.has_names:
                self.rules.update_names(ofport, addresses)
            learned = self._learned(port.pod.pod)
            if learned or self.answers.remembers:
                self.answers.remember(port.pod, learned, addresses)

    @property
    def has_names(self) -> bool:
        """Whether some rule with domain names selects a pod here."""
        return self.rules.has_names

    def _learned_at(self, ofport: int) -> Learned:
        port = self._ports.get(ofport)
        return self._learned(port.pod.pod) if port is not None else {}

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def binding(self) -> Binding:
        """The bridge and its ports as they are rendered."""
        pods = sorted((port.pod for port in self._ports.values()), key=attrgetter("ofport"))
        own, mac, uplink, answered, routing, tunnel = self._bridge or BridgeBinding()
        return Binding(own, mac, uplink, tuple(pods), self.userspace, answered, routing, tunnel)

    @property
    def audited_pods(self) -> int:
        """How many of the bridge's pods are audited."""
        return len(self._audited)

    def pod_at(self, ofport: int) -> Key | None:
        """The pod behind a port; None for any other port."""
        port = self._ports.get(ofport)
        return port.pod.pod if port is not None else None

    def port_flows(self, ofport: int) -> tuple[FlowKey, ...]:
        """The keys of the flows of a pod's port; none for any other port, and for a port in `refused`."""
        return self._pieces.keys(ofport)

    def rules_by_number(self) -> dict[int, TrackedRule]:
        """The rules that have subjects on this bridge, by conjunction id."""
        return self.rules.by_number()

    def rule_flow(self, identity: bytes) -> FlowKey | None:
        """The key of the flow that counts what a rule allows on this bridge; None where the rule has no flows."""
        return self.rules.hit_flow(identity)

    @property
    def namespaces_left_out(self) -> frozenset[str]:
        """The namespaces with rules that are left out of this bridge, because there would be too many flows."""
        return self.rules.namespaces_left_out

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _put_port(self, pod: PodBinding, isolated: frozenset[Applies]) -> None:
        """Make a port's flows. A port whose flows raise has none, so that its packets are dropped."""
        self._note_applying(pod.ofport, pod, isolated)
        if self._audited:
            isolated |= {Watch.SENDER}
        self._make_port(pod, isolated)

    def _note_applying(self, ofport: int, pod: PodBinding | None, applies: frozenset[Applies]) -> None:
        """What applies to the pod at a port is this now; the pod is None where it is gone."""
        if only_isolates(applies):
            if ofport not in self._beyond:
                return
            self._beyond.discard(ofport)
        else:
            self._beyond.add(ofport)
        self._tiers.set_port(ofport, applies)
        self._staged.set_port(ofport, applies)
        self._set_audited(ofport, pod is not None and is_audited(watched(pod, applies)))

    def _set_audited(self, ofport: int, audited: bool) -> None:
        """Whether the pod at a port is audited. With the first and the last one the flows of all ports differ."""
        before = bool(self._audited)
        if audited:
            self._audited.add(ofport)
        else:
            self._audited.discard(ofport)
        if before == bool(self._audited):
            return
        self._render_audit()
        for other, port in self._ports.items():
            if other != ofport:
                sender = {Watch.SENDER}
                self._make_port(port.pod, port.isolated | sender if audited else port.isolated - sender)

    def _render_audit(self) -> None:
        if self._audited and self._bridge is not None:
            self._render(_AUDIT, partial(render_audit, routing=self._bridge.routing))
        else:
            self._pieces.drop(_AUDIT)

    def _make_port(self, pod: PodBinding, isolated: frozenset[Applies]) -> None:
        isolated = _SHARED_ISOLATION.setdefault(isolated, isolated)
        before = self._ports.get(pod.ofport)
        if before is not None and before.pod.pod != pod.pod:
            self._note_left(pod.ofport, before)
        self._ports[pod.ofport] = new_tuple(RenderedPort, (pod, isolated))
        try:
            keys, bodies = self._encoder.pod(pod, isolated, self.routes)
            self._pieces.put(pod.ofport, keys, bodies)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this port and no other
            self._pieces.drop(pod.ofport)
            self.refused[pod.ofport] = (
                f"its flows cannot be made, so its packets are dropped: {type(error).__name__}: {error}"
            )
        else:
            self.refused.pop(pod.ofport, None)

    def _remove_port(self, ofport: int, chunks: set[int]) -> None:
        if (before := self._ports.pop(ofport, None)) is not None:
            self._note_left(ofport, before)
            self.refused.pop(ofport, None)
            self._pieces.drop(ofport)
            self._note_applying(ofport, None, frozenset())
            self.answers.forget(ofport)
            self.rules.update_names(ofport)
            self._set_flooded(ofport, False, chunks)

    def _note_left(self, ofport: int, before: RenderedPort) -> None:
        pod = before.pod.pod
        self.left[ofport] = pod if self.left.get(ofport, pod) == pod else None

    def _set_flooded(self, ofport: int, flooded: bool, changed: set[int]) -> None:
        """Whether floods go to a port; `changed` gets the port's chunk where that differs."""
        number = flood_chunk(ofport)
        chunk = self._chunks.get(number)
        if chunk is None:
            if flooded:
                self._chunks[number] = [ofport]
                changed.add(number)
            return
        place = bisect_left(chunk, ofport)
        if flooded == (place < len(chunk) and chunk[place] == ofport):
            return
        changed.add(number)
        if flooded:
            chunk.insert(place, ofport)
        elif len(chunk) > 1:
            del chunk[place]
        else:
            del self._chunks[number]

    def _render_flood(self, changed: set[int], before: BridgeBinding | None) -> None:
        """Render the chunks that changed, and the flow to all chunks if a chunk came or went or the uplink differs."""
        pieces, uplink = self._pieces, self._bridge.uplink if self._bridge else None
        differs = before is None or before.uplink != uplink
        for number in changed:
            ports = self._chunks.get(number)
            keys = pieces.keys(_FLOOD_CHUNKS + number)
            differs |= bool(keys) != bool(ports)
            if not ports:
                pieces.drop(_FLOOD_CHUNKS + number)
            elif keys:
                pieces.put(_FLOOD_CHUNKS + number, keys, (self._encoder.outputs(ports),))
            else:
                pieces.put(_FLOOD_CHUNKS + number, *self._encoder.flood_chunk(number, tuple(ports)))
        if differs:
            self._render(_FLOOD, partial(render_flood_to_all, chunks=self._chunks, uplink=uplink))

    def _render(self, piece: int, render: Callable[[FlowSet], None]) -> None:
        found = FlowSet()
        render(found)
        self._pieces.put(piece, *self._encoder.flows(found))


def _without_nodes(bridge: BridgeBinding) -> tuple[object, ...]:
    """All that the flows of the bridge itself depend on: other nodes have flows of their own."""
    own, mac, uplink, answered, routing, tunnel = bridge
    return own, mac, uplink, answered, tunnel, routing.mode, routing.own, routing.service_cidrs
