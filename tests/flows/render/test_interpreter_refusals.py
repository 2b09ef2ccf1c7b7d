"""The interpreter refuses flows that the switch refuses, and flows whose effect on the switch is undefined."""

from __future__ import annotations

import pytest

from flows.cluster.net import parse_address
from flows.interpret import packet as packets
from flows.interpret.flow_lookup import Ambiguous, Refused
from flows.interpret.interpreter import Interpreter
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Conjunction, Ct, Output, Resubmit
from flows.openflow.flow import Flow
from flows.openflow.match import Match, exactly, masked, match
from flows.openflow.match_fields import CtState, Fragment
from tests.helpers.datapath.interpreter_twin import ANY_TABLE
from tests.helpers.datapath.learning import learn_reply
from tests.helpers.ovs.open_vswitch import OpenVSwitch, module_ovs

__all__ = ["module_ovs"]

SCTP_MATCH = (exactly(oxm.ETH_TYPE, oxm.ETH_IPV4), exactly(oxm.IP_PROTO, oxm.IP_PROTO_SCTP))
LATER = masked(oxm.IP_FRAG, Fragment.LATER, Fragment.LATER)
TRACKED = masked(oxm.CT_STATE, CtState.TRK, CtState.TRK | CtState.INV)
IP = [exactly(oxm.ETH_TYPE, oxm.ETH_IPV4), exactly(oxm.ETH_TYPE, oxm.ETH_IPV6)]


def conflicting(first: Flow, second: Flow) -> Interpreter:
    return Interpreter([first, second], tables=ANY_TABLE)


def bare(table: int, terms: Match, *actions: object, goto: int | None = None) -> Flow:
    return Flow(table, 5, terms, actions, goto)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "refused",
    [
        bare(0, match(*SCTP_MATCH, exactly(oxm.SCTP_DST, 0), LATER), Output(1)),
        bare(0, (), Ct(7, 1)),
        bare(0, (), Conjunction(1, 1, 2), Output(2)),
        bare(0, (), Conjunction(1, 3, 2)),
        bare(0, (), Conjunction(1, 1, 1)),
        bare(0, (), Conjunction(1, 1, 2), goto=2),
        bare(5, (), goto=5),
        bare(5, (), goto=3),
        bare(5, (IP[0],), Ct(7, 255)),
        bare(5, (IP[0],), learn_reply(4)),
        bare(5, (IP[1], exactly(oxm.IP_PROTO, oxm.IP_PROTO_SCTP)), learn_reply(4)),
    ],
    ids=lambda one: str(one.actions or one.goto)[:40],
)
def test_what_the_switch_refuses_is_refused(module_ovs: OpenVSwitch, refused: Flow) -> None:
    with pytest.raises(Refused):
        Interpreter([refused], tables=ANY_TABLE)
    bridge = module_ovs.bridges.get("br-refuse") or module_ovs.add_bridge("br-refuse")
    assert not bridge.takes(refused)


@pytest.mark.parametrize(
    "terms",
    [
        (exactly(oxm.IPV4_SRC, 5),),
        (TRACKED, exactly(oxm.CT_TP_DST, 5)),
        (exactly(oxm.CT_NW_PROTO, 5),),
        (IP[0], exactly(oxm.IN_PORT, 1)),
    ],
    ids=["prerequisite", "ct_tp_dst alone", "untracked", "order"],
)
def test_a_match_without_its_prerequisites_is_refused(terms: Match) -> None:
    with pytest.raises(Refused):
        Interpreter([bare(0, terms)])


def test_what_is_undefined_is_refused() -> None:
    with pytest.raises(Refused):
        Interpreter([bare(0, (exactly(oxm.CONJ_ID, 1),), Conjunction(1, 1, 2))])
    with pytest.raises(Refused):
        conflicting(bare(0, (), Conjunction(1, 1, 2)), bare(0, (exactly(oxm.IN_PORT, 1),), Conjunction(1, 1, 3)))
    with pytest.raises(Refused):
        conflicting(bare(0, ()), bare(0, (), Output(1)))
    with pytest.raises(Refused):
        Interpreter([bare(0, (), Resubmit(9))])
    both = conflicting(bare(0, (IP[0],), Output(1)), bare(0, (exactly(oxm.IN_PORT, 1),), Output(2)))
    with pytest.raises(Ambiguous):
        both.receive(1, packets.transport(parse_address("10.0.0.1"), parse_address("10.0.0.2"), 17, 1, 1))
