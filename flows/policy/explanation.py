"""The answer of `verdict`: for each end of a connection the policies that isolate it, and the rules that allow or do
not match, with their text for the user.

Values and text only; which rule allows is decided in `verdict`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from flows.cluster.model import Action, Direction, Key, PortSpec
from flows.policy.probe import Endpoint, Probe
from flows.policy.tier_walk import TierStep


class Isolation(enum.Enum):
    """Whether policies apply to one end of a connection, and if not, why. The value is the reason as text."""

    ISOLATED = "isolated"
    NOT_ISOLATED = "no policy isolates it in this direction"
    NOT_A_POD = "it is not a pod"
    NOT_A_SUBJECT = "it uses the host's network or has finished, so no policy selects it"
    ITSELF = "a pod always reaches itself"
    OWN_NODE = "no NetworkPolicy applies between a pod and its own node"


@dataclass(frozen=True, slots=True)
class AllowingRule:
    """A rule that allows the connection. `rule` and `peer` count from 0 as in the manifest.

    `peer` is None where the rule names no peers, `port` is None where it names no ports.
    """

    policy: Key
    direction: Direction
    rule: int
    peer: int | None = None
    port: PortSpec | None = None

    def __str__(self) -> str:
        peer = "any peer" if self.peer is None else f"peer {self.peer}"
        port = "any protocol and port" if self.port is None else port_text(self.port)
        return f"{self.policy} {self.direction.value} rule {self.rule} ({peer}, {port})"


class Mismatch(enum.Enum):
    """Why a rule does not match."""

    INVALID = "is not valid, so it allows nothing"
    PEER = "has no matching peer"
    PORT = "matches the peer but not the port"


@dataclass(frozen=True, slots=True)
class NonMatchingRule:
    """A rule of an isolating policy that does not allow this connection."""

    policy: Key
    direction: Direction
    rule: int
    mismatch: Mismatch

    def __str__(self) -> str:
        return f"{self.policy} {self.direction.value} rule {self.rule} {self.mismatch.value}"


@dataclass(frozen=True, slots=True)
class EndVerdict:
    """The verdict for one end: the source's egress or the destination's ingress.

    `isolated_by`, `allowed_by` and `not_matching` are of NetworkPolicies, sorted by policy; they are empty unless
    `isolation` is ISOLATED. `walk` are the rules of ClusterNetworkPolicies that were looked at, in their order: up to
    the one that decides. Where a rule of tier Admin decides, NetworkPolicies do not count.
    """

    direction: Direction
    end: Endpoint
    isolation: Isolation
    isolated_by: tuple[Key, ...] = ()
    allowed_by: tuple[AllowingRule, ...] = ()
    not_matching: tuple[NonMatchingRule, ...] = ()
    walk: tuple[TierStep, ...] = ()

    @property
    def decided_by(self) -> TierStep | None:
        """The rule of a ClusterNetworkPolicy that accepts or denies; None where none does."""
        last = self.walk[-1] if self.walk else None
        return last if last is not None and last.matched and last.action is not Action.PASS else None

    @property
    def allowed(self) -> bool:
        """What a rule of a ClusterNetworkPolicy decides; else true when no policy isolates this end, or some rule
        allows."""
        decided = self.decided_by
        if decided is not None:
            return decided.action is Action.ACCEPT
        return self.isolation is not Isolation.ISOLATED or bool(self.allowed_by)

    def explain(self) -> list[str]:
        """One line; where isolation denies, one more for each rule that does not match. Rules of ClusterNetworkPolicies
        come before, one line each."""
        end = str(self.end.pod) if self.end.pod is not None else str(self.end)
        head = f"{self.direction.value} {'from' if self.direction is Direction.EGRESS else 'to'} {end}: "
        decided = self.decided_by
        steps = [f"  {step.explain()}" for step in self.walk if step is not decided]
        if decided is not None:
            answer = "accepted" if decided.action is Action.ACCEPT else "denied"
            return [f"{head}{answer}: {decided.explain()}", *steps]
        first, *rest = self._explain_isolation(head)
        return [first, *steps, *rest]

    def _explain_isolation(self, head: str) -> list[str]:
        if self.isolation is not Isolation.ISOLATED:
            return [f"{head}no policy applies: {self.isolation.value}"]
        head += f"isolated by {', '.join(map(str, self.isolated_by))}; "
        if self.allowed_by:
            return [f"{head}allowed by {', '.join(map(str, self.allowed_by))}"]
        return [f"{head}no rule allows it", *(f"  {rule}" for rule in self.not_matching)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the connection of `probe` may be opened, with the reasons at both ends."""

    probe: Probe
    egress: EndVerdict
    ingress: EndVerdict

    @property
    def allowed(self) -> bool:
        """Both ends must allow: the source's egress and the destination's ingress."""
        return self.egress.allowed and self.ingress.allowed

    def explain(self) -> list[str]:
        """The verdict in words: the answer first, then the reasons of both ends."""
        answer = "allowed" if self.allowed else "denied"
        return [f"{answer}: {self.probe}", *self.egress.explain(), *self.ingress.explain()]


def port_text(spec: PortSpec) -> str:
    """A policy's port in words, like `port 80/TCP`, `ports 80-90/UDP`, `port http/TCP` or `any TCP port`."""
    if spec.port is None:
        return f"any {spec.protocol.name} port"
    if spec.end_port is not None:
        return f"ports {spec.port}-{spec.end_port}/{spec.protocol.name}"
    return f"port {spec.port}/{spec.protocol.name}"
