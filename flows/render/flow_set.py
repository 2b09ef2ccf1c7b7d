"""Collects rendered flows: checks each against the pipeline's declaration and keeps one flow for one match.

Short names for the terms that many flows share stand here too. Which flows there are is said in the render modules.
"""

from __future__ import annotations

from collections.abc import Iterable

from flows.cluster.net import Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action
from flows.openflow.flow import Flow
from flows.openflow.match import FlowError, Match, Term, exactly, masked, match
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.tables import Table, check_flow

IPV4 = exactly(oxm.ETH_TYPE, oxm.ETH_IPV4)
IPV6 = exactly(oxm.ETH_TYPE, oxm.ETH_IPV6)
ARP = exactly(oxm.ETH_TYPE, oxm.ETH_ARP)
FAMILIES = (IPV4, IPV6)
ICMPV6 = (IPV6, exactly(oxm.IP_PROTO, oxm.IP_PROTO_ICMPV6))
MULTICAST = masked(oxm.ETH_DST, 1 << 40, 1 << 40)  # the group bit, IEEE 802.3 section 3.2.3
TRACKED = masked(oxm.CT_STATE, oxm.CtState.TRK, oxm.CtState.TRK | oxm.CtState.INV)
RELATED = masked(oxm.CT_STATE, oxm.CtState.REL | oxm.CtState.TRK, oxm.CtState.REL | oxm.CtState.TRK | oxm.CtState.INV)

_ADDRESS_FIELDS = {
    "source": (oxm.IPV4_SRC, oxm.IPV6_SRC),
    "destination": (oxm.IPV4_DST, oxm.IPV6_DST),
    "initiator": (oxm.CT_NW_SRC, oxm.CT_IPV6_SRC),
    "responder": (oxm.CT_NW_DST, oxm.CT_IPV6_DST),
}


class FlowSet:
    """Flows by what identifies them on a switch: table, priority, match."""

    def __init__(self) -> None:
        self._flows: dict[tuple[int, int, Match], Flow] = {}

    def add(
        self,
        table: Table,
        priority: int,
        terms: Iterable[Term],
        actions: Iterable[Action] = (),
        goto: Table | None = None,
        owner: int = cookie(CookieKind.PIPELINE),
    ) -> None:
        """Add one flow; no actions and no `goto` drops. The same flow twice is kept once, with the smaller cookie.

        Raises FlowError when another flow with this match does something else, PipelineError when it is not declared.
        """
        flow = Flow(table.number, priority, match(*terms), tuple(actions), goto.number if goto else None, owner)
        key = (flow.table, flow.priority, flow.match)
        old = self._flows.get(key)
        if old is not None:
            if (old.actions, old.goto) != (flow.actions, flow.goto):
                raise FlowError(f"two flows with one match in table {table.name}: {old} and {flow}")
            if old.cookie <= flow.cookie:
                return
        self._flows[key] = check_flow(flow)

    def flows(self) -> list[Flow]:
        """All flows, in the order they were first added."""
        return list(self._flows.values())


def address_terms(role: str, net: Net) -> tuple[Term, ...]:
    """Terms that match a prefix in a role: `source`, `destination` of the packet, `initiator`, `responder` of the
    connection."""
    family = IPV4 if net.version == 4 else IPV6
    if net.prefix == 0:
        return (family,)
    field = _ADDRESS_FIELDS[role][0 if net.version == 4 else 1]
    return family, masked(field, net.value, net.mask)
