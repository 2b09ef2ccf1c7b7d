"""The flows and groups of one port of a Service at one bridge. What all Services share is in `services`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flows.cluster.model import Protocol, Service
from flows.openflow.actions import Action, Load, ToGroup
from flows.openflow.group import Bucket, Group
from flows.openflow.match import Term, in_range
from flows.pipeline import priorities, tables
from flows.pipeline.group_numbers import check_group, group_id
from flows.pipeline.registers import BEHIND_NODE, LOOKED_UP, REFUSED, SOURCE_OFPORT, TO_OTHER_NODE
from flows.pipeline.table import Table
from flows.render.flow_set import FlowSet
from flows.render.service_endpoints import render_endpoints, to_endpoints, translate
from flows.render.service_fragments import TRANSLATED_ONCE
from flows.render.services import OF_NODE, answer_check, begins, look_up_again, opens_to, opens_to_node
from flows.render.terms import address_terms
from flows.services.choice import Choice, Target
from flows.services.endpoints import has_endpoint_flows
from flows.services.frontends import FrontendKind
from flows.services.served import EXTERNAL, PortUse, ServedPort

_TO_OTHER_NODE = in_range(TO_OTHER_NODE, 1)


class PortNumbers(NamedTuple):
    """The numbers of the two groups that a port may have, one for each traffic policy."""

    cluster: int
    local: int


def render_service_port(
    flows: FlowSet, served: ServedPort, choice: Choice, numbers: PortNumbers, userspace: bool = False
) -> list[Group]:
    """Flows for each frontend of a port. Returns its groups: those that the flows send to, none without endpoints, nor
    where the endpoints have flows (`service_endpoints`).

    Without any endpoint a connection is refused. To an address that only Services have `services` sees to that. Another
    may be somebody's, and anybody may name it in spec.externalIPs: the packet goes on as it came, policy judges it so,
    and only what would leave the cluster through the node is refused there.
    Several ports may share an external address, so that is looked up by flows of its own: see `look_up_address`.
    """
    if served.use is PortUse.HEALTH_CHECK:
        _answer_checks(flows, served, choice)
        return []
    protocol = served.port.protocol
    ids = PortNumbers(*(group_id(number, protocol is Protocol.UDP) for number in numbers))
    cluster, local = (
        _Use(number, targets, choice.anywhere, served.service,
             has_endpoint_flows(served.service, protocol, len(targets), userspace))
        for number, targets in ((ids.cluster, choice.cluster), (ids.local, choice.local))
    )  # fmt: skip
    used: dict[int, _Use] = {}
    for kind, frontend in served.frontends:
        opening = opens_to(frontend.address, protocol, frontend.number)
        if served.use is PortUse.AT_NODE:
            opening += [_TO_OTHER_NODE, *begins(protocol)]
        elif kind is FrontendKind.NODE_PORT:
            opening = opens_to_node(served.version, protocol, frontend.number)
            if served.service.external_local and choice.anywhere:
                flows.add(tables.SERVICE, priorities.SERVICE_AT_OTHERS, [*opening, _TO_OTHER_NODE])
        elif kind is FrontendKind.HOST_PORT:
            opening += begins(protocol)
        ways = _ways(served, kind, cluster, local)
        for priority, terms, use in ways:
            _send(flows, opening, kind, priority, terms, use)
            used[use.number] = use
        if protocol is Protocol.UDP and kind is not FrontendKind.CLUSTER_IP and any(use.targets for _, _, use in ways):
            look_up_again(flows, opening)
        of_some = kind is FrontendKind.LOAD_BALANCER and served.service.source_ranges is not None
        if of_some and choice.anywhere:
            flows.add(tables.SERVICE, priorities.SERVICE_OTHER_SOURCE, opening)
    groups = []
    for use in used.values():
        if use.has_flows:
            render_endpoints(flows, use.number, use.targets, use.service.affinity_seconds)
        elif use.targets:
            groups.append(_group(use.number, use.targets))
    return groups


def _answer_checks(flows: FlowSet, served: ServedPort, choice: Choice) -> None:
    """What the node sent to a health check node port, for itself or for a client outside, goes back to the node, where
    a program answers; what pods send is taken there after policy."""
    for _, frontend in served.frontends:
        for target in choice.local:
            answer_check(flows, served.version, frontend.number, target)
        for source in OF_NODE:
            check = [*opens_to(frontend.address, frontend.protocol, frontend.number), in_range(SOURCE_OFPORT, source)]
            for target in choice.local:
                flows.add(tables.SERVICE, priorities.SERVICE_PORT, check, [*TRANSLATED_ONCE, translate(target)])


class _Use(NamedTuple):
    """What a new connection gets: one of the targets, or without any a refusal, or nothing where `elsewhere` there are
    some. `number` is the id of the group, and `has_flows` tells whether each target has flows in place of a bucket."""

    number: int
    targets: tuple[Target, ...]
    elsewhere: bool
    service: Service
    has_flows: bool


_Way = tuple[int, tuple[Term, ...], _Use]  # a priority, further terms, and what such a connection gets


def _ways(served: ServedPort, kind: FrontendKind, cluster: _Use, local: _Use) -> list[_Way]:
    if kind is FrontendKind.CLUSTER_IP:
        return [(priorities.SERVICE_PORT, (), local if served.service.internal_local else cluster)]
    if served.use is PortUse.AT_NODE:
        return [(priorities.SERVICE_AT_NODE, (), cluster)]
    if kind is FrontendKind.HOST_PORT:
        return [(priorities.SERVICE_HOST_PORT, (), cluster)]
    return _external(served, kind, cluster, local)


def _external(served: ServedPort, kind: FrontendKind, cluster: _Use, local: _Use) -> list[_Way]:
    """Pods and the node use the policy Cluster; the external policy is for what comes from outside. To a node port of
    another node a pod comes from outside: see `flows.services.other_nodes`."""
    sources: Iterable[tuple[Term, ...]] = [()]
    if kind is FrontendKind.LOAD_BALANCER and served.service.source_ranges is not None:
        ranges = [net for net in served.service.source_ranges if net.version == served.version]
        sources = [address_terms("initiator", net) for net in ranges]
    uses: list[_Way] = [(priorities.SERVICE_PORT, source, cluster) for source in sources]
    if served.service.external_local:
        outside = in_range(SOURCE_OFPORT, BEHIND_NODE)
        uses += [(priorities.SERVICE_FROM_OUTSIDE, (*source, outside), local) for source in sources]
    return uses


def _send(
    flows: FlowSet, opening: list[Term], kind: FrontendKind, priority: int, terms: tuple[Term, ...], use: _Use
) -> None:
    actions: list[Action] = []
    goto: Table | None = None
    if use.has_flows:
        actions, goto = to_endpoints(use.number, use.targets, bool(use.service.affinity_seconds))
    elif use.targets:
        actions = [ToGroup(use.number)]
    elif not use.elsewhere:
        if kind in EXTERNAL:
            to_refusal = [Load(LOOKED_UP, 1), Load(REFUSED, 1)]
            flows.add(tables.SERVICE, priority, {*opening, *terms}, to_refusal, tables.CONNTRACK)
        return
    flows.add(tables.SERVICE, priority, {*opening, *terms}, [*TRANSLATED_ONCE, *actions] if actions else [], goto)


def _group(number: int, targets: tuple[Target, ...]) -> Group:
    """One bucket for each target: it records the connection in the Services' zone, and sends it on."""
    group = Group(number, tuple([Bucket((translate(target),)) for target in targets]))
    return check_group(group, tables.SERVICE)
