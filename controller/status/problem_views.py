"""Problems that `/status` shows beside those of the sources: switches that no OVSDB has, and foreign flows."""

from __future__ import annotations

from controller.reconcile.reconciler import Reconciler
from controller.status.foreign_flows import describe_foreign
from controller.status.model import ProblemView
from flows.pipeline.tables import TABLE_NAMES

MAX_FOREIGN_PROBLEMS = 3  # of a bridge; `headgate flows --foreign` lists all
FOREIGN_FLOW = "Headgate's tables have a flow that Headgate did not make; delete it if it is not needed"


def unknown_switches(reconciler: Reconciler) -> tuple[ProblemView, ...]:
    """Switches with an OpenFlow session whose datapath id is in no OVSDB."""
    claimed = {bridge.dpid for bridge in reconciler.world.bridges.values()}
    unknown = [dpid for dpid, switch in reconciler.switches.items() if switch.session and dpid not in claimed]
    reason = "it has an OpenFlow session, but no connected OVSDB has a bridge of Headgate with this datapath id"
    return tuple(ProblemView(f"switch {dpid:016x}", "", "", f"{reason}; it gets no flows") for dpid in sorted(unknown))


def foreign_flow_problems(reconciler: Reconciler) -> tuple[ProblemView, ...]:
    """Flows in Headgate's tables that Headgate did not make: with them, policies may not be enforced."""
    found = []
    for name, bridge in reconciler.world.bridges.items():
        switch = reconciler.switch_of(name)
        flows = switch.foreign_flows if switch is not None else ()
        where = f"{bridge.node or bridge.ovsdb} ({bridge.name})"
        for flow, _ in flows[:MAX_FOREIGN_PROBLEMS]:
            match, actions = describe_foreign(flow)
            place = f"table={TABLE_NAMES[flow.table]}, priority={flow.priority}"
            text = f"{place}{',' if match else ''}{match} actions={actions or 'drop'}"
            found.append(ProblemView(where, "", "", f"{FOREIGN_FLOW}: {text}"))
        if len(flows) > MAX_FOREIGN_PROBLEMS:
            found.append(
                ProblemView(where, "", "", f"{FOREIGN_FLOW}: {len(flows) - MAX_FOREIGN_PROBLEMS} more or many more")
            )
    return tuple(sorted(found, key=lambda one: (one.where, one.reason)))


def flush_problems(reconciler: Reconciler) -> tuple[ProblemView, ...]:
    """Switches that cannot end the UDP connections to an endpoint that is gone."""
    found = []
    for name, bridge in reconciler.world.bridges.items():
        switch = reconciler.switch_of(name)
        if switch is not None and switch.groups.problem:
            where = f"{bridge.node or bridge.ovsdb} ({bridge.name})"
            found.append(ProblemView(where, "", "", switch.groups.problem))
    return tuple(sorted(found, key=lambda one: one.where))
