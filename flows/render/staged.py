"""The flows that tell what the promotion of staged policies would change, for packets of pods that one selects.

Theory of operation. A staged policy is not in force: no flow of tables `egress` and `ingress` knows it. Beside them
stand `staged_egress` and `staged_ingress`, with all rules of its namespace as they are once promoted. The flows of a
pod's port load, into a register that nothing else reads, that a staged policy selects the pod. Table `direction` looks
such a packet up there first, and then goes on as ever:

    direction > (staged_egress > staged_ingress) > direction > egress > ingress > limit

The look-up only notes what it would deny. Then the packet is counted once, for its subject, in `staged_change`: at
`limit`, where all allowed packets pass, if it was noted; at `egress_default` or `ingress_default`, where denied ones
end, if it was not. What tier Admin accepts or denies, promotion does not change: its rules clear or set the note.

Nothing here drops or sends. A bridge without a pod that a staged policy selects has none of these flows. The rules
themselves are in `rules`, the counters in `pods`. What this cannot tell is in docs/adr/0027-staged-policies.md.
"""

from __future__ import annotations

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Move, Resubmit
from flows.openflow.match import Term, in_range, masked
from flows.openflow.register_bits import Range
from flows.pipeline import priorities, tables
from flows.pipeline.registers import (
    DESTINATION_EGRESS_STAGED,
    DESTINATION_INGRESS_STAGED,
    EGRESS_STAGED,
    INGRESS_STAGED,
    INITIATOR_OFPORT,
    NODE_ITSELF,
    RESPONDER_OFPORT,
    SOURCE_EGRESS_STAGED,
    SOURCE_INGRESS_STAGED,
    STAGED_CHANGE,
    STAGED_COUNTED,
    STAGED_DENIES_EGRESS,
    STAGED_DENIES_INGRESS,
    STAGED_LOOKED_UP,
    Interpretation,
    StagedBit,
    StagedChange,
)
from flows.pipeline.table import Table
from flows.render.flow_set import FlowSet
from flows.render.interpretations import OPENING, REPLYING, interpreted
from flows.render.rules import STAGED_STAGES
from flows.render.terms import ct_state_term

_NOTES = ((STAGED_STAGES[0], STAGED_DENIES_EGRESS), (STAGED_STAGES[1], STAGED_DENIES_INGRESS))


def render_staged(flows: FlowSet) -> None:
    """All of them."""
    _look_up(flows)
    for side in (INITIATOR_OFPORT, RESPONDER_OFPORT):
        flows.add(tables.STAGED_EGRESS, priorities.STAGED_NODE, [in_range(side, NODE_ITSELF)])
    for stage, note in _NOTES:
        not_isolated = [_bit(stage.applies, StagedBit.ISOLATED, 0)]
        flows.add(stage.table, priorities.STAGED_NOT_ISOLATED, not_isolated, goto=stage.onward)
        flows.add(stage.table, priorities.STAGED_DENIED, (), [Load(note, 1)], stage.onward)
    _count_denied(flows)
    _count_allowed(flows)


def _bit(place: Range, bit: StagedBit, value: int) -> Term:
    """A bit of a range for staged policies is set (1) or not (0)."""
    return masked(place.register, place.place(bit if value else 0), place.place(bit))


def _look_up(flows: FlowSet) -> None:
    """Packets of or to a pod that a staged policy selects: as `render_direction`, but they come back here."""
    tracked = ct_state_term(0, 0)
    replies: tuple[Action, ...] = (
        *REPLYING,
        Move(DESTINATION_EGRESS_STAGED, EGRESS_STAGED),
        Move(SOURCE_INGRESS_STAGED, INGRESS_STAGED),
    )
    opens: tuple[Action, ...] = (
        *OPENING,
        Move(SOURCE_EGRESS_STAGED, EGRESS_STAGED),
        Move(DESTINATION_INGRESS_STAGED, INGRESS_STAGED),
    )
    once: tuple[Action, ...] = (
        Load(STAGED_LOOKED_UP, 1),
        Resubmit(tables.STAGED_EGRESS.number),
        Resubmit(tables.DIRECTION.number),
    )
    is_reply = ct_state_term(oxm.CtState.RPL, oxm.CtState.RPL)
    of_reply = DESTINATION_EGRESS_STAGED, SOURCE_INGRESS_STAGED
    of_opening = SOURCE_EGRESS_STAGED, DESTINATION_INGRESS_STAGED
    kinds: tuple[tuple[int, list[Term], tuple[Action, ...], tuple[Range, Range]], ...] = (
        (
            priorities.DIRECTION_AS_REPLY_STAGED,
            [tracked, interpreted(Interpretation.AS_REPLY)],
            replies,
            of_reply,
        ),
        (priorities.DIRECTION_REPLY_STAGED, [is_reply], replies, of_reply),
        (priorities.DIRECTION_ORIGINAL_STAGED, [tracked], opens, of_opening),
    )
    for priority, terms, actions, places in kinds:
        for place in places:
            selected = [*terms, in_range(STAGED_LOOKED_UP, 0), _bit(place, StagedBit.SELECTED, 1)]
            flows.add(tables.DIRECTION, priority, selected, [*actions, *once])


def _count_denied(flows: FlowSet) -> None:
    """What passes now, and would be denied at one end or both."""
    for egress, ingress in ((1, 1), (1, 0), (0, 1)):
        noted = [
            in_range(STAGED_COUNTED, 0), in_range(STAGED_DENIES_EGRESS, egress),
            in_range(STAGED_DENIES_INGRESS, ingress),
        ]  # fmt: skip
        changes = [StagedChange.EGRESS_DENIED] * egress + [StagedChange.INGRESS_DENIED] * ingress
        flows.add(tables.LIMIT, priorities.LIMIT_STAGED, noted, _counted(changes, tables.LIMIT))


def _count_allowed(flows: FlowSet) -> None:
    """What is denied now at an end that would allow it."""
    for table, (stage, note), change in (
        (tables.EGRESS_DEFAULT, _NOTES[0], StagedChange.EGRESS_ALLOWED),
        (tables.INGRESS_DEFAULT, _NOTES[1], StagedChange.INGRESS_ALLOWED),
    ):
        selected = _bit(stage.applies, StagedBit.SELECTED, 1)
        not_noted = [in_range(STAGED_LOOKED_UP, 1), in_range(STAGED_COUNTED, 0), in_range(note, 0), selected]
        flows.add(table, priorities.DEFAULT_STAGED, not_noted, _counted([change], table))


def _counted(changes: list[StagedChange], back: Table) -> list[Action]:
    """Count these changes, once for each packet, and go on in table `back`."""
    actions: list[Action] = [Load(STAGED_COUNTED, 1)]
    for change in changes:
        actions += [Load(STAGED_CHANGE, change), Resubmit(tables.STAGED_CHANGE.number)]
    return [*actions, Load(STAGED_CHANGE, 0), Resubmit(back.number)]
