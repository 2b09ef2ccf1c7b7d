"""The rules of policies as values: what identifies a rule, and the compiled rules of one switch.

A rule is identified by what it says (direction, namespace, subject selector, peers, ports), not by the policy that has
it. So equal rules share one conjunction, and a pod that is added or removed changes no number. How a rule is compiled
is in `resolve` (from nothing) and `engine` (incremental); how it becomes flows is in `flows.render.rules`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

from flows.cluster.domain_names import LearnedAddress
from flows.cluster.model import Action, Direction, Key, Policy, Rule, Selector, Tier
from flows.cluster.net import Net
from flows.cluster.tuples import new_tuple
from flows.policy.service_ranges import ServiceRanges


class RuleRef(NamedTuple):
    """A rule's place in a manifest: the policy, the direction, and the index in its list, from 0."""

    policy: Key
    direction: Direction
    number: int
    doubt: bool = False  # its companion: see `levels`
    staged: bool = False  # as it is once promoted: see `staged_policies`

    def __str__(self) -> str:
        what = (" in doubt" if self.doubt else "") + (" once promoted" if self.staged else "")
        return f"{self.policy} {self.direction.value}[{self.number}]{what}"


class Level(NamedTuple):
    """What a rule of a ClusterNetworkPolicy does, and when: rules of a tier with a smaller `order` come first (see
    `levels`).

    `nodes` are peers beside those of the rule: nodes that a selector matches. `doubt`: the rule's peers are only the
    addresses that several pods claim, at least one of which is a peer. `names` are peers too: patterns of domain names,
    which stand for the addresses that each subject learned for them. `everyone`: the subjects are all pods there can
    be, so flows need not name them.
    """

    tier: Tier
    order: int
    action: Action
    nodes: tuple[Selector, ...] = ()
    doubt: bool = False
    names: tuple[str, ...] = ()
    everyone: bool = False


# The level of the rules of NetworkPolicies as they are once staged ones are promoted. They decide nothing.
STAGED = Level(Tier.NETWORK_POLICY, 0, Action.ACCEPT)

TierStage = tuple[Tier, Direction]
NO_STAGES: frozenset[TierStage] = frozenset()


class Watch(enum.Enum):
    """What of a pod's packets is audited."""

    EGRESS = "denied by egress rules of the pod"
    INGRESS = "denied by ingress rules of the pod"
    DROPS = "dropped for other reasons, of those that the pod sends"
    OPENED = "the first of each connection with the pod"
    STAGED = "what staged policies would deny"
    SENDER = "nothing of its own: other pods of its bridge are audited, and it may send to them"


class Staged(NamedTuple):
    """A staged policy selects the pod in this direction; `isolated` tells whether the pod is isolated once all staged
    policies are promoted."""

    direction: Direction
    isolated: bool


NO_WATCH: frozenset[Watch] = frozenset()
NOT_STAGED: frozenset[Staged] = frozenset()
# What applies to a pod: a direction in which NetworkPolicies isolate it, a tier and direction with rules for it, an
# audit of its packets, or what staged policies mean for it.
Applies = Direction | TierStage | Watch | Staged


def applying(
    isolated: frozenset[Direction],
    tiered: frozenset[TierStage],
    watched: frozenset[Watch] = NO_WATCH,
    staged: frozenset[Staged] = NOT_STAGED,
) -> frozenset[Applies]:
    """What applies to a pod. Tier Baseline does not where a NetworkPolicy isolates the pod in the direction.

    Where a staged deletion would leave the verdict to tier Baseline, what it changes cannot be told.
    """
    found: frozenset[Applies] = isolated | watched if watched else isolated
    if tiered:
        found = found.union([stage for stage in tiered if stage[0] is Tier.ADMIN or stage[1] not in isolated])
    if staged:
        found = found.union([one for one in staged if one.isolated or (Tier.BASELINE, one.direction) not in tiered])
    return found


_ISOLATIONS = frozenset(map(frozenset, ((), *product(Direction), tuple(Direction))))


def only_isolates(applies: frozenset[Applies]) -> bool:
    """Whether nothing applies to the pod but that NetworkPolicies may isolate it. So it is with most pods."""
    return applies in _ISOLATIONS


def of_tiers(applies: frozenset[Applies]) -> bool:
    """Whether some tier has rules for the pod."""
    return any(isinstance(one, tuple) and not isinstance(one, Staged) for one in applies)


def of_staged(applies: frozenset[Applies]) -> bool:
    """Whether some staged policy selects the pod."""
    return any(isinstance(one, Staged) for one in applies)


class RuleKey(NamedTuple):
    """What a rule says. Equal keys mean equal rules, whichever policies have them.

    `namespace` is that of the policy; with a `level` it selects the subjects' namespaces.
    """

    direction: Direction
    namespace: str | Selector
    subjects: Selector
    rule: Rule
    level: Level | None = None

    @property
    def home(self) -> str:
        """The namespace of the policy, "" of a ClusterNetworkPolicy."""
        return self.namespace if isinstance(self.namespace, str) else ""

    @property
    def has_peers(self) -> bool:
        """Whether the rule restricts its peers."""
        return bool(self.rule.peers) or (self.level is not None and bool(self.level.nodes or self.level.names))

    @property
    def names(self) -> tuple[str, ...]:
        """The patterns of domain names among its peers."""
        return () if self.level is None else self.level.names


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One conjunction: these subjects may talk with these peers over these services, as responder (ingress) or as
    initiator (egress).

    `peers` and `services` are None where they do not restrict; neither is ever empty, but for the `peers` of a rule
    whose level has `names`. `conj_id` is unique in the cluster. `weight` is about how many flows the rule's text makes,
    whatever pods there are.
    """

    conj_id: int
    direction: Direction
    subjects: frozenset[Key]
    peers: frozenset[Net] | None
    services: ServiceRanges | None
    owners: tuple[RuleRef, ...]
    weight: int = 1
    level: Level | None = None

    @property
    def namespace(self) -> str:
        """The namespace of the rule's policies and subjects; "" with a level."""
        return self.owners[0].policy.namespace if self.owners else ""


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """The policy for the pods of one switch. Pods that no policy isolates are not in `isolated`, pods that no rule of a
    ClusterNetworkPolicy selects not in `tiered`, pods that are not audited not in `watched`, and pods that no staged
    policy selects not in `staged`. `learned` has what its pods learned from DNS answers."""

    isolated: Mapping[Key, frozenset[Direction]]
    rules: tuple[CompiledRule, ...]
    tiered: Mapping[Key, frozenset[TierStage]] = field(default_factory=lambda: MappingProxyType({}))
    watched: Mapping[Key, frozenset[Watch]] = field(default_factory=lambda: MappingProxyType({}))
    learned: Mapping[Key, tuple[LearnedAddress, ...]] = field(default_factory=lambda: MappingProxyType({}))
    staged: Mapping[Key, frozenset[Staged]] = field(default_factory=lambda: MappingProxyType({}))


def policy_rules(policy: Policy) -> Iterable[tuple[RuleKey, RuleRef]]:
    """The valid rules of a policy in the directions in which it isolates, with their places in the manifest."""
    key, subjects = policy.key, policy.subjects
    namespace = key.namespace
    for direction in policy.isolates:
        for number, rule in enumerate(policy.rules(direction)):
            if rule is not None:
                says = new_tuple(RuleKey, (direction, namespace, subjects, rule, None))
                yield says, new_tuple(RuleRef, (key, direction, number, False, False))
