"""Gives each switch the flows of its bridge's plan: what differs, or all where it serves another bridge than before."""

from __future__ import annotations

from collections.abc import Callable

from controller.reconcile.held_answers import HeldAnswers
from controller.reconcile.port_marking import PortMarker
from controller.reconcile.roles import Roles
from controller.reconcile.switch import Switch
from flows.bridge.claim_contest import BridgeName
from flows.plan.bridge_plans import ChangedFlows
from flows.plan.world import World
from flows.render.cache_marks import mark_use


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
    ) -> None:
        self._world = world
        self._roles = roles
        self._held_answers = held_answers
        self._marker = marker
        self._switch = switch
        self._let_go = let_go
        self._serving: dict[BridgeName, int] = {}  # bridges whose switches have desired flows, with the datapath id

    def start_over(self) -> None:
        """Whatever switches were given before does not count."""
        self._serving.clear()

    def deliver(self, replanned: set[BridgeName], changed: ChangedFlows, revision: int) -> None:
        """The plans of `replanned` bridges are new, or not the same as at the last delivery; `changed` has the flows
        that differ, of those bridges whose plans existed before."""
        for name in replanned & self._serving.keys():
            if self._world.served_dpid(name) != self._serving[name]:
                self._release(name)
        for name in sorted(replanned):
            dpid = self._world.served_dpid(name)
            if dpid is not None:
                self._roles.set_served(dpid, name)
                self._serving[name] = dpid
                self._set_desired(dpid, name, changed, revision)

    def _release(self, name: BridgeName) -> None:
        """A bridge is not served by its switch any more. `_set_desired` follows if another bridge is."""
        dpid = self._serving.pop(name)
        self._roles.set_served(dpid, self._world.owners.served(dpid))
        self._let_go(dpid)

    def _set_desired(self, dpid: int, name: BridgeName, changed: ChangedFlows, revision: int) -> None:
        switch = self._switch(dpid)
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
        elif switch.desired is not plan.flows or name in changed:
            self._held_answers.set_listening(dpid, bool(plan.answers.ports))
            switch.set_groups(plan.groups.desired, plan.groups.take())
            switch.set_desired(plan.flows, changed.get(name, {}), revision)
