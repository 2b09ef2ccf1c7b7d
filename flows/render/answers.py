"""The flows that bring DNS of pods to the controller, for rules with domain names (docs/adr/0021).

Theory of operation. A packet on its way out of the pipeline, policy has allowed it, whose connection a pod opened to a
port of a DNS server, is looked at in table `answers`, once. There, a pod's query is copied to the controller, and what
the server sends to the pod goes to the controller alone, which opens what the answer says and then sends the packet
through the pipeline again, marked as released. So the pod never knows an address that is not open to it.

Only pods that some rule with names selects have these flows. They act only while table `listening` has its flow, which
ends by itself when the controller does not renew it: then answers pass as if there were no such rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flows.cluster.model import Protocol
from flows.cluster.net import Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Ct, HandOver, Load, Meter, Resubmit
from flows.openflow.flow import Flow
from flows.openflow.match import exactly, in_range
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.pod_limits import Limit, meter_number
from flows.pipeline.registers import CONNTRACK_ZONE, DESTINATION_OFPORT, HEARD, RELEASED, SOURCE_OFPORT
from flows.render.flow_set import FlowSet
from flows.render.services import CONNECTION_MARKS
from flows.render.terms import IS_NEW, IS_NO_FRAGMENT, IS_TRACKED, address_terms, ct_state_term

LISTENING_SECONDS = 10  # how long the flow in table `listening` lasts


class DnsServer(NamedTuple):
    """A port at which answers of DNS count, by TCP and UDP."""

    address: Net
    port: int = 53


def render_dns_servers(flows: FlowSet, servers: Iterable[DnsServer], userspace: bool) -> None:
    """What is looked at: DNS with any of these servers. The connection's original direction is from pod to server.
    Fragments are not: one that was held would not find the others in the reassembly behind it.

    A packet that was recorded does not know its connection any more, until conntrack looks it up again. On the
    userspace datapath every recorded packet is; on the kernel's only those that open a connection to such a server.
    """
    for server in servers:
        for protocol in (Protocol.TCP, Protocol.UDP):
            terms = [
                IS_TRACKED,
                IS_NO_FRAGMENT,
                in_range(RELEASED, 0),
                *address_terms("responder", server.address),
                exactly(oxm.CT_NW_PROTO, protocol),
                exactly(oxm.CT_TP_DST, server.port),
            ]
            look: list[Action] = [Load(RELEASED, 1), Resubmit(tables.LISTENING.number)]
            flows.add(tables.OUTPUT, priorities.OUTPUT_DNS, terms, look, tables.ANSWERS)
            if not userspace and protocol is Protocol.UDP:
                opens = [IS_NEW, *(term for term in terms if term is not IS_TRACKED)]
                record = Ct(CONNTRACK_ZONE, tables.OUTPUT.number, commit=True, marks=CONNECTION_MARKS)
                flows.add(tables.COMMIT, priorities.COMMIT_NEW_QUERY, opens, [record])
    back: list[Action] = [Resubmit(tables.OUTPUT.number)]
    flows.add(tables.ANSWERS, priorities.MISS, (), back)


def render_held_answers(flows: FlowSet, ofport: int) -> None:
    """Hold what DNS servers send to the pod at this port, and copy its queries. TCP needs no queries: the numbers of
    its bytes show that an answer is the server's."""
    meter = Meter(meter_number(Limit.DNS, ofport))
    of_port = cookie(CookieKind.DNS, ofport)
    heard = in_range(HEARD, 1)
    reply, original = (ct_state_term(flag, oxm.CtState.RPL) for flag in (oxm.CtState.RPL, 0))
    held = [heard, reply, in_range(DESTINATION_OFPORT, ofport)]
    flows.add(tables.ANSWERS, priorities.ANSWERS_HELD, held, [meter, HandOver()], cookie=of_port)
    query = [heard, original, in_range(SOURCE_OFPORT, ofport), exactly(oxm.CT_NW_PROTO, Protocol.UDP)]
    copied: list[Action] = [meter, HandOver(), Resubmit(tables.OUTPUT.number)]
    flows.add(tables.ANSWERS, priorities.ANSWERS_QUERY, query, copied, cookie=of_port)


def listening_flow() -> Flow:
    """The flow of table `listening`. It is sent with a timeout of LISTENING_SECONDS."""
    flows = FlowSet()
    flows.add(tables.LISTENING, priorities.LISTENING_NOW, (), [Load(HEARD, 1)], cookie=cookie(CookieKind.LEARNED))
    (flow,) = flows.flows()
    return flow
