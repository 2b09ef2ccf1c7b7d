"""After every step the incremental world has the flows that the full computation gives for the same objects."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.bridge.binding import read_bridge
from flows.bridge.network import NetworkOptions
from flows.bridge.routing import FLAT, TUNNEL_INTERFACE, NetworkMode
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.domain_names import LearnedAddress
from flows.cluster.model import Cluster, Key, Node, Protocol
from flows.cluster.net import Net, parse_address, parse_network
from flows.pipeline.group_numbers import group_id
from flows.pipeline.pod_limits import Limit
from flows.plan import cluster_services
from flows.plan.bridge_plan import BridgePlan
from flows.plan.cluster_services import group_numbers
from flows.plan.effective_cluster import effective_cluster
from flows.plan.encoder import FlowEncoder
from flows.plan.world import World
from flows.policy import flow_limits, rule_numbers
from flows.policy.reference import compile_policy
from flows.policy.rule_numbers import assign_numbers
from flows.render import rules
from flows.render.answers import DnsServer
from flows.render.reference import Services, render, render_groups
from flows.services.reference import serve_all
from flows.wire.groups import encode_group
from flows.wire.values import Body, FlowKey, GroupBody
from tests.helpers.cluster.generated_clusters import NODES as NODES_OF_A_LINK
from tests.helpers.cluster.generated_clusters import ROUTED_NODES, Nodes, clusters
from tests.helpers.cluster.generated_tiers import tiered_clusters
from tests.helpers.cluster.overlapping_services import clusters_with_services
from tests.helpers.controller.reconcile_driver import port

NODES = ("one", "two")
DNS_SERVERS = (DnsServer(parse_address("10.0.1.3")), DnsServer(parse_address("fd00:1::53"), 5353))


def worlds(nodes: Nodes = NODES_OF_A_LINK) -> st.SearchStrategy[Cluster]:
    """Worlds with and without ClusterNetworkPolicies."""
    return st.one_of(clusters(nodes), tiered_clusters(nodes), tiered_clusters(nodes))


Flows = dict[FlowKey, Body]
Groups = dict[int, GroupBody]


def full(
    cluster: Cluster, bridges: dict[tuple[str, str], BridgeState]
) -> tuple[dict[tuple[str, str], Flows], dict[tuple[str, str], Groups], dict[bool, set[int]]]:
    """Every bridge's flows and groups, from nothing but the snapshot, and the ids that stand for endpoints with flows
    in place of a group, on the userspace datapath and on the kernel's."""
    readings = {name: read_bridge(bridge, cluster) for name, bridge in bridges.items()}
    pods = dict(cluster.pods)
    for name in sorted(readings):
        for pod_binding in readings[name].binding.pods:
            pod = cluster.pods[pod_binding.pod]
            if not pod.addresses and pod_binding.addresses and pod.node == bridges[name].node:
                pods[pod_binding.pod] = pods[pod_binding.pod]._replace(addresses=pod_binding.addresses)
    placed = {pod_binding.pod for reading in readings.values() for pod_binding in reading.binding.pods}
    given = {net for key in placed for net in pods[key].addresses}
    for key, pod in pods.items():
        if pod.terminating and key not in placed:
            pods[key] = pod._replace(addresses=tuple(net for net in pod.addresses if net not in given))
    whole = replace(cluster, pods=MappingProxyType(pods))
    routing = next((bridge.routing for bridge in bridges.values() if bridge.routing.routes), FLAT)
    overlay, addresses = routing.mode is NetworkMode.OVERLAY, {one.name: one.addresses for one in routing.nodes}
    served = [one for ports in serve_all(whole, addresses, overlay).values() for one in ports]
    numbers = assign_numbers((one.identity for one in served), cluster_services.NUMBER_BITS)
    groups_of = {identity: group_numbers(number) for identity, number in numbers.items()}
    found, groups = {}, {}
    for name, reading in readings.items():
        node = cluster.nodes.get(bridges[name].node)
        services = Services(served, groups_of, node.zone if node is not None else "")
        policy = compile_policy(whole, [a.pod for a in reading.binding.pods])
        servers = DNS_SERVERS if Limit.DNS in bridges[name].metered else None
        flows = render(reading.binding, policy, services, servers)
        found[name] = dict(map(FlowEncoder().flow, flows))
        groups[name] = dict(map(encode_group, render_groups(reading.binding, services)))
    with_flows = {
        userspace: {
            group_id(number, one.port.protocol is Protocol.UDP)
            for one in served if one.has_endpoint_flows(userspace) for number in groups_of[one.identity]
        }
        for userspace in (False, True)
    }  # fmt: skip
    return found, groups, with_flows


class Walk:
    """A world that is walked from one cluster to another, one object or port at a time."""

    def __init__(self, seed: int, mode: NetworkMode = NetworkMode.FLAT) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.mode = mode
        ranges = (parse_network("10.96.0.0/12"),)
        self.world = World(NetworkOptions(mode, service_cidrs=ranges, dns_servers=DNS_SERVERS))
        self.cluster = Cluster()
        self.groups: dict[tuple[str, str], Groups] = {}
        self.seen: dict[tuple[str, str], dict[FlowKey, Body]] = {}
        self.plans: dict[tuple[str, str], BridgePlan] = {}
        self.world.set_cluster(self.cluster)

    def towards(self, goal: Cluster) -> None:
        """Change one object after the other, in random order, until the cluster is `goal`."""
        steps = []
        for field in ("namespaces", "pods", "nodes", "policies", "cluster_policies", "services", "endpoint_slices"):
            before, after = getattr(self.cluster, field), getattr(goal, field)
            steps += [(field, key) for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        steps.sort(key=str)
        self.random.shuffle(steps)
        while steps:
            for field, key in [steps.pop() for _ in range(min(len(steps), self.random.choice((1, 1, 1, 3))))]:
                objects = dict(getattr(self.cluster, field))
                wanted = getattr(goal, field).get(key)
                if wanted is None:
                    objects.pop(key, None)
                else:
                    objects[key] = wanted
                self.cluster = replace(self.cluster, **{field: MappingProxyType(objects)})
            self.world.set_cluster(self.cluster)
            self.check()
        self.learn(goal.learned)

    def learn(self, wanted: Mapping[Key, tuple[LearnedAddress, ...]]) -> None:
        """Let pods learn this, one after the other, and some forget what they learned."""
        self.now += 1.0
        self.world.learned.expire(self.now)
        self.check()
        for key in list(self.world.learned.pods()):
            if self.random.random() < 0.5:
                self.world.learned.forget(key)
        for key, entries in wanted.items():
            for one in entries:
                until = self.now + (0.5 if one.live else -0.5)
                self.world.learned.learn(key, one.name, [(one.address, until)])
            if self.random.random() < 0.5:
                self.check()
        self.world.learned.expire(self.now)
        self.check()

    def ports(self) -> None:
        """Give each node's bridge ports for a random part of the pods, some with addresses and MACs of their own."""
        for number, node in enumerate(NODES, 1):
            interfaces = [port("uplink", 100, **{"headgate-role": "uplink"})]
            local = InterfaceState(f"uuid-{node}", node, 0xFFFE, f"02:00:00:00:01:0{number}")
            interfaces += self.random.choice(([], [local], [local]))
            if self.mode is NetworkMode.OVERLAY:
                interfaces += self.random.choice(([], [port(TUNNEL_INTERFACE, 99)], [port(TUNNEL_INTERFACE, 98)]))
            for ofport, (key, pod) in enumerate(sorted(self.cluster.pods.items()), 1):
                if pod.node not in ("", node) or self.random.random() < 0.2:
                    continue
                ids = {}
                if self.random.random() < (0.5 if self.mode is NetworkMode.FLAT else 0.9):
                    ids["attached-mac"] = f"02:00:00:00:0{number}:{ofport:02x}"
                if self.random.random() < 0.5:
                    ids["ip_addresses"] = f"10.99.{number}.{ofport}"
                interfaces.append(port(f"p{ofport}", ofport + self.random.choice((0, 0, 20)), str(key), **ids))
            datapath = self.random.choice(("netdev", "netdev", "system"))
            said = self.random.choice(
                ("", "192.0.2.7 169.254.20.10", "10.99.1.2,10.99.2.3,10.0.1.3,10.0.2.5 fd00:1::4")
            )
            bridge = BridgeState("db", node, number, node, datapath_type=datapath, interfaces=tuple(interfaces))
            self.world.set_bridge(replace(bridge, node_addresses_text=said))
            self.check()
            metered = self.random.choice(((), (Limit.COPIES,), (Limit.COPIES, Limit.DNS), (Limit.COPIES, Limit.DNS)))
            self.world.set_metered(number, metered)
            answered = self.random.choice(("", "192.0.2.8", "192.0.2.7 10.99.2.1 10.0.1.4 fd00:1::5"))
            self.world.set_answered(number, map(parse_address, answered.split()))
            self.check()

    def unplug(self) -> None:
        """Take the bridges away."""
        for name in list(self.world.bridges):
            self.world.set_metered(self.world.bridges[name].dpid, ())
            self.world.set_answered(self.world.bridges[name].dpid, ())
            self.world.remove_bridge(name)
        self.world.owners.forget("db")
        self.seen, self.plans, self.groups = {}, {}, {}
        self.check()

    def check(self) -> None:
        """Flows and groups equal the full computation, and exactly the reported ones changed."""
        changed = self.world.update_plans()
        self.world.take_replanned()
        self.world.take_bridges_to_show()
        effective = effective_cluster(self.world.effective_parts())
        networked = {key: pod.addresses for key, pod in effective.pods.items() if pod.networked}
        known = {key: self.world.engine.pod(key) for key in networked}
        assert networked == {key: pod.addresses for key, pod in known.items() if pod is not None}
        learned = replace(self.cluster, learned=effective.learned)
        expected, groups, with_flows = full(learned, self.world.bridges)
        for name, flows in expected.items():
            plan = self.world.plan_of(name)
            assert plan is not None
            assert plan.flows == flows
            assert plan.groups.desired == groups[name]
            assert plan.groups.names.keys() == groups[name].keys() | (
                with_flows[plan.userspace] if plan.routes else set()
            )
            changed_groups = plan.groups.take()
            binding = self.world.binding(name)
            assert binding == read_bridge(self.world.bridges[name], self.cluster)
            node = effective.nodes.get(self.world.bridges[name].node)
            assert set(binding.binding.node_addresses) == set(node.addresses if node is not None else ())
            # A new plan (the datapath type changed) is given to the switch as a whole.
            if self.plans.get(name) is plan:
                before = self.seen.get(name, {})
                differs = {key: before.get(key) for key in before.keys() | flows.keys()}
                differs = {key: body for key, body in differs.items() if body != flows.get(key)}
                assert changed.get(name, {}) == differs
                earlier = self.groups[name]
                both = earlier.keys() | groups[name].keys()
                assert changed_groups == {n: earlier.get(n) for n in both if earlier.get(n) != groups[name].get(n)}
                assert name in changed or not changed_groups
            self.plans[name] = plan
        self.seen, self.groups = expected, groups


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=worlds(), second=worlds(), seed=st.integers(0, 1 << 30))
def test_every_step_equals_the_full_computation(first: Cluster, second: Cluster, seed: int) -> None:
    walk = Walk(seed)
    walk.towards(first)
    walk.ports()
    walk.towards(second)
    walk.ports()
    walk.towards(Cluster())


# The nodes of `ROUTED_NODES` after a change: another range, another address, a claim to one that the other has, and one
# node more.
_ONE, _TWO = ROUTED_NODES["one"], ROUTED_NODES["two"]
CHANGED_NODES = MappingProxyType(
    {
        "one": replace(_ONE, addresses=(parse_address("2001:db8::1"), parse_address("192.0.2.11"))),
        "two": replace(_TWO, pod_cidrs=(parse_network("10.0.8.0/24"), *_ONE.pod_cidrs[1:])),
        "three": Node("three", (parse_address("192.0.2.3"),), (parse_network("10.0.2.0/24"),)),
    }
)


@pytest.mark.parametrize("mode", [NetworkMode.ROUTED, NetworkMode.OVERLAY])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=worlds(ROUTED_NODES), second=worlds(CHANGED_NODES), seed=st.integers(0, 1 << 30))
def test_every_step_equals_it_where_switches_route(
    mode: NetworkMode, first: Cluster, second: Cluster, seed: int
) -> None:
    walk = Walk(seed, mode)
    walk.towards(first)
    walk.ports()
    walk.towards(second)
    walk.ports()
    walk.towards(first)
    walk.towards(Cluster())


@pytest.mark.parametrize("bits", [None, 7])
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=clusters_with_services(), second=clusters_with_services(), seed=st.integers(0, 1 << 30))
def test_every_step_with_services_equals_the_full_computation(
    bits: int | None, first: Cluster, second: Cluster, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if bits is not None:  # then numbers collide
            patch.setattr(cluster_services, "NUMBER_BITS", bits)
        walk = Walk(seed, NetworkMode.OVERLAY)
        before = sizes(walk.world)
        walk.towards(first)
        walk.ports()
        walk.towards(second)
        walk.ports()
        walk.towards(Cluster())
        walk.unplug()
        assert sizes(walk.world) == before


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=clusters(),  # an order of a tier has no bands: see test_tiers
    second=clusters(),
    seed=st.integers(0, 1 << 30),
    narrow=st.sampled_from([(8, 2, 32, 1 << 20), (32, 1, 32, 1 << 20), (8, 1, 2, 1 << 20), (9, 2, 4, 20)]),
)
def test_colliding_numbers_crowded_flows_and_too_many_change_nothing_of_it(
    first: Cluster, second: Cluster, seed: int, narrow: tuple[int, int, int, int]
) -> None:
    bits, most, bands, flows = narrow
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MAX_CONJUNCTIONS", most)
        patch.setattr(rules, "MAX_BANDS", bands)
        patch.setattr(rule_numbers, "NUMBER_BITS", bits)
        patch.setattr(flow_limits, "MAX_BRIDGE_FLOWS", flows)
        walk = Walk(seed)
        walk.towards(first)
        walk.ports()
        walk.towards(second)
        walk.ports()
        walk.towards(Cluster())


def test_a_port_that_gives_its_pod_an_address_changes_other_bridges() -> None:
    from flows.cluster.model import Direction, Peer, Pod, Policy, Rule, Selector

    a, b = Key("x", "a"), Key("x", "b")
    allow = Policy(Key("x", "p"), isolates=frozenset({Direction.INGRESS}), ingress=(Rule((Peer(pods=Selector()),)),))
    cluster = Cluster(
        pods={a: Pod(a, node="n1"), b: Pod(b, node="n2", addresses=(Net(4, 0x0A000002, 32),))},
        policies={allow.key: allow},
    )
    walk = Walk(0)
    walk.cluster = cluster
    walk.world.set_cluster(cluster)
    walk.world.set_bridge(BridgeState("db", "n2", 2, "n2", interfaces=(port("b0", 1, "x/b"),)))
    walk.check()
    walk.world.set_bridge(BridgeState("db", "n1", 1, "n1", interfaces=(port("a0", 1, "x/a", ip_addresses="10.0.0.1"),)))
    before = dict(walk.seen["db", "n2"])
    walk.check()
    assert len(walk.seen["db", "n2"]) == len(before) + 1


def test_a_staged_deletion_is_looked_up_where_there_are_too_many_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.cluster.model import EVERYTHING, Direction, Pod, Policy, PortSpec, Rule

    monkeypatch.setattr(flow_limits, "MAX_BRIDGE_FLOWS", 1)
    key, rule = Key("x", "a"), Rule(ports=(PortSpec(Protocol.TCP, 80),))  # more than one flow
    policy = Policy(Key("x", "p"), EVERYTHING, frozenset({Direction.INGRESS}), (rule,)).stage_deletion()
    walk = Walk(0)
    walk.cluster = Cluster(pods={key: Pod(key, node="n1")}, policies={policy.key: policy})
    walk.world.set_cluster(walk.cluster)
    walk.world.set_bridge(BridgeState("db", "n1", 1, "n1", interfaces=(port("a0", 1, "x/a", ip_addresses="10.0.0.1"),)))
    walk.check()
    assert not walk.world.staged_left_out()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [NetworkMode.FLAT, NetworkMode.OVERLAY])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(clusters_=st.lists(worlds(ROUTED_NODES), min_size=1, max_size=2), seed=st.integers(0, 1 << 30))
def test_nothing_that_is_gone_is_kept(mode: NetworkMode, clusters_: list[Cluster], seed: int) -> None:
    """Policies, namespaces, pods, nodes and bridges come and go; then every container has the size that it had."""
    walk = Walk(seed, mode)
    before = sizes(walk.world)
    for cluster in clusters_:
        walk.towards(cluster)
        walk.ports()
    orders = [lambda: walk.towards(Cluster()), walk.unplug]
    walk.random.shuffle(orders)
    for order in orders:
        order()
    assert sizes(walk.world) == before
    # And with the policies alone gone, nothing of them is kept for the pods that are there.
    bare = replace(clusters_[0], policies=MappingProxyType({}), cluster_policies=MappingProxyType({}))
    walk.towards(bare)
    before = sizes(walk.world)
    walk.towards(clusters_[0])
    walk.towards(bare)
    assert sizes(walk.world) == before


# Bounded by their own declarations, or by what protocols and priorities there are. `_past` has what pods learned from
# DNS answers, and expired: it may be in use until the pod is gone.
CACHES = frozenset({"flow_encoder", "_encoder", "_past"})


def sizes(world: World) -> dict[str, int]:
    """The containers of a world and of all that it has, that are not empty, with their sizes."""
    found: dict[str, int] = {}
    seen: set[int] = set()

    def walk(where: str, one: object) -> None:
        if id(one) in seen or isinstance(one, str | bytes | int | Cluster | BridgeState | MappingProxyType):
            return
        seen.add(id(one))
        if isinstance(one, dict | list | set | frozenset | tuple):
            if len(one):
                found[where] = found.get(where, 0) + len(one)
            for item in one.values() if isinstance(one, dict) else one:
                walk(f"{where}[]", item)
        elif type(one).__module__.startswith(("flows.", "controller.")):
            slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            for name in {*getattr(one, "__dict__", ()), *slots} - CACHES:
                walk(f"{where}.{name}", getattr(one, name))

    walk("world", world)
    return found


@pytest.mark.parametrize("most", [1, 2, 5])
def test_bands_come_and_go_with_the_rules_that_need_them(most: int) -> None:
    from flows.cluster.model import Direction, IPBlock, Namespace, Peer, Pod, Policy, PortSpec, Rule

    pod = Pod(Key("x", "a"), node="one", addresses=(Net(4, 0x0A000001, 32),))
    shared = Peer(ip_block=IPBlock(Net(4, 0x0B000000, 24)))

    def policy(n: int) -> Policy:
        peers = (shared, Peer(ip_block=IPBlock(Net(4, 0x0C000000 + 2 * n, 32))))
        rule = Rule(peers, (PortSpec(port=1000 + n),) if n % 3 else ())
        return Policy(Key("x", f"p{n}"), isolates=frozenset({Direction.INGRESS}), ingress=(rule,))

    policies = {one.key: one for one in map(policy, range(14))}
    few = dict(list(policies.items())[:2])
    base = Cluster(namespaces={"x": Namespace("x", {})}, pods={pod.key: pod})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MAX_CONJUNCTIONS", most)
        walk = Walk(most)
        walk.towards(base)
        walk.ports()
        walk.world.set_bridge(BridgeState("db", "one", 1, "one", interfaces=(port("a0", 1, "x/a"),)))
        walk.check()
        priorities = set()
        for wanted in (policies, few, policies, {}):
            walk.towards(replace(base, policies=MappingProxyType(wanted)))
            counted = [key[1:3] for key, body in walk.seen["db", "one"].items() if body.cookie >> 40 & 0xFF == 3]
            priorities.add(len(set(counted)))
    assert len(priorities) > 2
