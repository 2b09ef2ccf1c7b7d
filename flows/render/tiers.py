"""The flows around the rules of ClusterNetworkPolicies: which packets come to the tables of tiers, and where they go.

Theory of operation. The flows of a pod's port load the tiers that have rules for the pod. Table `direction` sends a
connection through the four tables of tiers where there are rules for either end, else straight to `egress`:

    direction > admin_egress > baseline_egress > admin_ingress > baseline_ingress > egress > ingress > limit

Accept of tier Admin clears the register that says that NetworkPolicies isolate the subject, and passes over Baseline.
Deny goes to `egress_refused` or `ingress_refused`. Anything else goes on with the next table. The verdict is that of
both ends, so the order of the two directions does not matter. What the node opens to its own pods has no policy; what
they open to it has that of tiers alone.

A bridge without a pod that has such rules has none of these flows. The rules themselves are in `rules`.
"""

from __future__ import annotations

from flows.cluster.model import Tier
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Move
from flows.openflow.match import Term, in_range
from flows.openflow.register_bits import Range
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    DESTINATION_EGRESS_TIERS,
    DESTINATION_INGRESS_TIERS,
    EGRESS_TIERS,
    INGRESS_TIERS,
    INITIATOR_OFPORT,
    NODE_ITSELF,
    SOURCE_EGRESS_TIERS,
    SOURCE_INGRESS_TIERS,
    Interpretation,
    TierBit,
)
from flows.render.flow_set import FlowSet
from flows.render.interpretations import OPENING, REPLYING, interpreted
from flows.render.rules import TIER_STAGES, tier_term
from flows.render.same_port import look_up_same_port
from flows.render.terms import IP_FAMILIES, IS_FRAGMENT, IS_SCTP, ct_state_term


def render_tiers(flows: FlowSet, userspace: bool, closed: bool = False) -> None:
    """All of them. `closed`: whatever a rule might decide is denied, for the rules cannot be rendered."""
    _direct(flows)
    of_node = [in_range(INITIATOR_OFPORT, NODE_ITSELF)]
    flows.add(tables.ADMIN_EGRESS, priorities.TIERS_NODE, of_node, goto=tables.LIMIT)
    for stage in TIER_STAGES:
        flows.add(stage.table, priorities.TIERS_NONE, [tier_term(stage.applies, stage.bit, 0)], goto=stage.onward)
        if userspace:
            # Ports of SCTP are not seen in a fragment there, so a rule that denies some of them would not match.
            unseen = [IS_SCTP, IS_FRAGMENT, *([in_range(stage.isolated, 0)] if stage.tier is Tier.BASELINE else [])]
            for family in IP_FAMILIES:
                flows.add(stage.table, priorities.TIERS_UNSEEN_PORTS, [family, *unseen], goto=stage.refused)
        if closed:
            flows.add(stage.table, priorities.TIERS_CLOSED, (), goto=stage.refused)
        flows.add(stage.table, priorities.MISS, (), goto=stage.onward)
    for table, default in (
        (tables.EGRESS_REFUSED, tables.EGRESS_DEFAULT),
        (tables.INGRESS_REFUSED, tables.INGRESS_DEFAULT),
    ):
        look_up_same_port(flows, table, priorities.REFUSED_SAME_PORT, default)
        flows.add(table, priorities.MISS, (), goto=default)


def _direct(flows: FlowSet) -> None:
    """Connections with rules of a tier for either end: as `render_direction`, and on to the tables of tiers."""
    tracked = ct_state_term(0, 0)
    replies: list[Action] = [
        *REPLYING,
        Move(DESTINATION_EGRESS_TIERS, EGRESS_TIERS),
        Move(SOURCE_INGRESS_TIERS, INGRESS_TIERS),
    ]
    opens: list[Action] = [
        *OPENING,
        Move(SOURCE_EGRESS_TIERS, EGRESS_TIERS),
        Move(DESTINATION_INGRESS_TIERS, INGRESS_TIERS),
    ]
    is_reply = ct_state_term(oxm.CtState.RPL, oxm.CtState.RPL)
    of_reply, of_opening = (
        (DESTINATION_EGRESS_TIERS, SOURCE_INGRESS_TIERS), (SOURCE_EGRESS_TIERS, DESTINATION_INGRESS_TIERS),
    )  # fmt: skip
    kinds: tuple[tuple[int, list[Term], list[Action], tuple[Range, Range]], ...] = (
        (
            priorities.DIRECTION_AS_REPLY_TIERED,
            [tracked, interpreted(Interpretation.AS_REPLY)],
            replies,
            of_reply,
        ),
        (priorities.DIRECTION_REPLY_TIERED, [is_reply], replies, of_reply),
        (priorities.DIRECTION_ORIGINAL_TIERED, [tracked], opens, of_opening),
    )
    for priority, terms, actions, places in kinds:
        for place in places:
            for bit in TierBit:
                selected = [*terms, tier_term(place, bit, 1)]
                flows.add(tables.DIRECTION, priority, selected, actions, tables.ADMIN_EGRESS)
