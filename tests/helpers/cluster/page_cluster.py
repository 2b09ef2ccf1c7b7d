"""A cluster to look at: shops of several workloads with policies that isolate them, made the same way each time."""

from __future__ import annotations

from types import MappingProxyType

from flows.cluster.model import (
    NAMESPACE_NAME_LABEL,
    Cluster,
    ContainerPort,
    Direction,
    Key,
    Namespace,
    Node,
    Operator,
    Peer,
    Pod,
    Policy,
    PortSpec,
    Protocol,
    Requirement,
    Rule,
    Selector,
)
from flows.cluster.net import Net

WORKLOADS = ("frontend", "api", "worker", "db", "cache")
PODS_PER_NODE = 100
TCP = Protocol.TCP


def page_cluster(pods: int = 200, strange: str = "") -> Cluster:
    """About that many pods. `strange` is the value of a label of every pod, and the name of a workload."""
    spaces = [f"shop-{n:02}" for n in range(max(1, pods // 50))]
    nodes = max(2, pods // PODS_PER_NODE)
    found: dict[Key, Pod] = {}
    for number in range(pods):
        space, workload = spaces[number % len(spaces)], WORKLOADS[(number // len(spaces)) % len(WORKLOADS)]
        key = Key(space, f"{workload}-7d9f8b6c5d-{number:05}")
        found[key] = Pod(
            key,
            labels=MappingProxyType({"app": workload, "team": strange or f"team-{number % 7}"}),
            node=f"node-{number % nodes + 1}",
            uid=f"00000000-0000-4000-8000-{number:012x}",
            addresses=(Net(4, 10 << 24 | (number + 2), 32),),
            ports=(ContainerPort("http", 8080, TCP),),
            workload=f"Deployment/{strange or workload}",
        )
    names = MappingProxyType
    return Cluster(
        names(
            {one: Namespace(one, names({"shop": one, NAMESPACE_NAME_LABEL: one})) for one in (*spaces, "monitoring")}
        ),
        names(found),
        names({f"node-{n}": Node(f"node-{n}", (Net(4, 192 << 24 | 168 << 16 | n, 32),)) for n in range(1, nodes + 1)}),
        names({one.key: one for space in spaces for one in _policies(space)}),
    )


def _app(name: str) -> Selector:
    return Selector((Requirement("app", Operator.IN, (name,)),))


def _policies(space: str) -> list[Policy]:
    ingress, egress = frozenset({Direction.INGRESS}), frozenset({Direction.EGRESS})
    from_frontend = Rule((Peer(_app("frontend")),), (PortSpec(TCP, "http"),))
    from_api = Rule((Peer(_app("api")), Peer(_app("worker"))), (PortSpec(TCP, 5432),))
    scrape = Rule((Peer(None, Selector((Requirement("shop", Operator.IN, ("monitoring",)),))),), (PortSpec(TCP, 9090),))
    return [
        Policy(Key(space, "default-deny"), Selector(), ingress),
        Policy(Key(space, "api"), _app("api"), ingress, (from_frontend, scrape)),
        Policy(Key(space, "db"), _app("db"), ingress, (from_api,)),
        Policy(Key(space, "frontend"), _app("frontend"), ingress, (Rule((), (PortSpec(TCP, 80),)),)),
        Policy(Key(space, "db-egress"), _app("db"), egress, egress=(Rule((Peer(_app("cache")),)),)),
    ]
