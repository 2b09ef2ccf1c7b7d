"""One certificate binds OVSDB, OpenFlow and Node: with another's name and datapath id a real node gets nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.base.hub import HUBS
from controller.cli import main
from tests.helpers.controller.claiming_nodes import DENY, attach, bridge, call, flows, know, name, pod, put, view
from tests.helpers.controller.headgate_process import Pki, SecureNode, headgate
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki") / "pki")


@pytest.fixture
def nodes(pki: Pki) -> Iterator[tuple[SecureNode, SecureNode]]:
    """n1, and evil, which has its own certificate but claims n1's identity in everything else."""
    made = []
    try:
        for own in ("n1", "evil"):
            node = SecureNode(pki.switch(own))
            made.append(node)
            name(node, "n1", own)
            bridge(node, 0x1001)
            attach(node, "p1", 2 if own == "n1" else 9)
        yield made[0], made[1]
    finally:
        for node in made:
            node.stop()


@pytest.mark.parametrize("hub", HUBS)
def test_a_node_with_its_own_certificate_gets_nothing_of_anothers(
    hub: str, pki: Pki, nodes: tuple[SecureNode, SecureNode]
) -> None:
    n1, evil = nodes
    with headgate(hub, pki) as run:
        know(run, pod("p1", "n1", "10.0.0.11"), pod("evil", "evil", "10.0.0.66"))
        put(run, "deny", DENY)
        # It is first with everything that n1 has but the certificate: OVSDB, OpenFlow session, datapath id and name.
        call(evil, run)
        until(
            lambda: "certificate names another node than" in view(run, "evil").get("error", ""),
            "the Node's name refused",
        )
        assert not evil.flows() and not view(run, "evil")["in_sync"]
        call(n1, run)
        until(lambda: view(run, "n1").get("in_sync"), "n1 in sync")
        until(lambda: n1.get("Interface", "p1", "external_ids").count("headgate-installed=true"), "n1's mark")
        mine = flows(n1)
        assert any("in_port=2" in line for line in mine) and not any("in_port=9" in line for line in mine)
        # By its own name the datapath id still is not its own; its OpenFlow session has found no place either.
        name(evil, "evil", "evil")
        attach(evil, "evil", 8)
        until(lambda: "datapath id 0000000000001001" in view(run, "evil").get("error", ""), "the datapath id refused")
        put(run, "deny")
        until(lambda: flows(n1) != mine, "a policy's end at n1")
        put(run, "deny", DENY)
        until(lambda: flows(n1) == mine, "the policy at n1")
        assert not evil.flows() and not view(run, "evil")["in_sync"] and view(run, "n1")["in_sync"]
        assert "headgate-installed" not in evil.vsctl("list", "Interface")
        pods = {one["key"]: one["node"] for one in run.status()["pods"] if one["installed"]}
        assert pods == {"x/p1": "n1"}
        # What is its own it has at once.
        evil.vsctl("set", "Bridge", "br-int", "other_config:datapath-id=0000000000006666")
        until(lambda: view(run, "evil").get("in_sync"), "evil's own switch")
        assert any("in_port=8" in line for line in evil.flows())
        assert not any("10.0.0.11" in line and "in_port=9" in line for line in evil.flows())
        assert flows(n1) == mine
        assert main(["--server", run.url, "status", "--switches"]) == 0
