"""The flows that copy packets of audited pods to the controller.

Theory of operation. Where a packet of an audited pod is dropped, or opens a connection, a flow loads the reason into
register AUDITED and sends the packet to table `audit` as well. There it passes a meter of the pod that sent it; a
packet that comes from elsewhere passes a meter of the pod that it is for. In `report` it passes a meter of the bridge,
and is copied to the controller. What a meter drops is only not reported: it was dropped in any case, or is on its way.

    egress_default, ingress_default    what policy denied                                   > deny, and audit
    classify, invalid, destination     what is dropped there                                > audit
    commit                             opens a connection: recorded and sent as always, then > audit
    audit                              meter of a pod                                       > report
    report                             meter of the bridge, copy

A bridge without an audited pod has none of these flows, and where switches have no meters no bridge has. The flows that
are always there do not differ, so that what is not audited costs nothing. Example, pod at ofport 5, its egress audited:

    egress_default  reg2=5       actions=load:1->AUDITED,resubmit(deny),goto_table:audit
    audit           in_port=5    meter:0x484a0005,goto_table:report
    audit           reg1=5       meter:0x484b0005,goto_table:report
    report          any          meter:0x48490002,controller

Must not live here: who is audited; see `flows.policy.audited_pods`.
"""

from __future__ import annotations

from collections.abc import Iterable

from flows.bridge.routing import Routing
from flows.bridge.state import PodBinding
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Meter, Output, Resubmit
from flows.openflow.match import exactly, in_range
from flows.openflow.port_numbers import CONTROLLER_32
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.pod_limits import CopyReason, Limit, meter_number
from flows.pipeline.registers import (
    AUDITED,
    DESTINATION_OFPORT,
    INTERPRETATION,
    RECORDED,
    SOURCE_OFPORT,
    Audited,
    Interpretation,
)
from flows.policy.rule import NO_WATCH, Applies, Watch
from flows.render.flow_set import FlowSet
from flows.render.terms import IS_OPENING, address_terms

AUDIT_COOKIE = cookie(CookieKind.AUDIT)
# What the first packet of a connection has, before it was reported.
_OPENS = ((RECORDED, 0), (AUDITED, Audited.NOT), (INTERPRETATION, Interpretation.AS_TRACKED))


def watched(pod: PodBinding, applies: frozenset[Applies]) -> frozenset[Watch]:
    """What of a pod's packets is audited; nothing where the switch cannot limit the copies."""
    found = frozenset([one for one in applies if isinstance(one, Watch)])
    return found if Limit.SENT_REPORTS in pod.limits else NO_WATCH


def is_audited(applies: Iterable[Applies]) -> bool:
    """Whether anything of a pod's packets is audited."""
    return any(isinstance(one, Watch) and one is not Watch.SENDER for one in applies)


def reported(reason: Audited) -> list[Action]:
    """The action before table `audit`."""
    return [Load(AUDITED, reason)]


def render_pod_audit(flows: FlowSet, pod: PodBinding, watch: frozenset[Watch], port_cookie: int) -> None:
    """The flows of one pod's port that only audit has; the others are in `pods`."""
    if not watch:
        return
    sent: list[Action] = [Meter(meter_number(Limit.SENT_REPORTS, pod.ofport))]
    in_port = [exactly(oxm.IN_PORT, pod.ofport)]
    flows.add(tables.AUDIT, priorities.AUDIT_OF_SENDER, in_port, sent, tables.REPORT, port_cookie)
    if watch != {Watch.SENDER}:
        received: list[Action] = [Meter(meter_number(Limit.RECEIVED_REPORTS, pod.ofport))]
        to_pod = [in_range(DESTINATION_OFPORT, pod.ofport)]
        flows.add(tables.AUDIT, priorities.AUDIT_OF_RECEIVER, to_pod, received, tables.REPORT, port_cookie)
    if Watch.DROPS in watch:
        # Above the other pods' own, so that what is theirs is reported for the pod that sends it.
        forged = reported(Audited.FORGED)
        flows.add(tables.CLASSIFY, priorities.CLASSIFY_AUDITED, in_port, forged, tables.AUDIT, port_cookie)
    if Watch.OPENED in watch:
        again: list[Action] = [*reported(Audited.OPENED), Resubmit(tables.COMMIT.number)]
        opens = [IS_OPENING, *(in_range(*one) for one in _OPENS)]
        for end in (SOURCE_OFPORT, DESTINATION_OFPORT):
            here = [*opens, in_range(end, pod.ofport)]
            flows.add(tables.COMMIT, priorities.COMMIT_AUDITED, here, again, tables.AUDIT, port_cookie)


def render_audit(flows: FlowSet, routing: Routing) -> None:
    """The flows of a bridge that has an audited pod."""
    copy: list[Action] = [Meter(meter_number(Limit.COPIES, CopyReason.AUDITED)), Output(CONTROLLER_32)]
    flows.add(tables.AUDIT, priorities.MISS, (), goto=tables.REPORT, cookie=AUDIT_COOKIE)
    flows.add(tables.REPORT, priorities.MISS, (), copy, cookie=AUDIT_COOKIE)
    nobody = reported(Audited.NOBODY)
    flows.add(tables.DESTINATION, priorities.DESTINATION_NOBODY, (), nobody, tables.AUDIT, AUDIT_COOKIE)
    for net in routing.own.pod_cidrs if routing.routes and routing.own else ():
        there = address_terms("destination", net)
        flows.add(tables.DESTINATION, priorities.DESTINATION_NO_POD_AUDITED, there, nobody, tables.AUDIT, AUDIT_COOKIE)
