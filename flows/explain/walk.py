"""From a verdict to an Explanation: every rule that took part, and what does not fit in those that do not match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flows.cluster.model import Cluster, Direction, Policy, Tier
from flows.cluster.selectors import matches
from flows.cluster.staging import promoted
from flows.explain.differences import Side, cluster_rule_gap, rule_gap, unmet_texts
from flows.explain.model import Connection, Difference, EndExplanation, Promotion, Step
from flows.explain.scope import concerning
from flows.policy.explanation import AllowingRule, EndVerdict, Isolation, port_text
from flows.policy.probe import Endpoint, Probe, protocol_name
from flows.policy.tier_walk import Outcome, TierStep
from flows.policy.verdict import verdict

MAX_STEPS = 20  # of one end and tier; the authors of policies decide how many there are
MAX_DIFFERENCES = 20  # of one rule
ALLOW = "Allow"  # what a rule of a NetworkPolicy does; those of other tiers have their own words
_NO_SUBJECT = (Isolation.NOT_A_POD, Isolation.NOT_A_SUBJECT, Isolation.ITSELF)


def explain_connection(cluster: Cluster, probe: Probe) -> Connection:
    """The verdict on a connection with its reasons. Costs one pass over the cluster's pods and policies.

    Raises ProbeError when an end is a pod that the cluster does not have.
    """
    ends = (probe.source, probe.destination)
    part = concerning(cluster, [end.pod for end in ends if end.pod], [end.address for end in ends])
    found = verdict(part, probe)
    return Connection(
        source=end_name(probe.source),
        source_address=str(probe.source.address),
        destination=end_name(probe.destination),
        destination_address=str(probe.destination.address),
        protocol=protocol_name(probe.protocol),
        port=probe.port,
        allowed=found.allowed,
        egress=_explain_end(part, probe, found.egress),
        ingress=_explain_end(part, probe, found.ingress),
        promoted=_explain_promotion(part, probe),
    )


def _explain_promotion(cluster: Cluster, probe: Probe) -> Promotion | None:
    """The verdict once staged policies are promoted, where one selects either end."""
    pods = [cluster.pods[end.pod] for end in (probe.source, probe.destination) if end.pod is not None]
    selected = any(
        policy.staged is not None and key.namespace == pod.key.namespace and matches(policy.subjects, pod.labels)
        for key, policy in cluster.policies.items()
        for pod in pods
    )
    if not selected:
        return None
    part = promoted(cluster)
    found = verdict(part, probe)
    return Promotion(found.allowed, _explain_end(part, probe, found.egress), _explain_end(part, probe, found.ingress))


def end_name(end: Endpoint) -> str:
    """`pod NS/NAME`, `node NAME`, or the address."""
    if end.pod is not None:
        return f"pod {end.pod}"
    return f"node {end.node}" if end.node is not None else str(end.address)


def _explain_end(cluster: Cluster, probe: Probe, found: EndVerdict) -> EndExplanation:
    name = end_name(found.end)
    if found.isolation in _NO_SUBJECT or found.end.pod is None:
        return EndExplanation(found.direction.value, name, found.allowed, found.isolation.value)
    far = probe.destination if found.direction is Direction.EGRESS else probe.source
    side = Side(cluster, probe, found.direction, cluster.pods[found.end.pod], far.address)
    steps, more = _by_tier(side, found)
    decided = found.decided_by
    isolated = found.isolation is Isolation.ISOLATED
    return EndExplanation(
        found.direction.value,
        name,
        found.allowed,
        reason="" if decided is not None or isolated else found.isolation.value,
        decided_by=rule_name(decided) if decided is not None else "",
        isolated_by=tuple(map(str, found.isolated_by)),
        steps=tuple(steps),
        more_steps=more,
    )


def _by_tier(side: Side, found: EndVerdict) -> tuple[list[Step], int]:
    """The steps of all tiers that count, in their order, and how many are left out."""
    tiers: list[list[Step]] = [[_tier_step(side, one) for one in found.walk if one.tier is Tier.ADMIN]]
    decided = found.decided_by
    if decided is None or decided.tier is not Tier.ADMIN:
        tiers.append(_network_policy_steps(side, found) if found.isolation is Isolation.ISOLATED else [])
        tiers.append([_tier_step(side, one) for one in found.walk if one.tier is Tier.BASELINE])
    steps, more = [], 0
    for tier in tiers:
        # A tier's last step may decide, so of a long walk its end is kept.
        kept = tier[:MAX_STEPS] if not tier or not tier[-1].matches else [*tier[: MAX_STEPS - 1], *tier[-1:]]
        kept = tier if len(tier) <= MAX_STEPS else kept
        steps += kept
        more += len(tier) - len(kept)
    return steps, more


# -- ClusterNetworkPolicies --------------------------------------------------------------------------------------------


def rule_name(step: TierStep) -> str:
    """A rule of a ClusterNetworkPolicy by its policy and place."""
    return f"{step.policy} {step.direction.value}[{step.rule}]"


def _tier_step(side: Side, one: TierStep) -> Step:
    differences: tuple[Difference, ...] = ()
    if one.outcome in (Outcome.PEER, Outcome.PORT):
        policy = side.cluster.cluster_policies[one.policy]
        differences = cluster_rule_gap(side, policy.rules(one.direction)[one.rule]).differences
    elif one.outcome is Outcome.INVALID:
        differences = (Difference("invalid", "", one.outcome.value),)
    notes = one.outcome.value if one.matched and one.outcome is not Outcome.MATCHES else ""
    return Step(
        one.tier.value,
        str(one.policy),
        f"{one.direction.value}[{one.rule}]",
        one.action.value,
        matches=one.matched,
        name=one.name,
        note=notes,
        differences=differences[:MAX_DIFFERENCES],
        distance=len(differences),
    )


# -- NetworkPolicies ---------------------------------------------------------------------------------------------------


def _network_policy_steps(side: Side, found: EndVerdict) -> list[Step]:
    """The rules that allow; where none does, those that do not match and those that nearly count, nearest first."""
    policies = side.cluster.policies
    steps = [_allowing_step(one) for one in found.allowed_by]
    if not steps:
        steps = [_near_step(side, policies[one.policy], one.rule) for one in found.not_matching]
        steps += _almost_counting(side, policies.values())
        steps.sort(key=lambda step: (step.distance, not step.counts, step.policy, step.rule))
    return steps


def _allowing_step(one: AllowingRule) -> Step:
    word = "from" if one.direction is Direction.INGRESS else "to"
    return Step(
        Tier.NETWORK_POLICY.value,
        str(one.policy),
        f"{one.direction.value}[{one.rule}]",
        ALLOW,
        matches=True,
        peer="" if one.peer is None else f"{word}[{one.peer}]",
        port="" if one.port is None else port_text(one.port),
    )


def _near_step(side: Side, policy: Policy, number: int) -> Step:
    """A rule of an isolating policy that does not match."""
    gap = rule_gap(side, policy, number, policy.rules(side.direction)[number])
    return Step(
        Tier.NETWORK_POLICY.value,
        str(policy.key),
        f"{side.direction.value}[{number}]",
        ALLOW,
        matches=False,
        differences=gap.differences[:MAX_DIFFERENCES],
        distance=gap.distance,
    )


def _almost_counting(side: Side, policies: Iterable[Policy]) -> Iterator[Step]:
    """Rules that would match, of policies that do not apply to the subject: by its labels, or by the direction."""
    for policy in policies:
        if policy.key.namespace != side.subject.key.namespace or _applies(policy, side):
            continue
        differences = _what_keeps_off(policy, side)
        rules = policy.ingress if side.direction is Direction.INGRESS else policy.egress
        for number, rule in enumerate(rules):
            if rule is not None and not rule_gap(side, policy, number, rule).differences:
                yield Step(
                    Tier.NETWORK_POLICY.value,
                    str(policy.key),
                    f"{side.direction.value}[{number}]",
                    ALLOW,
                    matches=True,
                    counts=False,
                    differences=tuple(differences[:MAX_DIFFERENCES]),
                    distance=len(differences),
                )


def _what_keeps_off(policy: Policy, side: Side) -> list[Difference]:
    subject = side.subject
    texts = unmet_texts(policy.subjects, subject.labels, f"pod {subject.key}")
    differences = [Difference("subject", "podSelector", text) for text in texts]
    if side.direction not in policy.isolates:
        types = " and ".join(sorted(one.value.capitalize() for one in policy.isolates)) or "nothing"
        text = f"its policyTypes are {types}, so its {side.direction.value} rules do not count"
        differences.append(Difference("direction", "policyTypes", text))
    return differences


def _applies(policy: Policy, side: Side) -> bool:
    return side.direction in policy.isolates and matches(policy.subjects, side.subject.labels)
