"""All details of one pod or one policy, read from the reconciler: the rules as they are on switches, with counters.

No input or output. Subjects and peers come from the world's engine, flows from the plans of the bridges, and counters
from the last dumps of the switches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from controller.reconcile.reconciler import Reconciler
from controller.status.detail_model import (
    IsolationView,
    LearnedView,
    PeerView,
    PodDetail,
    PolicyDetail,
    PolicySwitchView,
    RuleView,
    StagedView,
    SubjectView,
)
from controller.status.model import PodView, PolicyView
from controller.status.switch_views import switch_error
from flows.bridge.claim_contest import BridgeName
from flows.cluster.model import Action, Direction, Key, Pod
from flows.cluster.net import Net
from flows.pipeline.cookies import CookieKind, read_cookie
from flows.policy.rule import STAGED
from flows.policy.service_ranges import MAX_PORT, ServiceRange
from flows.policy.tracked_sets import TrackedRule, tracked_rules_on
from flows.wire.values import FlowCounters, FlowKey

MAX_LISTED = 1000  # peers of a rule, subjects of a policy: a selector may match every pod
MAX_PODS_PER_ADDRESS = 10  # named for one address
DENY_KINDS = {Direction.EGRESS: CookieKind.DENY_EGRESS, Direction.INGRESS: CookieKind.DENY_INGRESS}
# What the promotion of staged policies would change, by direction and change.
STAGED_KINDS = {
    CookieKind.STAGED_DENY_EGRESS: (Direction.EGRESS.value, "deny"),
    CookieKind.STAGED_DENY_INGRESS: (Direction.INGRESS.value, "deny"),
    CookieKind.STAGED_ALLOW_EGRESS: (Direction.EGRESS.value, "allow"),
    CookieKind.STAGED_ALLOW_INGRESS: (Direction.INGRESS.value, "allow"),
}


class HitCounts(NamedTuple):
    """Packets and bytes; None where no switch has dumped counters."""

    packets: int | None
    bytes: int | None


NO_HIT_COUNTS = HitCounts(None, None)


def parse_key(text: str) -> Key:
    """The key of `namespace/name`, or of a name outside namespaces."""
    namespace, slash, name = text.partition("/")
    return Key(namespace, name) if slash else Key("", text)


# -- isolation ------- ---------------------------------------------------------------------------------------------


def isolating_policies(reconciler: Reconciler, pods: Collection[Key]) -> dict[tuple[Key, Direction], tuple[str, ...]]:
    """For each of these pods and each direction in which it is isolated, the policies that isolate it, by name."""
    return reconciler.world.isolating_policies(pods)


# -- one pod -------------------------------------------------------------------------------------------------------


def pod_bridges(reconciler: Reconciler, key: Key) -> list[BridgeName]:
    """The bridges that have a port of a pod: one, unless several claim the pod."""
    return [name for name, _ in reconciler.world.ports_of(key)]


def pod_detail(reconciler: Reconciler, key: Key, view: PodView | None, now: float = 0.0) -> PodDetail | None:
    """Everything about a pod; `view` is its view in the status, if it has one. None for an unknown pod. `now` is the
    time of the reconciler's clock."""
    pod = reconciler.world.cluster.pods.get(key) if reconciler.world.cluster else None
    if pod is None and view is None:
        return None
    shown = view or PodView(str(key), pod.node if pod else "", reason=_without_port(reconciler, pod))
    if pod is not None and not shown.addresses:
        shown = replace(shown, addresses=tuple(map(str, pod.addresses)))
    places = reconciler.world.ports_of(key)
    name, ofport = places[0] if places else (None, 0)
    plan = reconciler.world.plan_of(name) if name else None
    if plan is not None and ofport in plan.refused:
        shown = replace(shown, reason=plan.refused[ofport])
    subjects = reconciler.world.subject_sets_of(key) if name is not None else []
    parts = [part for one in subjects for part in tracked_rules_on(one) if part.level != STAGED]
    names = isolating_policies(reconciler, [key])
    return PodDetail(
        pod=shown,
        bridge=name[1] if name else "",
        uid=pod.uid if pod else "",
        labels=dict(sorted(pod.labels.items())) if pod else {},
        container_ports=tuple(f"{p.name}:{p.number}/{p.protocol.name}" for p in pod.ports) if pod else (),
        host_network=pod.host_network if pod else False,
        finished=pod.finished if pod else False,
        in_force=name is not None and _in_force(reconciler, name) and shown.installed,
        isolation=tuple(_isolation(reconciler, name, ofport, d, names.get((key, d), ())) for d in Direction),
        staged=tuple(_staged(reconciler, name, ofport, key)),
        rules=tuple(_rules(reconciler, parts, [name] if name else [])),
        learned=tuple(_learned(reconciler, key, now)),
    )


def _learned(reconciler: Reconciler, key: Key, now: float) -> list[LearnedView]:
    learned = reconciler.world.learned
    until = learned.until(key)
    found = [
        LearnedView(name, str(address), round(max(0.0, until[name, address] - now), 1) if live else None)
        for address, names in learned.of(key).items()
        for name, live in names.items()
    ]
    return sorted(found, key=lambda one: (one.seconds is None, one.name, one.address))[:MAX_LISTED]


def _without_port(reconciler: Reconciler, pod: Pod | None) -> str:
    """Why a pod is not in the status."""
    if pod is None:
        return ""
    if pod.host_network:
        return "it has hostNetwork, so policies do not apply to it"
    if pod.finished:
        return "it has finished"
    if not pod.node:
        return "it is not scheduled to a node yet"
    nodes = {bridge.node for bridge in reconciler.world.bridges.values()}
    return "" if pod.node in nodes else f"its node {pod.node} has no known switch"


def _isolation(
    reconciler: Reconciler, name: BridgeName | None, ofport: int, direction: Direction, policies: tuple[str, ...]
) -> IsolationView:
    hits = _hits_of(reconciler, name, ofport, DENY_KINDS[direction]) if name is not None and policies else NO_HIT_COUNTS
    return IsolationView(direction.value, policies, hits.packets, hits.bytes)


def _staged(reconciler: Reconciler, name: BridgeName | None, ofport: int, key: Key) -> Iterator[StagedView]:
    """What the promotion of staged policies that select a pod would change."""
    for direction in Direction:
        policies = reconciler.world.engine.staged_policies(key, direction)
        if policies:
            hits = {
                change: _hits_of(reconciler, name, ofport, kind) if name is not None else NO_HIT_COUNTS
                for kind, (of, change) in STAGED_KINDS.items()
                if of == direction.value
            }
            yield StagedView(direction.value, policies, hits["deny"].packets, hits["allow"].packets)


def _hits_of(reconciler: Reconciler, name: BridgeName, ofport: int, kind: CookieKind) -> HitCounts:
    """The counters of a pod's flow of this kind, such as the one that drops its packets in a direction."""
    plan = reconciler.world.plan_of(name)
    if plan is None:
        return NO_HIT_COUNTS
    wanted = (kind, ofport)
    keys = [
        key for key in plan.port_flows(ofport) if key in plan.flows and read_cookie(plan.flows[key].cookie) == wanted
    ]
    return _sum(_counters(reconciler, name).get(key) for key in keys)


# -- one policy ----------------------------------------------------------------------------------------------------


def policy_bridges(reconciler: Reconciler, key: Key) -> list[BridgeName]:
    """The bridges that have pods which a policy selects."""
    found = {name for pod in reconciler.world.subjects_of_policy(key) for name, _ in reconciler.world.ports_of(pod.key)}
    return sorted(found)


def policy_detail(reconciler: Reconciler, key: Key, view: PolicyView) -> PolicyDetail:
    """Everything about a policy; `view` is its view in the status."""
    pods = sorted(reconciler.world.subjects_of_policy(key), key=lambda pod: pod.key)
    counts: dict[BridgeName, int] = {}
    for pod in pods:
        for name, _ in reconciler.world.ports_of(pod.key):
            counts[name] = counts.get(name, 0) + 1
    parts = reconciler.world.rules_of_policy(key)
    return PolicyDetail(
        policy=view,
        subjects=tuple(_subject(reconciler, pod) for pod in pods[:MAX_LISTED]),
        rules=tuple(_rules(reconciler, parts, sorted(counts))),
        left_out=tuple(_left_out(reconciler, key, parts)),
        staged=tuple(_staged_of_policy(reconciler, key, pods)),
        switches=tuple(_switch(reconciler, name, counts[name]) for name in sorted(counts)),
    )


def _staged_of_policy(reconciler: Reconciler, key: Key, pods: Iterable[Pod]) -> Iterator[StagedView]:
    """What promotion would change for all pods that a staged policy selects."""
    world = reconciler.world
    policy = world.cluster.policies.get(key) if world.cluster else None
    if policy is None or policy.staged is None:
        return
    found = [view for pod in pods for name, ofport in world.ports_of(pod.key) for view in
             _staged(reconciler, name, ofport, pod.key)]  # fmt: skip
    for direction in sorted(policy.isolates | policy.staged.isolates):
        views = [view for view in found if view.direction == direction]
        names = tuple(sorted({name for view in views for name in view.policies}))
        denied, allowed = ([getattr(view, name) for view in views] for name in ("would_deny", "would_allow"))
        yield StagedView(direction.value, names, _total(denied), _total(allowed))


def _total(counts: Iterable[int | None]) -> int | None:
    known = [one for one in counts if one is not None]
    return sum(known) if known else None


def _subject(reconciler: Reconciler, pod: Pod) -> SubjectView:
    ports = [pod_binding.interface for pod_binding in reconciler.world.pod_bindings_of(pod.key)]
    return SubjectView(str(pod.key), pod.node, ", ".join(ports))


def _left_out(reconciler: Reconciler, key: Key, parts: Iterable[TrackedRule]) -> Iterator[str]:
    cluster = reconciler.world.cluster
    cluster_policy = cluster.cluster_policies.get(key) if cluster else None
    if cluster_policy is not None:
        for direction in Direction:
            for number, cluster_rule in enumerate(cluster_policy.rules(direction)):
                if cluster_rule.unreadable:
                    does = "accepts nothing" if cluster_rule.action is Action.ACCEPT else "denies everything"
                    yield f"{direction.value}[{number}]: it could not be understood, so it {does}"
    policy = cluster.policies.get(key) if cluster else None
    if policy is None:
        return
    there = {(owner.direction, owner.number) for part in parts for owner in part.owners if owner.policy == key}
    for direction in sorted(policy.isolates):
        for number, rule in enumerate(policy.rules(direction)):
            if rule is None:
                yield f"{direction.value}[{number}]: it could not be understood"
            elif (direction, number) not in there:
                yield f"{direction.value}[{number}]: it allows nothing now: {_nothing(reconciler, key)}"


def _nothing(reconciler: Reconciler, key: Key) -> str:
    if not reconciler.world.subjects_of_policy(key):
        return "the policy selects no pod"
    return "no pod matches its peers or has a port of that name"


def _switch(reconciler: Reconciler, name: BridgeName, pods: int) -> PolicySwitchView:
    bridge = reconciler.world.bridges[name]
    switch = reconciler.switch_of(name)
    reason = switch_error(reconciler, name)
    if switch is None or switch.session is None:
        reason = reason or "the switch has no OpenFlow connection to this controller"
    in_force = _in_force(reconciler, name)
    return PolicySwitchView(
        bridge.node, bridge.name, in_force, pods, "" if in_force else reason or "its flows are not realized yet"
    )


# -- rules and their counters --------------------------------------------------------------------------------------


def _in_force(reconciler: Reconciler, name: BridgeName) -> bool:
    switch, plan = reconciler.switch_of(name), reconciler.world.plan_of(name)
    return switch is not None and switch.realized and plan is not None and not plan.error


def _counters(reconciler: Reconciler, name: BridgeName) -> Mapping[FlowKey, FlowCounters]:
    switch = reconciler.switch_of(name)
    return switch.counters if switch is not None else {}


def _rules(reconciler: Reconciler, parts: Iterable[TrackedRule], bridges: Collection[BridgeName]) -> list[RuleView]:
    found = [_rule(reconciler, part, bridges) for part in parts]
    return sorted(found, key=lambda one: (one.direction, one.rules, one.ports or ()))


def _rule(reconciler: Reconciler, part: TrackedRule, bridges: Collection[BridgeName]) -> RuleView:
    peers = part.peers.members if part.peers is not None else None
    listed = None if peers is None else tuple(_peer(reconciler, net) for net in sorted(peers)[:MAX_LISTED])
    hits = _hits(reconciler, part, bridges)
    services = part.services
    return RuleView(
        direction=part.direction.value,
        rules=rule_names(reconciler, part),
        peers=listed,
        peer_count=len(peers or ()),
        ports=None if services is None else tuple(map(_service, services)),
        packets=hits.packets,
        bytes=hits.bytes,
        tier=part.level.tier.value if part.level else "",
        action=part.level.action.value if part.level else "",
    )


def rule_names(reconciler: Reconciler, part: TrackedRule) -> tuple[str, ...]:
    """The places of a rule in manifests; those of a ClusterNetworkPolicy with the rule's name, where it has one."""
    cluster = reconciler.world.cluster
    if part.level is None or cluster is None:
        return tuple(map(str, part.owners))
    found = []
    for owner in part.owners:
        policy = cluster.cluster_policies.get(owner.policy)
        rules = policy.rules(owner.direction) if policy is not None else ()
        name = rules[owner.number].name if owner.number < len(rules) else ""
        found.append(f"{owner} {name!r}" if name else str(owner))
    return tuple(found)


def _peer(reconciler: Reconciler, net: Net) -> PeerView:
    pods = reconciler.world.pods_with_address(net)[:MAX_PODS_PER_ADDRESS] if net.is_host else []
    return PeerView(str(net), tuple(sorted(map(str, pods))))


def _service(service: ServiceRange) -> str:
    protocol = service.protocol.name
    if service.low == service.high:
        return f"{service.low}/{protocol}"
    if service.low <= 1 and service.high == MAX_PORT:
        return f"all/{protocol}"
    return f"{service.low}-{service.high}/{protocol}"


def _hits(reconciler: Reconciler, part: TrackedRule, bridges: Collection[BridgeName]) -> HitCounts:
    """The counters of the flow that the rule's packets hit last, over all of these bridges."""
    found = []
    for name in bridges:
        plan = reconciler.world.plan_of(name)
        key = plan.rule_flow(part.identity) if plan else None
        if key is not None:
            found.append(_counters(reconciler, name).get(key))
    return _sum(found)


def _sum(counters: Iterable[FlowCounters | None]) -> HitCounts:
    known = [one for one in counters if one is not None]
    if not known:
        return NO_HIT_COUNTS
    return HitCounts(sum(one.packets for one in known), sum(one.bytes for one in known))
