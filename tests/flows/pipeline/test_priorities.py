"""Every priority in flows is declared by name, for its table."""

from __future__ import annotations

from itertools import product

from flows.bridge.routing import NetworkMode, RoutedNode, Routing
from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Direction, Key, Protocol, Service, ServicePort
from flows.cluster.net import parse_address, parse_network
from flows.openflow.actions import Learn
from flows.openflow.flow import Flow
from flows.pipeline import priorities
from flows.pipeline.pod_limits import REPORTS, Limit
from flows.pipeline.priorities import CACHE_MARK, DECLARED_PRIORITIES, MISS
from flows.pipeline.tables import TABLE_NAMES, TABLES, TABLES_BY_NAME
from flows.policy.rule import NodePolicy, Staged, Watch
from flows.render.answers import DnsServer, listening_flow, render_dns_servers, render_held_answers
from flows.render.cache_marks import mark_flows
from flows.render.flow_set import FlowSet
from flows.render.name_memory import render_memory
from flows.render.reference import render
from flows.render.rules import TIER_STAGES
from flows.render.second_looks import render_second_look, render_second_looks
from flows.render.service_ports import PortNumbers, render_service_port
from flows.render.tiers import render_tiers
from flows.services.choice import Choice, Target
from flows.services.frontends import Frontend, FrontendKind, frontends
from flows.services.served import PortUse, ServedPort

LIMITS = (Limit.FRAGMENTS, Limit.CONNECTIONS, Limit.ASSOCIATIONS, *REPORTS)
DECLARED = {(name, one.number) for one in DECLARED_PRIORITIES for name in one.tables}


def rendered() -> set[tuple[str, int]]:
    """Table and priority of every flow that bridges of all kinds have without rules."""
    found = {(TABLE_NAMES[flow.table], flow.priority) for flow in mark_flows(0)}
    addresses = tuple(map(parse_address, ("10.0.0.5", "fd00::5")))
    for userspace, mac, uplink in product((False, True), (None, 0x020000000005), (None, 1)):
        pod = PodBinding(5, "p5", Key("x", "p5"), mac, addresses, LIMITS)
        node, probed = (parse_address("10.1.0.1"), parse_address("fd01::1")), (parse_address("192.0.2.9"),)
        binding = Binding(node, mac and mac + 1, uplink, (pod,), userspace, probed)
        staged = {pod.pod: frozenset(Staged(direction, True) for direction in Direction)}
        watched = {pod.pod: frozenset(Watch)}
        policy = NodePolicy({pod.pod: frozenset(Direction)}, (), watched=watched, staged=staged)
        found |= of_flows(render(binding, policy))
    return found | routed() | of_tiers() | of_names()


def of_tiers() -> set[tuple[str, int]]:
    """The same of the tables of tiers, with one rule in each."""
    flows = FlowSet()
    render_tiers(flows, userspace=True, closed=True)
    found = {(TABLE_NAMES[flow.table], flow.priority) for flow in flows.flows()}
    return found | {(stage.table.name, stage._replace(order=0).priority(0)) for stage in TIER_STAGES}


def of_names() -> set[tuple[str, int]]:
    """The same of what rules with domain names need."""
    flows = FlowSet()
    for userspace in (True, False):
        render_dns_servers(flows, [DnsServer(parse_address("10.0.0.53"))], userspace)
    render_held_answers(flows, 5)
    render_second_looks(flows)
    render_second_look(flows, 5)
    render_memory(flows, 5, Key("x", "p5"), parse_address("192.0.2.7"), {"www.example.com": True})
    return of_flows([*flows.flows(), listening_flow()])


def of_flows(flows: list[Flow]) -> set[tuple[str, int]]:
    """Table and priority of each flow, and of those that it has the switch learn."""
    learned = [action for flow in flows for action in flow.actions if isinstance(action, Learn)]
    return {
        (TABLE_NAMES[table], priority)
        for table, priority in [
            *((flow.table, flow.priority) for flow in flows),
            *((one.table, one.priority) for one in learned),
        ]
    }


def routed() -> set[tuple[str, int]]:
    """The same of a bridge that routes."""
    addresses = tuple(map(parse_address, ("10.0.0.5", "fd00::5")))
    pod = PodBinding(5, "p5", Key("x", "p5"), 0x020000000005, addresses, LIMITS)
    nodes = tuple(RoutedNode(name, end, (end,), (end,)) for name, end in zip("ab", addresses, strict=True))
    routing = Routing(NetworkMode.OVERLAY, "a", nodes)
    binding = Binding(addresses, 6, None, (pod,), True, (), routing, 2)
    policy = NodePolicy({}, (), watched={pod.pod: frozenset(Watch)})
    return of_flows([*render(binding, policy), *of_a_service()])


def of_a_service() -> list[Flow]:
    """The flows of a load balancer's port with all that a Service may ask for."""
    vip = (parse_address("10.96.0.5"),)
    port = ServicePort("", Protocol.TCP, 80, 30080)
    balancer = Service(Key("x", "a"), vip, (port,), (), vip, (parse_network("10.0.0.0/8"),), external_local=True)
    found = tuple((claim.kind, one) for one, claim in frontends(balancer, port))
    flows = FlowSet()
    render_service_port(
        flows, ServedPort(balancer, port, 4, found, (), False), Choice(anywhere=True), PortNumbers(1, 2)
    )
    sticky = balancer._replace(affinity_seconds=60)
    choice = Choice((Target(vip[0], 80),), (), True)
    render_service_port(more := FlowSet(), ServedPort(sticky, port, 4, found, (), False), choice, PortNumbers(3, 4))
    checked = ServedPort(balancer, port, 4, found, (), True, PortUse.HEALTH_CHECK)
    render_service_port(flows, checked, Choice(local=choice.cluster, anywhere=True), PortNumbers(5, 6))
    at_host = ((FrontendKind.HOST_PORT, Frontend(vip[0], Protocol.TCP, 80)),)
    render_service_port(
        more, ServedPort(Service(Key("x", "b")), port, 4, at_host, (), False), choice, PortNumbers(5, 6)
    )
    at_node = ((FrontendKind.NODE_PORT, Frontend(vip[0], Protocol.TCP, 30080)),)
    there = ServedPort(balancer, port, 4, at_node, (), False, PortUse.AT_NODE, "n1")
    render_service_port(more, there, choice, PortNumbers(7, 8))
    datagrams = ServicePort("", Protocol.UDP, 80, 30080)
    render_service_port(more, ServedPort(balancer, datagrams, 4, at_node, (), False), choice, PortNumbers(9, 10))
    return flows.flows() + more.flows()


def test_declared_priorities_are_those_that_flows_have() -> None:
    found = {(name, priority) for name, priority in rendered() if priority != MISS}
    rules = {(name, 20000) for name in ("egress", "ingress", "staged_egress", "staged_ingress")}
    assert found | rules == DECLARED


def test_a_table_lists_its_priorities_highest_first() -> None:
    for table in TABLES:
        numbers = [one.number for one in DECLARED_PRIORITIES if table.name in one.tables]
        assert numbers == sorted(numbers, reverse=True)
        assert all(MISS < number <= CACHE_MARK for number in numbers)
    assert {name for name, _ in DECLARED} <= TABLES_BY_NAME.keys()


def test_live_probes_are_held_back_before_anything_else() -> None:
    """In the tables that record, meter, count or send, no flow may come before theirs: see docs/adr/0023."""
    probed = {
        "limit": priorities.LIMIT_PROBED, "commit": priorities.COMMIT_PROBED, "output": priorities.OUTPUT_PROBED,
        "egress_default": priorities.DEFAULT_PROBED, "ingress_default": priorities.DEFAULT_PROBED,
        "invalid": priorities.INVALID_PROBED, "service": priorities.SERVICE_PROBED,
    }  # fmt: skip
    for one in priorities.DECLARED_PRIORITIES:
        for table in one.tables:
            assert one.number in (priorities.CACHE_MARK, probed.get(table)) or one.number < probed.get(table, 1 << 16)
