"""The answer of `headgate explain`: frozen values, printed field for field as JSON.

A field's name, type and meaning may not change without another EXPLAIN_VERSION and a note in CHANGELOG.md. Objects are
named `namespace/name`, rules as in `headgate flows`: `ingress[0]`, counted from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

EXPLAIN_VERSION = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in a rule that does not fit the connection.

    `kind` is one of `subject`, `direction`, `label`, `namespace`, `address`, `protocol`, `port`, `invalid`. `where` is
    the place in the rule, like `from[0]` or `ports[1]`; "" for the whole rule.
    """

    kind: str
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """One rule on the way to the verdict of one end.

    `tier` is Admin, NetworkPolicy or Baseline. `action` is what the rule does when it matches: Accept, Deny or Pass,
    and Allow in a NetworkPolicy. `name` is the rule's own, "" for none; `note` is why it denies although its manifest
    does not say so. `counts` is false for a rule that only nearly takes part: its policy does not select the pod, or
    does not isolate in this direction. `peer` and `port` say what matched; "" where the rule does not match, or does
    not restrict. `differences` is empty for a rule that matches and counts; `distance` is the number of things to
    change before it would, so the smallest is the nearest.
    """

    tier: str
    policy: str
    rule: str
    action: str
    matches: bool
    counts: bool = True
    name: str = ""
    note: str = ""
    peer: str = ""
    port: str = ""
    differences: tuple[Difference, ...] = ()
    distance: int = 0


@dataclass(frozen=True, slots=True)
class EndExplanation:
    """The verdict of one end: `direction` egress is that of the source, ingress that of the destination.

    `reason` is why nothing restricts this end; "" where something decides. `decided_by` is the rule of a
    ClusterNetworkPolicy that accepts or denies, "" where none does. `isolated_by` are the NetworkPolicies that isolate
    this end. `steps` are the rules that were looked at, by tier: of Admin and Baseline in their order, of NetworkPolicy
    those that allow, or where none does those that do not match, the nearest first. `more_steps` counts those that are
    left out.
    """

    direction: str
    end: str
    allowed: bool
    reason: str = ""
    decided_by: str = ""
    isolated_by: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    more_steps: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """A flow that the packet matched on a switch, in the order of its way. `packets` are all that it counted so far.

    `match` and `actions` are as ovs-ofctl writes them. `kind` is the kind of its cookie, and `rules`, `policies` and
    `pods` are what the cookie, the conjunction and the ports stand for. A table in which nothing matched has an empty
    `kind`.
    """

    node: str
    bridge: str
    table: int
    table_name: str
    priority: int = 0
    match: str = ""
    actions: str = ""
    kind: str = ""
    packets: int = 0
    rules: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class SwitchWalk:
    """The first packet of the connection through the flows that the switches of both ends have now.

    `agrees` is whether it is delivered as policy says. `arrived` names who got it, `reason` why it is not delivered,
    and `note` what was not looked at: counters that are old, flows that are not Headgate's.
    """

    delivered: bool
    agrees: bool
    hits: tuple[Hit, ...] = ()
    arrived: tuple[str, ...] = ()
    reason: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Promotion:
    """The verdict on a connection as it is once all staged policies are promoted, by both ends."""

    allowed: bool
    egress: EndExplanation
    ingress: EndExplanation


@dataclass(frozen=True, slots=True)
class LiveLeg:
    """What one switch did with a live probe: the table where it ended, "output" where it would have been sent; "" where
    no copy came back. `to` says where it would have gone, or why it did not."""

    node: str
    bridge: str
    entered: str
    table: str
    to: str


@dataclass(frozen=True, slots=True)
class LiveProbe:
    """One real packet through the real tables of the switches of both ends.

    `delivered` is whether the destination's port, or the way to a destination that is not behind a switch, was reached;
    `agrees` whether policy says so too. `shown` says that the pod got the packet (`--deliver`). `reason` is why it was
    not delivered, or not sent; `notes` say what is not known by it.
    """

    sent: bool
    delivered: bool
    agrees: bool
    shown: bool = False
    source_port: int = 0
    legs: tuple[LiveLeg, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Connection:
    """The verdict on one connection between two addresses, by both ends. `port` is None for protocols without ports.

    `switches` is what the switches do with it; None where they were not asked, or none has part in it. `live` is what
    they did with a packet of it that was sent; None where none was asked for. `promoted` is the verdict once staged
    policies are promoted; None where no staged policy selects either end.
    """

    source: str
    source_address: str
    destination: str
    destination_address: str
    protocol: str
    port: int | None
    allowed: bool
    egress: EndExplanation
    ingress: EndExplanation
    switches: SwitchWalk | None = None
    live: LiveProbe | None = None
    promoted: Promotion | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole answer. A question may stand for several connections: one for each IP family and endpoint of a Service.

    `allowed` is whether all of them are. `notes` say what the question was taken for, where that is not plain.
    """

    version: int
    allowed: bool
    connections: tuple[Connection, ...]
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """False where some switch does not do what policy says."""
        return all(
            (one.switches is None or one.switches.agrees) and (one.live is None or one.live.agrees)
            for one in self.connections
        )
