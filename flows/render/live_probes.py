"""The flows for packets that `headgate explain --live` sends: where they end, a copy goes to the controller instead.

Such a packet comes from the controller alone, by packet-out with PROBED set: no packet from a port has that bit. It
passes the tables as if its pod had sent it, but it is not recorded, passes no meter, and is sent to nobody: see
docs/adr/0023.
"""

from __future__ import annotations

from flows.openflow.actions import Output
from flows.openflow.match import in_range
from flows.openflow.port_numbers import CONTROLLER_32
from flows.pipeline import priorities, tables
from flows.pipeline.registers import PROBED
from flows.render.flow_set import FlowSet


def render_live_probes(flows: FlowSet, routes: bool) -> None:
    """The flows of one bridge; `routes`: its switch routes, and translates addresses of Services."""
    probed, copy = [in_range(PROBED, 1)], [Output(CONTROLLER_32)]
    flows.add(tables.LIMIT, priorities.LIMIT_PROBED, probed, goto=tables.COMMIT)
    flows.add(tables.COMMIT, priorities.COMMIT_PROBED, probed, goto=tables.OUTPUT)
    for table, priority in (
        (tables.DESTINATION, priorities.DESTINATION_PROBED),
        (tables.EGRESS_DEFAULT, priorities.DEFAULT_PROBED),
        (tables.INGRESS_DEFAULT, priorities.DEFAULT_PROBED),
        (tables.INVALID, priorities.INVALID_PROBED),
        (tables.OUTPUT, priorities.OUTPUT_PROBED),
        *(((tables.SERVICE, priorities.SERVICE_PROBED),) if routes else ()),
    ):
        flows.add(table, priority, probed, copy)
