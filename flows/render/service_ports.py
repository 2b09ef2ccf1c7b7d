"""The flows and groups of one port of a Service at one bridge. What all Services share is in `services`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flows.cluster.model import Protocol
from flows.openflow.actions import Action, Ct, Nat, NatKind, ToGroup
from flows.openflow.group import Bucket, Group
from flows.openflow.match import Term, in_range
from flows.pipeline import priorities, tables
from flows.pipeline.group_numbers import check_group, group_id
from flows.pipeline.registers import BEHIND_NODE, SERVICE_ZONE, SOURCE_OFPORT
from flows.render.flow_set import FlowSet
from flows.render.services import TRANSLATED_ONCE, opens_to, opens_to_node
from flows.render.terms import address_terms
from flows.services.choice import Choice, Target
from flows.services.frontends import FrontendKind
from flows.services.served import ServedPort


class PortNumbers(NamedTuple):
    """The numbers of the two groups that a port may have, one for each traffic policy."""

    cluster: int
    local: int


def render_service_port(flows: FlowSet, served: ServedPort, choice: Choice, numbers: PortNumbers) -> list[Group]:
    """Flows for each frontend of a port. Returns its groups: those that the flows send to, none without endpoints.

    Without any endpoint there are no flows: `services` refuses what is for an address that only Services have. All else
    goes on as it came, to wherever its address leads, and policy judges it so: refusing it here would take it to the
    node past policy, and anybody may name any address in spec.externalIPs.
    Several ports may share an external address, so that is looked up by flows of its own: see `look_up_address`.
    """
    protocol = served.port.protocol
    ids = PortNumbers(*(group_id(number, protocol is Protocol.UDP) for number in numbers))
    groups = {
        number: _group(number, targets)
        for number, targets in ((ids.cluster, choice.cluster), (ids.local, choice.local))
        if targets
    }
    cluster = _Use(ids.cluster if choice.cluster else None, choice.anywhere)
    local = _Use(ids.local if choice.local else None, choice.anywhere)
    used: set[int | None] = set()
    for kind, frontend in served.frontends:
        opening = opens_to(frontend.address, protocol, frontend.number)
        if kind is FrontendKind.NODE_PORT:
            opening = opens_to_node(served.version, protocol, frontend.number)
        if kind is FrontendKind.CLUSTER_IP:
            uses: list[_Way] = [(priorities.SERVICE_PORT, (), local if served.service.internal_local else cluster)]
        else:
            uses = _external(served, kind, cluster, local)
        for priority, terms, use in uses:
            _send(flows, opening, priority, terms, use)
            used.add(use.number)
        of_some = kind is FrontendKind.LOAD_BALANCER and served.service.source_ranges is not None
        if of_some and choice.anywhere:
            flows.add(tables.SERVICE, priorities.SERVICE_OTHER_SOURCE, opening)
    return [check_group(group, tables.SERVICE) for number, group in groups.items() if number in used]


class _Use(NamedTuple):
    """What a new connection gets: a group, or without one nothing where endpoints are elsewhere."""

    number: int | None
    elsewhere: bool


_Way = tuple[int, tuple[Term, ...], _Use]  # a priority, further terms, and what such a connection gets


def _external(served: ServedPort, kind: FrontendKind, cluster: _Use, local: _Use) -> list[_Way]:
    """Pods and the node use the policy Cluster; the external policy is for what comes from outside."""
    sources: Iterable[tuple[Term, ...]] = [()]
    if kind is FrontendKind.LOAD_BALANCER and served.service.source_ranges is not None:
        ranges = [net for net in served.service.source_ranges if net.version == served.version]
        sources = [address_terms("initiator", net) for net in ranges]
    uses: list[_Way] = [(priorities.SERVICE_PORT, source, cluster) for source in sources]
    if served.service.external_local:
        outside = in_range(SOURCE_OFPORT, BEHIND_NODE)
        uses += [(priorities.SERVICE_FROM_OUTSIDE, (*source, outside), local) for source in sources]
    return uses


def _send(flows: FlowSet, opening: list[Term], priority: int, terms: tuple[Term, ...], use: _Use) -> None:
    actions: list[Action] = []
    if use.number is not None:
        actions = [*TRANSLATED_ONCE, ToGroup(use.number)]
    elif not use.elsewhere:
        return
    flows.add(tables.SERVICE, priority, {*opening, *terms}, actions)


def _group(number: int, targets: tuple[Target, ...]) -> Group:
    """One bucket for each target: it records the connection in the Services' zone, and sends it on."""
    buckets = []
    for address, port in targets:
        nat = Nat(NatKind.DESTINATION, address.version, address.value, port)
        buckets.append(Bucket((Ct(SERVICE_ZONE, tables.CONNTRACK.number, commit=True, nat=nat),)))
    return Group(number, tuple(buckets))
