"""Fragments of a packet that opens a connection to a Service, on the userspace datapath.

There only the first fragment has ports, so only that one can be sent to an endpoint; but conntrack's reassembly holds
fragments back until all have come, and carries out what the last of them asks for. So the first has to be the last:

1. Each later fragment leaves a copy in the reassembly of SERVICE_ZONE, and all meet in that of EMPTY_CONNTRACK_ZONE.
   When the first fragment leaves it, all copies wait. The zone that it was looked up in last tells how far it is.
2. The later ones end there. The first is looked up among the Services, and passes SERVICE_ZONE whatever comes of that:
   translated, untranslated or refused. It completes the packet there, and takes the copies with it on its way.

Reassembly tells apart what was recirculated with different registers, and by groups. So no register may change between
the two steps, and what has ports in UDP has no groups on this datapath (`flows.services.endpoints`).

What is recorded goes on as such, though conntrack calls it new until it is answered: it has its endpoint already.

Nothing leaves without the first fragment, and nothing on another way. The kernel's datapath reassembles before it looks
flows up, so no fragment comes here.
"""

from __future__ import annotations

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Clone, Ct, Load, Nat
from flows.openflow.match import exactly, in_range, masked
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    CLAIMED,
    EMPTY_CONNTRACK_ZONE,
    LOOKED_UP,
    RECORDED,
    SERVICE_ZONE,
    THROUGH_SERVICE,
)
from flows.render.flow_set import FlowSet
from flows.render.terms import IP_FAMILIES, IS_FRAGMENT, IS_LATER_FRAGMENT, IS_OPENING

TRANSLATED_ONCE: tuple[Load, ...] = (Load(LOOKED_UP, 1), Load(THROUGH_SERVICE, 1))
_STATE = oxm.CtState
_IS_EXPIRED = masked(oxm.CT_STATE, _STATE.INV, _STATE.INV | _STATE.TRK)
_LOOKED_UP = exactly(oxm.CT_ZONE, SERVICE_ZONE)
_MET = exactly(oxm.CT_ZONE, EMPTY_CONNTRACK_ZONE)


def render_service_fragments(flows: FlowSet) -> None:
    """The same on all bridges with the userspace datapath that route."""
    service = tables.SERVICE
    meet = Ct(EMPTY_CONNTRACK_ZONE, service.number)
    for family in IP_FAMILIES:
        for table in (tables.CONNTRACK, tables.DIRECT, service):
            # Any ct() may let out expired fragments of another connection; they must not be held once more.
            flows.add(table, priorities.SERVICE_EXPIRED, [family, _IS_EXPIRED])
        unanswered = [family, IS_OPENING, _LOOKED_UP, IS_FRAGMENT, in_range(RECORDED, 1)]
        translate: list[Action] = [*TRANSLATED_ONCE, Ct(SERVICE_ZONE, tables.CONNTRACK.number, nat=Nat())]
        flows.add(
            service, priorities.SERVICE_FRAGMENT, [*unanswered, in_range(CLAIMED, 0)], TRANSLATED_ONCE, tables.CONNTRACK
        )
        flows.add(service, priorities.SERVICE_FRAGMENT, [*unanswered, in_range(CLAIMED, 1)], translate)
        opening = [family, IS_OPENING, _LOOKED_UP, in_range(RECORDED, 0)]
        copied: list[Action] = [Clone(Ct(SERVICE_ZONE)), meet]
        flows.add(service, priorities.SERVICE_FRAGMENT, [*opening, IS_FRAGMENT], [meet])
        flows.add(service, priorities.SERVICE_LATER_FRAGMENT, [*opening, IS_LATER_FRAGMENT], copied)
        flows.add(service, priorities.SERVICE_LATER_FRAGMENT, [family, _MET, IS_LATER_FRAGMENT])
        for table in (tables.CONNTRACK, tables.REFUSE):
            complete = [Ct(SERVICE_ZONE, table.number)]
            flows.add(table, priorities.WITH_COPIES, [family, _MET, IS_FRAGMENT], complete)
