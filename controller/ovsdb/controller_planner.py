"""Plans a bridge's Controller rows, so that its switch connects to this Headgate once; says why it has not connected.

Headgate's own row is marked in external_ids; rows of the operator are never changed. An operator's row may lead to this
Headgate under a name or address that cannot be recognised. So before Headgate adds a row beside the operator's, it
waits for the switch to connect by one of these (`_leads_elsewhere`): two rows to the same controller would give the
switch two sessions. Transactions must not live here: see `writer`.

Example: the operator has set `tcp:headgate.example:6653`. The host name does not say whether this is the same
controller, so the planner waits for the grace, or for max_backoff longer if the row is not connected. If the switch
gets a session meanwhile, no row is added; otherwise Headgate adds a row with its own address.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from controller.config.addresses import canonical_address
from controller.ovsdb import bridge_settings
from controller.ovsdb.settings_rows import ControllerStatus
from controller.ovsdb.sharing import Sharing
from controller.ovsdb.targets import controller_target, is_numeric, is_this_controller, same_endpoint
from controller.peers.backoff import Backoff
from controller.status import away_reasons

SESSION_POLL_SECONDS = 0.25  # between two checks for an OpenFlow session
MISSING_POLL_SECONDS = 1.0  # the same, while the switch is known to have none
FIRST_OVERWRITE_PAUSE, MAX_OVERWRITE_PAUSE = (
    2.0,
    60.0,
)  # seconds, before Headgate restores its target


@dataclass(frozen=True)
class BridgeConfig:
    """What Headgate sets on the bridges it manages: their names, the flow tables' names, and the OpenFlow listener.

    `openflow` is the listener's (host, port), `method` tcp or ssl; without `openflow` no Controller is written.
    `connected` returns the session number of a datapath id, 0 without a session, from any thread. `grace` is in
    seconds. `routes`: the bridges route, and get the settings of the network that their database has for them; else
    they lose such settings. `sharing`: what is written, and which controllers the other replicas are.
    """

    bridges: frozenset[str]
    tables: Mapping[int, str] = field(default_factory=dict)
    openflow: tuple[str, int] | None = None
    connected: Callable[[int], int] = lambda dpid: 0
    grace: float = bridge_settings.CONTROLLER_GRACE
    method: str = "tcp"
    routes: bool = False
    sharing: Sharing = field(default_factory=Sharing)

    def target(self, local: str) -> str:
        """The OpenFlow target for a switch whose OVSDB connection has this local address; empty without a listener."""
        if self.openflow is None:
            return ""
        return controller_target(self.openflow, canonical_address(local) if local else "", self.method)


def others_to_add(bridge: bridge_settings.BridgeSettings, others: Collection[str]) -> list[str]:
    """The other replicas' targets, apart from those that the operator's rows lead to.

    None where the operator has a row with a host name: it may lead to any replica, and a second row would give the
    switch two sessions with it.
    """
    theirs = [row.target for row in bridge.controllers if not row.ours and row.target.startswith(("tcp:", "ssl:"))]
    if not all(map(is_numeric, theirs)):
        return []
    return [one for one in others if not any(same_endpoint(one, row) for row in theirs)]


@dataclass(frozen=True)
class ControllerPlan:
    """The operations for one bridge, seconds until the next check (None: only when something changes), notes for the
    operator, and the away reason of a switch without a session.
    """

    operations: list[bridge_settings.Operation] = field(default_factory=list)
    again: float | None = None
    notes: tuple[str, ...] = ()
    away: str = ""


@dataclass
class WatchedControllers:
    """A bridge with Controllers of the operator only, none of which is recognised as this Headgate.

    `session` was up when these targets appeared: a session that ends with the targets before them proves nothing.
    `believed` is the last time at which one of them may have led to this Headgate.
    """

    targets: frozenset[str]
    session: int
    since: float
    believed: float


class ControllerPlanner:
    """Plans the Controller rows of one database's bridges. It belongs to the connection's thread.

    `session_missing` says that a switch of the last round had no session. `status` is the last queried status of the
    Controllers, by row uuid.
    """

    def __init__(self, config: BridgeConfig) -> None:
        self._config = config
        self._watched: dict[str, WatchedControllers] = {}
        self._backoff: Backoff[str] = Backoff(FIRST_OVERWRITE_PAUSE, MAX_OVERWRITE_PAUSE, MAX_OVERWRITE_PAUSE)
        self._seen_targets: dict[str, str] = {}  # the target in Headgate's own row, by the bridge's uuid
        self.status: dict[str, ControllerStatus] = {}
        self.session_missing = False

    def keep_only(self, bridges: Collection[str]) -> None:
        """Forget bridges that are not among these uuids."""
        for uuid in self._watched.keys() - set(bridges):
            del self._watched[uuid]

    def plan(self, now: float, bridge: bridge_settings.BridgeSettings, dpid: int, local: str | None) -> ControllerPlan:
        """The plan for one bridge. `dpid` is 0 without a datapath id; `local` is this end's address of the OVSDB
        connection, empty for a unix socket, None while there is no connection.
        """
        listen = self._config.openflow
        if listen is None or local is None:
            return ControllerPlan()
        target = self._config.target(local)
        leads_here = partial(is_this_controller, ours=target, listen=listen)
        session = self._config.connected(dpid) if dpid else 0
        shared = self._config.sharing.shared  # then the OVSDB's lock tells who may write
        rival = "" if session or shared else self._rival(bridge, target, leads_here)
        if rival:
            return ControllerPlan(again=1.0, notes=(rival,), away=away_reasons.RIVAL)
        theirs = [row for row in bridge.controllers if not row.ours]
        add, again = False, None
        if theirs and len(theirs) == len(bridge.controllers) and not any(leads_here(row.target) for row in theirs):
            add = self._leads_elsewhere(now, bridge, session if dpid else None)
            again = None if add else SESSION_POLL_SECONDS
        else:
            self._watched.pop(bridge.uuid, None)
        others = self._config.sharing.others
        operations = bridge_settings.plan_controller(bridge, target, leads_here, add, others_to_add(bridge, others))
        if operations and (wait := self._backoff.left(bridge.uuid, now)):
            return ControllerPlan(again=wait, away="" if session else away_reasons.RIVAL)
        if not shared:  # replicas write each other's rows; their lock, not this pause, keeps them from fighting
            self._count_overwrites(now, bridge, target)
        if session or not dpid:
            return ControllerPlan(operations, again)
        self.session_missing = True
        reason = away_reasons.reason_of_controllers(
            bridge.controllers, lambda it: it == target or leads_here(it), self._last_error
        )
        again = min(again or MISSING_POLL_SECONDS, MISSING_POLL_SECONDS)
        return ControllerPlan(operations, again, self._missing_note(bridge, target), reason)

    def _last_error(self, controller: str) -> str:
        status = self.status.get(controller)
        return status.error if status is not None and not status.connected else ""

    def _leads_elsewhere(self, now: float, bridge: bridge_settings.BridgeSettings, session: int | None) -> bool:
        """Whether the operator's Controllers have had time to connect here, and none has.

        A session of the switch shows that one leads here, for as long as it lasts. A session that was up before these
        targets counts only after the grace, because it may be about to end. `session` is None without a datapath id.
        """
        targets = frozenset(row.target for row in bridge.controllers)
        watched = self._watched.get(bridge.uuid)
        if watched is None or watched.targets != targets:
            watched = self._watched[bridge.uuid] = WatchedControllers(targets, session or 0, now, now)
        grace = self._config.grace
        if session is None or (session and (session != watched.session or now - watched.since >= grace)):
            watched.believed = now
        tried = [self.status.get(row.uuid) for row in bridge.controllers]
        failed = all(one is not None and one.error and not one.connected for one in tried)
        patience = grace if failed else bridge_settings.controller_patience(bridge.controllers, grace)
        return now - watched.believed >= patience

    @staticmethod
    def _rival(bridge: bridge_settings.BridgeSettings, target: str, leads_here: Callable[[str], bool]) -> str:
        """A note on another Headgate whose Controller row the switch is connected to; else empty."""
        for row in bridge.controllers:
            if row.ours and row.connected and row.target != target and not leads_here(row.target):
                return (
                    f"bridge {bridge.name}: another Headgate at {row.target} writes this bridge; only one may serve it"
                )
        return ""

    def _count_overwrites(self, now: float, bridge: bridge_settings.BridgeSettings, target: str) -> None:
        """Wait longer after each time that another writer replaces the target in Headgate's own row."""
        for row in bridge.controllers:
            if not row.ours:
                continue
            if self._seen_targets.get(bridge.uuid) == target != row.target:
                self._backoff.failed(bridge.uuid, now)
            self._seen_targets[bridge.uuid] = row.target

    def _missing_note(self, bridge: bridge_settings.BridgeSettings, target: str) -> tuple[str, ...]:
        """A note on a switch without a session: its Controllers with their errors, and the command that sets this one.

        None before the first status query.
        """
        if not self.status:
            return ()
        found = []
        for row in sorted(bridge.controllers, key=lambda row: row.target):
            status = self.status.get(row.uuid)
            how = "connected" if row.connected else (status.error if status is not None else "") or "not connected"
            found.append(f"{row.target} ({how})")
        note = (
            f"bridge {bridge.name}: the switch has no OpenFlow session here; its controllers: "
            f"{', '.join(found) or 'none'}; Headgate listens at {target}; to connect the switch to it: "
            f"ovs-vsctl set-controller {bridge.name} {target}"
        )
        return (note,)
