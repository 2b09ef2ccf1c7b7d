"""Flows that the pipeline does not declare are refused, with the table's name."""

from __future__ import annotations

import pytest

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Ct, Resubmit
from flows.openflow.flow import Flow
from flows.openflow.match import exactly, match
from flows.pipeline.registers import CONNTRACK_ZONE
from flows.pipeline.tables import CLASSIFY, CONNTRACK, OUTPUT, TABLES, TABLES_BY_NAME, PipelineError, check_flow


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (Flow(3, 1, ()), "table 3 is not declared"),
        (Flow(OUTPUT.number, 1, match(exactly(oxm.IN_PORT, 1))), "table output does not declare a match on in_port"),
        (Flow(CLASSIFY.number, 1, (), (), OUTPUT.number), "table classify does not lead to output"),
        (Flow(CLASSIFY.number, 1, (), (Resubmit(9),)), "table classify does not lead to 9"),
        (
            Flow(CONNTRACK.number, 1, (), (Ct(CONNTRACK_ZONE, OUTPUT.number),)),
            "table conntrack does not lead to output",
        ),
    ],
)
def test_a_flow_that_is_not_declared_is_refused(flow: Flow, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        check_flow(flow)


def test_tables_lead_to_declared_tables() -> None:
    assert len({table.number for table in TABLES}) == len(TABLES)
    for table in TABLES:
        assert set(table.leads_to) <= TABLES_BY_NAME.keys()
