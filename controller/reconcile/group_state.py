"""The groups of one switch, kept as its flows are, and the UDP connections that must end with an endpoint.

A switch is asked for its groups only where there may be any of Headgate's. When an endpoint leaves a UDP group, the
connections that were translated to it would go on for as long as the client sends: they are flushed once the bundle is
committed. What left is seen in the difference between the actual and the desired group, so that it does not matter
when, or under which controller, it left.

Example. Group 0x48800007 has the endpoints 10.0.0.5:53 and 10.0.0.6:53, and 10.0.0.5 is desired alone: `changes`
modifies the group, and `stale` has 10.0.0.6:53.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.reconcile.endpoint_flows import EndpointChanges
from controller.reconcile.flow_state import SwitchState
from flows.openflow.group import NatTarget
from flows.pipeline.group_numbers import is_udp_group
from flows.wire.actions import may_use_group
from flows.wire.groups import nat_targets
from flows.wire.values import Body, FlowKey, GroupBody, GroupChanges, WireGroup

# More endpoints than that are flushed by flushing all UDP connections of their zone: a flush of one endpoint looks at
# all connections of the switch.
MOST_STALE = 1000


@dataclass(slots=True)
class GroupState(SwitchState[int, GroupBody]):
    """`suspected`: the switch may have groups of Headgate although none is desired. `stale` are the endpoints whose
    connections are to be flushed. `refused` is why the switch cannot flush, else ""."""

    suspected: bool = False
    stale: set[NatTarget] = field(default_factory=set)
    refused: str = ""

    @property
    def needed(self) -> bool:
        """Whether the switch must be asked for its groups."""
        return bool(self.desired) or self.suspected

    def request(self) -> dict[int, GroupBody] | None:
        """A dump is requested: the groups that the switch should have, None where it is not asked for groups."""
        desired = self.start_dump()
        return desired if self.needed else None

    def dumped(self, groups: Mapping[int, GroupBody | None] | None, flows: Mapping[FlowKey, Body | None]) -> None:
        """The switch has these groups and flows where they differ from the desired ones; None if it was not asked."""
        self.dump_is_current = groups is not None
        if groups is None:
            self.differences.clear()
        else:
            self.record(groups)
        left = any(body is not None for body in self.differences.values())
        self.suspected = left or any(body is not None and may_use_group(body.instructions) for body in flows.values())

    def changes(self, endpoints: EndpointChanges) -> tuple[GroupChanges, dict[int, GroupBody | None]]:
        """What makes the actual groups the desired ones; and the same as what the switch has afterwards. `endpoints`
        are those of ports without a group: a port may come to have one, and lose it."""
        adds: list[WireGroup] = []
        modifies: list[WireGroup] = []
        deletes: list[int] = []
        after: dict[int, GroupBody | None] = {}
        self._note_stale(endpoints)
        if not self.dump_is_current:
            return GroupChanges((), (), ()), after
        for number, actual in self.differences.items():
            body = after[number] = self.desired.get(number)
            if body is None:
                deletes.append(number)
            else:
                (adds if actual is None else modifies).append(WireGroup(number, body))
        return GroupChanges(tuple(adds), tuple(modifies), tuple(deletes)), after

    def _note_stale(self, endpoints: EndpointChanges) -> None:
        """Note the endpoints of UDP that are on the switch and no more desired."""
        actual = self.differences if self.dump_is_current else {}
        for number in {*filter(is_udp_group, actual), *endpoints.before}:
            had = nat_targets(WireGroup(number, actual.get(number) or b"")) | endpoints.before.get(number, set())
            if had:
                wanted = nat_targets(WireGroup(number, self.desired.get(number, b"")))
                self.stale |= had - wanted - endpoints.after.get(number, set())

    def take_stale(self) -> tuple[NatTarget, ...]:
        """The endpoints whose connections are to be flushed now, each once; port 0 and address 0 are all of a zone."""
        found, self.stale = self.stale, set()
        if self.refused:
            return ()
        if len(found) > MOST_STALE:
            found = {NatTarget(zone, 0, 0, 0) for zone in {target.zone for target in found}}
        return tuple(sorted(found))

    @property
    def problem(self) -> str:
        """Why UDP connections outlive their endpoint here; "" where they do not, or no switch was asked yet."""
        return f"{self.refused}: UDP connections to endpoints that are gone end only when idle" if self.refused else ""
