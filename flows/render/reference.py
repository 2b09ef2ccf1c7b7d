"""All flows and groups of a bridge from nothing: the reference that `plan` is held to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from flows.bridge.state import Binding
from flows.cluster.net import Net
from flows.openflow.flow import Flow
from flows.openflow.group import Group
from flows.openflow.match import Match
from flows.policy.rule import NO_STAGES, NO_WATCH, NOT_STAGED, NodePolicy, Watch, applying, of_staged, of_tiers
from flows.render.answers import DnsServer, render_dns_servers, render_held_answers
from flows.render.audit import is_audited, render_audit, watched
from flows.render.fixed import render_bridge, render_fixed
from flows.render.flood import render_flood
from flows.render.flow_set import FlowSet
from flows.render.gateway import render_pod_gateway
from flows.render.name_memory import render_memory
from flows.render.pods import render_pod
from flows.render.rules import has_room_for_staged, render_rules
from flows.render.second_looks import render_second_look, render_second_looks
from flows.render.service_ports import PortNumbers, render_service_port
from flows.render.services import look_up_address
from flows.render.staged import render_staged
from flows.render.tiers import render_tiers
from flows.render.tunnel import render_remote_node
from flows.services.served import ServedPort


class Services(NamedTuple):
    """The ports of all Services, with the numbers of their groups by their identity, and the zone of the bridge."""

    ports: Sequence[ServedPort]
    numbers: Mapping[bytes, PortNumbers]
    zone: str


NO_SERVICES = Services((), {}, "")


def render(
    binding: Binding,
    policy: NodePolicy,
    services: Services = NO_SERVICES,
    dns_servers: Sequence[DnsServer] | None = None,
) -> list[Flow]:
    """All desired flows of a bridge, for its binding and the policy of its pods; Services only where it routes. Answers
    of `dns_servers` are held; None where they cannot be.

    Ports that share a MAC address, with each other or with the bridge, want the same flow: the bridge's is kept, else
    that of the port with the smallest ofport.
    """
    whole = FlowSet()
    routing = binding.routing
    render_fixed(whole, binding.userspace, routing.routes)
    render_bridge(whole, binding)
    if not routing.routes:
        render_flood(whole, binding)
    pieces = [whole]
    tiered = staged = False
    audited = any(is_audited(watched(pod, policy.watched.get(pod.pod, NO_WATCH))) for pod in binding.pods)
    for pod_binding in sorted(binding.pods, key=attrgetter("ofport")):
        pieces.append(piece := FlowSet())
        key = pod_binding.pod
        watch = policy.watched.get(key, NO_WATCH) | ({Watch.SENDER} if audited else NO_WATCH)
        applies = applying(
            policy.isolated.get(key, frozenset()),
            policy.tiered.get(key, NO_STAGES),
            watch,
            policy.staged.get(key, NOT_STAGED),
        )
        tiered |= of_tiers(applies)
        staged |= of_staged(applies)
        render_pod(piece, pod_binding, applies, routing.routes)
        if routing.routes:
            render_pod_gateway(piece, pod_binding)
    for node in routing.remotes.values() if binding.tunnel is not None else ():
        pieces.append(piece := FlowSet())
        render_remote_node(piece, node, binding.tunnel or 0)
    if tiered:
        pieces.append(tiers := FlowSet())
        render_tiers(tiers, binding.userspace)
    if audited:
        pieces.append(audit := FlowSet())
        render_audit(audit, routing)
    pieces.append(names := FlowSet())
    _names(names, binding, policy, dns_servers)
    if staged and has_room_for_staged(policy, {pod.pod for pod in binding.pods}):
        pieces.append(looked_up := FlowSet())
        render_staged(looked_up)
    pieces.append(rules := FlowSet())
    render_rules(rules, binding, policy)
    if routing.routes:
        pieces.append(_services(services, routing.node, binding.userspace)[0])
    found: dict[tuple[int, int, Match], Flow] = {}
    for piece in pieces:
        for flow in piece.flows():
            found.setdefault((flow.table, flow.priority, flow.match), flow)
    return list(found.values())


def _names(flows: FlowSet, binding: Binding, policy: NodePolicy, dns_servers: Sequence[DnsServer] | None) -> None:
    """What holds DNS answers to the pods that rules with names select, and what all pods learned."""
    named = {key for rule in policy.rules if rule.level is not None and rule.level.names for key in rule.subjects}
    held = [one.ofport for one in binding.pods if one.pod in named]
    if held and dns_servers is not None:
        render_dns_servers(flows, dns_servers, binding.userspace)
        render_second_looks(flows)
        for ofport in held:
            render_held_answers(flows, ofport)
            render_second_look(flows, ofport)
    for one in binding.pods:
        names: dict[Net, dict[str, bool]] = defaultdict(dict)
        for entry in policy.learned.get(one.pod, ()):
            names[entry.address][entry.name] = entry.live
        for address, of_address in names.items():
            render_memory(flows, one.ofport, one.pod, address, of_address)


def render_groups(binding: Binding, services: Services) -> list[Group]:
    """All desired groups of a bridge."""
    return _services(services, binding.routing.node, binding.userspace)[1] if binding.routing.routes else []


def _services(services: Services, node: str, userspace: bool) -> tuple[FlowSet, list[Group]]:
    flows, groups = FlowSet(), []
    for one in services.ports:
        choice = one.choose(node, services.zone)
        groups += render_service_port(flows, one, choice, services.numbers[one.identity], userspace)
        for net in one.external_addresses:
            look_up_address(flows, net)
    return flows, groups
