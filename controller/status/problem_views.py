"""Problems that `/status` shows beside those of the sources: switches that no OVSDB has, and foreign flows."""

from __future__ import annotations

from controller.reconcile.reconciler import Reconciler
from controller.status.foreign_flows import describe_foreign
from controller.status.model import ProblemView
from flows.pipeline.tables import TABLE_NAMES

MAX_FOREIGN_PROBLEMS = 3  # foreign flows of a switch that are problems each; `headgate flows --foreign` has more
FOREIGN_FLOW = "a flow that Headgate did not make stands in its tables, delete it if nobody needs it"


def unknown_switches(core: Reconciler) -> tuple[ProblemView, ...]:
    """Switches that are connected and that no OVSDB knows."""
    claimed = {bridge.dpid for bridge in core.world.bridges.values()}
    strange = [dpid for dpid, switch in core.switches.items() if switch.session and dpid not in claimed]
    reason = "its OpenFlow connection is up, but no OVSDB that is reached has a bridge of ours with this datapath id"
    return tuple(ProblemView(f"switch {dpid:016x}", "", "", f"{reason}; it gets no flows") for dpid in sorted(strange))


def foreign_flow_problems(core: Reconciler) -> tuple[ProblemView, ...]:
    """Flows in tables of ours that Headgate did not make: what policy says may not hold beside them."""
    found = []
    for name, bridge in core.world.bridges.items():
        switch = core.switch_of(name)
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
