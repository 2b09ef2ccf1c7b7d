"""A datapath id and a node's name stay with whom they belong to, while real OVSDBs claim them and after they left."""

from __future__ import annotations

import pytest

from controller.cli import main
from tests.helpers.controller.claiming_nodes import (
    DENY,
    attach,
    call,
    flows,
    honest,
    liar,
    peers,
    plain,
    pod,
    policy,
    put,
    view,
)
from tests.helpers.controller.headgate_process import Headgate
from tests.helpers.ovs.node import Node
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch

P1, P2, EVIL = pod("p1", "n1", "10.0.0.11"), pod("p2", "n2", "10.0.0.12"), pod("evil", "evil", "10.0.0.66")
# The pipeline turned round: n1's true uplink becomes the port of evil's pod, the isolated pod's port the uplink.
TURNED = {1: {"iface-id": "x/evil"}, 2: {"headgate-role": "uplink"}}
TOLD = "192.0.2.1"
TICK = policy("tick", {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": f"{TOLD}/32"}}]}]})
CONTEST = "is used by bridge br-int"


def served(run: Headgate, ovsdb: str) -> None:
    until(lambda: view(run, ovsdb).get("in_sync"), f"{ovsdb} in sync")


def toggled(run: Headgate, node: Node) -> list[str]:
    """The node's flows after a policy came and went: whatever was told before is handled by then, and it is served."""
    before = flows(node)
    put(run, "tick", TICK)
    until(lambda: peers(node) >= {TOLD}, "the policy")
    put(run, "tick")
    until(lambda: flows(node) == before, "the policy gone, and nothing else")
    return before


@pytest.mark.parametrize("system_id", ["aaa", "zzz"])
def test_a_stolen_datapath_id_changes_nothing(system_id: str) -> None:
    with plain(P1, EVIL) as run, honest("n1", 0x1001, {"p1": 2}) as n1:
        put(run, "deny", DENY)
        call(n1, run)
        served(run, "n1")
        before = toggled(run, n1)
        with liar("evil", system_id, 0x1001, TURNED) as thief:
            call(thief, run, controller=False)
            until(lambda: CONTEST in view(run, system_id).get("error", ""), "the contest told")
            assert toggled(run, n1) == before
            assert not view(run, system_id)["in_sync"] and view(run, "n1")["in_sync"] and not view(run, "n1")["error"]
            assert not any(one["installed"] for one in run.status()["pods"] if one["key"] == "x/evil")
            for line in ('in_sync{bridge="br-int",node="n1"} 1.0', 'in_sync{bridge="br-int",node="evil"} 0.0'):
                until(lambda line=line: f"headgate_switch_{line}" in run.get("/metrics"), line)  # type: ignore[misc]
            assert 'away{bridge="br-int",node="evil",reason="contested"} 1.0' in run.get("/metrics")
            assert main(["--server", run.url, "status", "--wait", "--timeout", "1"]) != 0
        until(lambda: not view(run, system_id).get("ovsdb_connected"), "it has left")
        assert toggled(run, n1) == before


@pytest.mark.parametrize("system_id", ["aaa", "zzz"])
def test_a_node_that_was_installed_again_is_served_at_once(system_id: str) -> None:
    with plain(P1) as run:
        put(run, "deny", DENY)
        with honest("n1", 0x1001, {"p1": 2}, "nnn") as old:
            call(old, run)
            served(run, "nnn")
        with honest("n1", 0x1001, {"p1": 7}, system_id) as new:
            call(new, run)
            served(run, system_id)
            until(lambda: new.get("Interface", "p1", "external_ids").count("headgate-installed=true"), "the mark")
            assert any("in_port=7" in line for line in flows(new))
            assert [one["node"] for one in run.status()["pods"] if one["key"] == "x/p1" and one["installed"]] == ["n1"]
            toggled(run, new)
            assert main(["--server", run.url, "status", "--wait", "--timeout", "30"]) == 0


def test_a_node_under_anothers_name_tells_no_addresses() -> None:
    bare = pod("bare", "n2", app="bare")
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "bare"}}}]}
    let_in = policy("let-in", {"podSelector": {}, "ingress": [rule]})
    said = {1: {"iface-id": "x/bare", "ip_addresses": "6.6.6.6"}}
    with (
        plain(P1, bare, let_in) as run,
        honest("n1", 0x1001, {"p1": 2}) as n1,
        honest("n2", 0x1002, {}) as n2,
    ):
        put(run, "deny", DENY)
        for node, ovsdb in ((n1, "n1"), (n2, "n2")):
            call(node, run)
            served(run, ovsdb)
        known = peers(n1)
        for system_id, dpid in (("aliar", 0xBAD), ("zliar", 0xBAE)):
            with liar("n2", system_id, dpid, said) as node:
                call(node, run, controller=False)
                until(lambda own=system_id: "claims too" in view(run, own).get("error", ""), "told")  # type: ignore[misc]
                toggled(run, n1)
                assert peers(n1) == known
                # And it speaks for n2 in no metric.
                until(lambda: 'headgate_switch_connected{bridge="br-int",node="n2"} 1.0' in run.get("/metrics"))
                assert "headgate_switch_away{" not in run.get("/metrics")
            until(lambda own=system_id: not view(run, own).get("ovsdb_connected"), "it has left")  # type: ignore[misc]
            assert peers(n1) == known
        attach(n2, "bare", 7, "external_ids:ip_addresses=10.0.0.55")
        until(lambda: peers(n1) == known | {"10.0.0.55"}, "the address that the pod's own node says")
