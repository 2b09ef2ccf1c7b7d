"""The JSON contract of `/audit` and `/drops`: frozen values, served field for field.

The rules of `model` hold here too. An event is one line of `headgate audit -o json`, of the audit file, and of syslog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

AUDIT_VERSION = 1


@dataclass(frozen=True, slots=True)
class AuditEnd:
    """One end of a connection. `kind` is pod, node or outside; `name` is NAMESPACE/NAME, a node's name, or "".

    `workload` is `Kind/name` of what made the pod. `port` is None where the protocol has none.
    """

    kind: str = "outside"
    name: str = ""
    address: str = ""
    port: int | None = None
    workload: str = ""

    @property
    def shown(self) -> str:
        """The name, or the address."""
        return self.name or self.address or "?"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One connection that was denied, dropped or opened, or a number of packets that were not reported one by one.

    `number` grows by one with each event of this run of the controller. `time` is RFC 3339 in UTC. `verdict` is denied
    (by policy), dropped (for another cause), allowed, would-deny (by a staged policy: it passed), or unreported.
    `cause` is policy, forged, invalid, nobody, foreign or limit; of what is unreported, meter, controller or repeated.
    `direction` is that of the end that denied. Of a packet that answers, source and destination are those of the packet
    that opened its connection. `policies` isolate the pod of that end, or have the rules that decide; `rules` are these
    rules. `packets` is 1 but for what is counted.
    """

    number: int
    time: str
    verdict: str
    cause: str
    node: str
    text: str
    direction: str = ""
    protocol: str = ""
    source: AuditEnd = AuditEnd()
    destination: AuditEnd = AuditEnd()
    policies: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    packets: int = 1
    version: int = AUDIT_VERSION

    @property
    def ends(self) -> tuple[str, ...]:
        """The names of its ends."""
        return self.source.name, self.destination.name


@dataclass(frozen=True, slots=True)
class AuditAnswer:
    """The last events. `since` is the number of the first that is still kept; `lost` how many after `after` are not.

    `unreported` are packets of audited pods, by cause, that no event stands for; `audited` counts the pods that
    annotations or the default audit, on switches that can report. `problems` are why something cannot be audited.
    """

    events: tuple[AuditEvent, ...] = ()
    next: int = 1
    lost: int = 0
    audited: int = 0
    unreported: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DropTotal:
    """Packets of one pod that were dropped since the controller started, whether it is audited or not.

    `cause` is policy, invalid or limit. `detail` is the direction, or what is wrong with them.
    """

    pod: str
    cause: str
    detail: str
    packets: int
    policies: str = ""


@dataclass(frozen=True, slots=True)
class ForeignDrop:
    """A foreign flow that has met packets: what it does with them is not up to Headgate."""

    node: str
    table: str
    match: str
    actions: str
    packets: int


@dataclass(frozen=True, slots=True)
class DropsAnswer:
    """Everything that is dropped: totals by pod and cause, foreign flows, and the events of audited pods; `version` is
    that of the form."""

    totals: tuple[DropTotal, ...] = ()
    foreign: tuple[ForeignDrop, ...] = ()
    events: tuple[AuditEvent, ...] = ()
    problems: tuple[str, ...] = ()
    version: int = AUDIT_VERSION


class AuditApi(Protocol):
    """What the controller answers about audit. Any thread may call every method."""

    def audit(self, after: int, most: int, wait: float = 0.0) -> AuditAnswer:
        """Events with greater numbers than `after`, the last `most` of them; waits up to `wait` seconds for one."""

    def drops(self, pod: str | None, most: int, count_now: bool = True) -> DropsAnswer:
        """What was dropped, of one pod or of all."""


Events = Sequence[AuditEvent]
