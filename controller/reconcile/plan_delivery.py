"""Gives each switch the flows of its bridge's plan: what differs, or all where it serves another bridge than before.

What raises for one bridge is contained here: its switch keeps what it has, and gets all with the next delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from controller.reconcile.contained_errors import ContainedErrors
from controller.reconcile.held_answers import HeldAnswers
from controller.reconcile.port_marking import PortMarker
from controller.reconcile.roles import Roles
from controller.reconcile.switch import Switch
from flows.bridge.claim_contest import BridgeName
from flows.plan.bridge_plans import ChangedFlows
from flows.plan.rejected_objects import describe_error
from flows.plan.world import World
from flows.render.cache_marks import mark_use
from flows.wire.values import Body, FlowKey

Changed = Mapping[FlowKey, Body | None]  # the flows of a bridge that differ, with their bodies before


class PlanDelivery:
    """`switch` returns the switch of a datapath id, a new one where there is none; `let_go` takes
    its flows from a switch that serves its bridge no more. Both see to it that the switch is asked for commands."""

    def __init__(
        self,
        world: World,
        roles: Roles,
        held_answers: HeldAnswers,
        marker: PortMarker,
        switch: Callable[[int], Switch],
        let_go: Callable[[int], None],
        errors: ContainedErrors,
    ) -> None:
        self._world = world
        self._roles = roles
        self._held_answers = held_answers
        self._marker = marker
        self._switch = switch
        self._let_go = let_go
        self._errors = errors
        self._failed: set[BridgeName] = set()  # bridges that raised
        self._serving: dict[BridgeName, int] = {}  # bridges whose switches have desired flows, with the datapath id

    def start_over(self) -> None:
        """Whatever switches were given before does not count."""
        self._serving.clear()

    @property
    def is_due(self) -> bool:
        """Whether a delivery is to be tried again."""
        return bool(self._failed)

    def deliver(
        self, replanned: set[BridgeName], changed: ChangedFlows, revision: int, names_only: bool = False
    ) -> None:
        """The plans of `replanned` bridges are new, or not the same as at the last delivery; `changed` has the flows
        that differ, of those bridges whose plans existed before. `names_only`: only what pods learned changed."""
        again, self._failed = self._failed, set()
        replanned = replanned | again
        for name in sorted(replanned & self._serving.keys()):
            self._try(name, self._release_other, name)
        for name in sorted(replanned - self._failed):
            self._try(name, self._give, name, changed.get(name), revision, names_only and name not in again)

    def _try(self, name: BridgeName, work: Callable[..., None], *arguments: object) -> None:
        subject = f"flows of bridge {name[1]} at {name[0]}"
        if self._errors.reasons:
            self._errors.clear(subject)
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
            self._errors.add(subject, error)
            self._failed.add(name)
            if (dpid := self._serving.pop(name, None)) is not None:
                self._switch(dpid).release(describe_error(error))

    def _release_other(self, name: BridgeName) -> None:
        if self._world.served_dpid(name) != self._serving[name]:
            self._release(name)

    def _give(self, name: BridgeName, changed: Changed | None, revision: int, names_only: bool) -> None:
        dpid = self._world.served_dpid(name)
        if dpid is not None:
            self._roles.set_served(dpid, name)
            self._serving[name] = dpid
            self._set_desired(dpid, name, changed, revision, names_only)

    def _release(self, name: BridgeName) -> None:
        """A bridge is not served by its switch any more. `_set_desired` follows if another bridge is."""
        dpid = self._serving.pop(name)
        self._roles.set_served(dpid, self._world.owners.served(dpid))
        self._let_go(dpid)

    def _set_desired(
        self, dpid: int, name: BridgeName, changed: Changed | None, revision: int, names_only: bool
    ) -> None:
        switch = self._switch(dpid)
        if not names_only:
            self._marker.note([name])
        plan = self._world.plan_of(name)
        bridge = self._world.bridges[name]
        switch.cache_marks.use = mark_use(bridge.datapath_type, bridge.ovs_version)
        if plan is None:
            self._held_answers.set_listening(dpid, False)
        if plan is None and not self._roles.plans(name) and switch.desired_revision < 0:
            return  # another replica plans it, and did before
        if plan is None:
            switch.release("")
        elif switch.desired is not plan.flows or changed is not None:
            self._held_answers.set_listening(dpid, bool(plan.answers.ports))
            switch.set_groups(plan.groups.desired, plan.groups.take())
            switch.set_desired(plan.flows, changed or {}, revision, names_only)
