"""Flows to keys and bodies, with the copies and caches that all bridges share.

Single flows go through the codec; the many and alike flows of pods' ports and of rules through templates
(`pod_templates`, `key_templates`). Which flows there are is decided in `flows.render`, and never here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from flows.bridge.routing import NodeDifferences, RoutedNode
from flows.bridge.state import PodBinding
from flows.cluster.model import Action, Key
from flows.cluster.net import ADDRESS_BITS, Net
from flows.cluster.tuples import new_tuple
from flows.openflow.actions import Conjunction
from flows.openflow.flow import Flow
from flows.pipeline.cookies import CookieKind, cookie
from flows.plan.key_templates import BandTemplates, KeyTemplate, KeyTemplates, LevelTemplates, key_template
from flows.plan.pod_templates import EncodedFlows, PodTemplates
from flows.policy.rule import Applies
from flows.render.answers import render_held_answers
from flows.render.fixed import render_fixed
from flows.render.flood import render_flood_chunk
from flows.render.flow_set import FlowSet
from flows.render.gateway import render_pod_gateway
from flows.render.name_memory import memory_note, render_memory
from flows.render.rules import AnyStage
from flows.render.second_looks import render_second_look
from flows.render.service_ports import PortNumbers, render_service_port
from flows.render.staged import render_staged
from flows.render.tiers import render_tiers
from flows.render.tunnel import render_remote_node
from flows.services.choice import Choice
from flows.services.served import ServedPort
from flows.wire.actions import encode_conjunction, encode_conjunctions, encode_instructions, encode_outputs
from flows.wire.codec import encode_body, encode_key
from flows.wire.groups import encode_group
from flows.wire.values import Body, FlowKey, WireGroup

CLAUSE_COOKIE = cookie(CookieKind.CLAUSE)
_PIPELINE_COOKIE = cookie(CookieKind.PIPELINE)
RULE_COOKIE = cookie(CookieKind.RULE)  # with a conjunction id added, which has fewer bits than there is room
_CACHED_OUTPUTS = 1 << 16  # an ofport has 16 bits
_CACHED_CHUNKS = 1 << 10  # of a kilobyte each at most
_CACHED_NODES = 1 << 13  # nodes times different ofports of tunnels; bridges share what these entries hold


class Dimension(NamedTuple):
    """One dimension of a rule: the fields of its conjunction, and the body of a clause flow that names no other."""

    conj_id: int
    clause: int
    clauses: int
    alone: Body

    @property
    def conjunction(self) -> Conjunction:
        """Its conjunction, as flows name it."""
        return Conjunction(self.conj_id, self.clause, self.clauses)


class EncodedPort(NamedTuple):
    """The flows of a Service's port, and its groups."""

    keys: tuple[FlowKey, ...] = ()
    bodies: tuple[Body, ...] = ()
    groups: tuple[WireGroup, ...] = ()


class FlowEncoder:
    """All bridges share one, and its caches. Its methods raise CodecError where a value does not fit its field.

    `remote_node(node, tunnel)` gives the flows of another node on a bridge whose tunnel port is `tunnel`,
    `flood_chunk(number, ports)` the flow of a chunk of these ofports: bridges mostly have the same.
    """

    def __init__(self) -> None:
        self._bands: dict[tuple[int, int], BandTemplates] = {}  # by table and band
        self._dimensions: dict[int, tuple[Dimension, ...]] = {}  # by number, until `forget_dimensions`
        self._hits: dict[tuple[int, Action | None], bytes] = {}  # instructions by table and action
        self._pods = PodTemplates()
        self._fixed: dict[tuple[bool, bool], EncodedFlows] = {}  # by the arguments of `fixed_flows`
        self._tiers: dict[tuple[bool, bool], EncodedFlows] = {}
        self._held = lru_cache(maxsize=_CACHED_OUTPUTS)(self._held_answers)
        self._memories = lru_cache(maxsize=_CACHED_OUTPUTS)(_memory_keys)
        self._staged: EncodedFlows | None = None
        self.node_differences = NodeDifferences()
        self._failed_nodes: dict[str, Exception] = {}
        self.remote_node = lru_cache(maxsize=_CACHED_NODES)(self._remote_node)
        self.flood_chunk = lru_cache(maxsize=_CACHED_CHUNKS)(self._flood_chunk)

    def flow(self, flow: Flow) -> tuple[FlowKey, Body]:
        """Any flow."""
        return encode_key(flow.table, flow.priority, flow.match), encode_body(flow.cookie, flow.actions, flow.goto)

    def outputs(self, ports: Sequence[int]) -> Body:
        """The body of a pipeline flow that sends to these ofports, in order."""
        return new_tuple(Body, (_PIPELINE_COOKIE, encode_outputs(ports)))

    def fixed_flows(self, userspace: bool, routes: bool = False) -> EncodedFlows:
        """The flows that all bridges have of a datapath type that route, or do not. Bridges share them."""
        found = self._fixed.get((userspace, routes))
        if found is None:
            flows = FlowSet()
            render_fixed(flows, userspace, routes)
            found = self._fixed[userspace, routes] = self.flows(flows)
        return found

    def tier_flows(self, userspace: bool, closed: bool) -> EncodedFlows:
        """The flows that lead to the tables of tiers, see `render_tiers`. Bridges share them."""
        found = self._tiers.get((userspace, closed))
        if found is None:
            flows = FlowSet()
            render_tiers(flows, userspace, closed)
            found = self._tiers[userspace, closed] = self.flows(flows)
        return found

    def held_answers(self, ofport: int) -> EncodedFlows:
        """The flows of a pod that rules with names select, at a port: those that hold DNS answers to it, and its second
        looks. Bridges share them."""
        return self._held(ofport)

    def memory(self, ofport: int, pod: Key, address: Net, names: Mapping[str, bool]) -> tuple[FlowKey, Body]:
        """The flow that `render_memory` gives."""
        instructions = encode_instructions((memory_note(pod, names),), None)
        return self._memories(ofport, address.version).key(address.value), Body(
            cookie(CookieKind.NAMES, ofport), instructions
        )

    def staged_flows(self) -> EncodedFlows:
        """The flows that look up what promotion would change, see `render_staged`. Bridges share them."""
        if self._staged is None:
            flows = FlowSet()
            render_staged(flows)
            self._staged = self.flows(flows)
        return self._staged

    def flows(self, flows: FlowSet) -> EncodedFlows:
        """Any flows."""
        encoded = [self.flow(flow) for flow in flows.flows()]
        return tuple([key for key, _ in encoded]), tuple([body for _, body in encoded])

    def _held_answers(self, ofport: int) -> EncodedFlows:
        flows = FlowSet()
        render_held_answers(flows, ofport)
        render_second_look(flows, ofport)
        return self.flows(flows)

    def fail_node(self, node: str, error: Exception) -> None:
        """The flows of a node could not be made. `take_failed_nodes` tells."""
        self._failed_nodes[node] = error

    def take_failed_nodes(self) -> Iterable[tuple[str, Exception]]:
        """The nodes whose flows could not be made since the last call, and why."""
        if not self._failed_nodes:
            return ()
        found, self._failed_nodes = self._failed_nodes, {}
        return found.items()

    def _flood_chunk(self, number: int, ports: tuple[int, ...]) -> EncodedFlows:
        flows = FlowSet()
        render_flood_chunk(flows, number, ports)
        return self.flows(flows)

    def _remote_node(self, node: RoutedNode, tunnel: int) -> EncodedFlows:
        """The flows of another node on a bridge whose tunnel port is `tunnel`."""
        flows = FlowSet()
        render_remote_node(flows, node, tunnel)
        return self.flows(flows)

    def pod(self, pod: PodBinding, isolated: frozenset[Applies], routes: bool = False) -> EncodedFlows:
        """The flows of a pod's port, in any order. `routes`: the switch routes."""
        keys, bodies = self._pods.flows(pod, isolated, routes)
        if not routes:
            return keys, bodies
        gateway = FlowSet()
        render_pod_gateway(gateway, pod)
        more_keys, more_bodies = self.flows(gateway)
        return keys + more_keys, bodies + more_bodies

    def service_port(self, served: ServedPort, choice: Choice, numbers: PortNumbers, userspace: bool) -> EncodedPort:
        """The flows and groups of a Service's port with this choice of endpoints, on one kind of datapath.

        Raises MessageTooLong where a group is too long.
        """
        flows = FlowSet()
        groups = render_service_port(flows, served, choice, numbers, userspace)
        return EncodedPort(*self.flows(flows), tuple([encode_group(group) for group in groups]))

    def key_templates(self, stage: AnyStage, band: int) -> KeyTemplates:
        """What makes the keys of a stage's rule flows in a band, or in the stage's order."""
        if stage.order is not None:
            return LevelTemplates(self._band_templates(stage, 0), stage.table.number, stage.priority(0))
        return self._band_templates(stage, band)

    def _band_templates(self, stage: AnyStage, band: int) -> BandTemplates:
        place = stage.table.number, band
        found = self._bands.get(place)
        if found is None:
            found = self._bands[place] = BandTemplates(stage, band)
        return found

    def dimensions(self, number: int, count: int) -> tuple[Dimension, ...]:
        """The dimensions, so many, of the rule with this conjunction id. Bridges share them until
        `forget_dimensions`."""
        found = self._dimensions.get(number)
        if found is None or len(found) != count:
            made = []
            for place in range(1, count + 1):
                alone = new_tuple(Body, (CLAUSE_COOKIE, encode_conjunction(number, place, count)))
                made.append(new_tuple(Dimension, (number, place, count, alone)))
            found = self._dimensions[number] = tuple(made)
        return found

    def forget_dimensions(self) -> None:
        """All bridges that a change concerns had their rules: what they share is theirs alone now."""
        self._dimensions.clear()

    def clause(self, conjunctions: tuple[Conjunction, ...]) -> Body:
        """The body of a clause flow that names these conjunctions, in order of their ids."""
        return new_tuple(Body, (CLAUSE_COOKIE, encode_conjunctions(conjunctions)))

    def hit_instructions(self, stage: AnyStage, action: Action | None = None) -> bytes:
        """The instructions of a rule's `conj_id` flow; `action` is that of a ClusterNetworkPolicy's rule."""
        place = stage.table.number, action
        instructions = self._hits.get(place)
        if instructions is None:
            actions, onward = stage.hit(action)
            instructions = self._hits[place] = encode_instructions(actions, onward.number)
        return instructions


def _memory_keys(ofport: int, version: int) -> KeyTemplate:
    """The keys of what the pod at an ofport learned, which differ in the address."""
    width = ADDRESS_BITS[version]

    def make(value: int) -> FlowKey:
        flows = FlowSet()
        render_memory(flows, ofport, Key("", ""), Net(version, value, width), {})
        (flow,) = flows.flows()
        return encode_key(flow.table, flow.priority, flow.match)

    return key_template(make, (1 << width) - 1, width // 8)
