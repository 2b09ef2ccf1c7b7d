"""Three real controllers on a real API server and real switches: one is killed, stopped, restarted, cut off."""

from __future__ import annotations

import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.replicas import Replica, logs, until_divided
from tests.helpers.controller.tcp_proxy import Proxy
from tests.helpers.ovs.flow_dumps import without_cache_mark
from tests.helpers.ovs.node import Node
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.switch]
NODES = {"n0", "n1", "n2"}
LEASE_SECONDS = 4.0
CLUSTER_POLICY_CRD = ROOT / "tests/helpers/api_server/crds/clusternetworkpolicies.yaml"
CLUSTER_POLICY: dict[str, Any] = {
    "apiVersion": "policy.networking.k8s.io/v1beta1",
    "kind": "ClusterNetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {
        "tier": "Admin",
        "priority": 3,
        "subject": {"namespaces": {}},
        "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
    },
}


@dataclass
class Fleet:
    """Three replicas that reach the API server through `proxy`, and three nodes."""

    api: ApiServer
    proxy: Proxy
    replicas: list[Replica]
    nodes: dict[str, Node]

    def owner(self, node: str) -> Replica:
        return next(one for one in self.replicas if node in one.primary())

    def others(self, *but: Replica) -> list[Replica]:
        return [one for one in self.replicas if one not in but]

    def all_back(self) -> None:
        until_divided(self.replicas, NODES)
        until(lambda: all(one.ready() for one in self.replicas), lambda: logs(self.replicas))
        # The replicas know one view: a later one that only some have read would move switches yet.
        until(self.one_view, lambda: logs(self.replicas))
        # Members all, and each switch with its owner: so that the next test begins as this one did.
        until(lambda: all(one["owner"] and one["primary"] for one in self.switches()), lambda: logs(self.replicas))
        owners = {one["node"]: one["owner"] for one in self.switches()}
        until(lambda: self.owners() == owners, lambda: logs(self.replicas))

    def one_view(self) -> bool:
        statuses = [one.status() for one in self.replicas]
        known = {status.get("epoch") for status in statuses}
        members = [one["member"] for status in statuses for one in status.get("replicas", ())]
        return len(known) == 1 and members == [True] * len(self.replicas) ** 2

    def switches(self) -> list[dict[str, Any]]:
        return list(self.replicas[0].status(local=False)["switches"])

    def owners(self) -> dict[str, str]:
        return {node: one.name for one in self.replicas for node in one.primary()}

    def flows(self) -> dict[str, list[str]]:
        found = {}
        for name, node in self.nodes.items():
            lines = node.ofctl("-O", "OpenFlow14", "--no-stats", "dump-flows", node.management()).splitlines()
            found[name] = without_cache_mark(lines)
        return found

    def pod(self, name: str, node: str) -> None:
        """A pod without an address of its own, and its port."""
        metadata = {"name": name, "namespace": "default"}
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "none"}]}
        self.api.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
        self.port(name, node)

    def port(self, name: str, node: str) -> None:
        number = int(name[1:])
        self.nodes[node].add_port(name, f"external_ids:iface-id=default/{name}",
                                  f'external_ids:attached-mac="02:00:00:00:00:{number:02x}"',
                                  f"external_ids:ip_addresses=10.9.0.{number}")  # fmt: skip

    def installed(self, name: str, node: str) -> bool:
        return "headgate-installed" in self.nodes[node].get("Interface", name, "external_ids")


@pytest.fixture(scope="module")
def fleet(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("replicas")
    nodes = {name: Node() for name in sorted(NODES)}
    proxy = Proxy(api.port)
    replicas: list[Replica] = []
    try:
        for name, node in nodes.items():
            node.add_bridge()
            node.vsctl("set", "Open_vSwitch", ".", f"external_ids:hostname={name}", f"external_ids:system-id={name}")
        api.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in nodes])
        kubeconfig = api.credentials(folder, proxy.port)
        remotes = [one.remote for one in nodes.values()]
        replicas = [Replica(f"r{number}", folder, kubeconfig, remotes) for number in range(3)]
        for one in replicas:
            one.start()
        found = Fleet(api, proxy, replicas, nodes)
        found.all_back()
        yield found
    finally:
        for one in replicas:
            one.end(signal.SIGKILL)
        proxy.close()
        for node in nodes.values():
            node.stop()
        api.kubectl("delete", "--all", "--ignore-not-found", "leases", "-n", "headgate")
        api.try_kubectl("delete", "--ignore-not-found", "-f", str(CLUSTER_POLICY_CRD))
        api.kubectl("delete", "node,pod", "--all", "--grace-period=0", "--force", "-n", "default")


def test_every_switch_has_one_primary_and_any_replica_answers_for_all(fleet: Fleet) -> None:
    for one in fleet.replicas:
        # The switches may have their owners before a replica knows that the last one has joined.
        until(lambda one=one: all(it["member"] for it in one.status(local=False)["replicas"]))  # type: ignore[misc]
        status = one.status(local=False)
        assert {switch["node"]: switch["owner"] for switch in status["switches"]} == fleet.owners()
        assert all(switch["in_sync"] and switch["primary"] for switch in status["switches"])
        assert [(it["name"], it["member"], it["alive"]) for it in status["replicas"]] == [
            ("r0", True, True), ("r1", True, True), ("r2", True, True)
        ]  # fmt: skip
        assert sum(it["primary"] for it in status["replicas"]) == 3
        assert status["replica"] == one.name
        assert one.get("/wait?timeout=10")["realized"]
    generations = [int(switch["generation"], 16) >> 32 for switch in fleet.switches()]
    leases = {one["metadata"]["name"]: one["spec"] for one in fleet.api.get("leases", "-n", "headgate")["items"]}
    assert leases.keys() == {"headgate", "headgate-r0", "headgate-r1", "headgate-r2"}
    assert leases["headgate-r1"]["holderIdentity"] == "r1"
    assert max(generations) <= leases["headgate"]["leaseTransitions"]
    for node in fleet.nodes.values():
        assert len(node.vsctl("--bare", "--columns=target", "list", "Controller").split()) == 3


def test_a_killed_replica_is_replaced_and_nothing_is_sent(fleet: Fleet) -> None:
    victim = fleet.owner("n0")
    before, rest = fleet.flows(), fleet.others(victim)
    sent = {one.name: one.log.read_text().count("changing flows") for one in rest}
    victim.end(signal.SIGKILL)
    until_divided(rest, NODES)
    assert fleet.flows() == before
    assert {one.name: one.log.read_text().count("changing flows") for one in rest} == sent
    victim.start()
    fleet.all_back()
    assert fleet.flows() == before


def test_a_stopped_replica_that_comes_back_steps_down_and_says_so(fleet: Fleet) -> None:
    victim = fleet.owner("n1")
    began = len(victim.log.read_text())
    fleet.pod("p1", "n1")
    until(lambda: fleet.installed("p1", "n1"), lambda: logs(fleet.replicas))
    victim.send(signal.SIGSTOP)
    stopped_at = time.monotonic()
    rest = fleet.others(victim)
    until_divided(rest, NODES)
    fleet.pod("p2", "n1")  # its port is marked by the new owner, which takes the OVSDB's lock
    until(lambda: fleet.installed("p2", "n1"), lambda: logs(fleet.replicas))
    time.sleep(max(0.0, 2 * LEASE_SECONDS - (time.monotonic() - stopped_at)))
    victim.send(signal.SIGCONT)
    until(lambda: "this one steps down there" in victim.log.read_text()[began:], lambda: logs(fleet.replicas))
    until(lambda: "it steps down, and joins again" in victim.log.read_text()[began:], lambda: logs(fleet.replicas))
    fleet.all_back()
    assert fleet.installed("p1", "n1")
    assert fleet.installed("p2", "n1")


def test_while_the_api_server_is_away_for_all_nobody_steps_down(fleet: Fleet) -> None:
    before = fleet.owners()
    epochs = {one.status()["epoch"] for one in fleet.replicas}
    fleet.pod("p3", "n0")
    until(lambda: fleet.installed("p3", "n0"), lambda: logs(fleet.replicas))
    with fleet.proxy.away():
        fleet.nodes["n0"].vsctl("del-port", "p3")
        time.sleep(2 * LEASE_SECONDS)
        assert fleet.owners() == before
        fleet.port("p3", "n0")  # of a pod that is known
        until(lambda: fleet.installed("p3", "n0"), lambda: logs(fleet.replicas))
        assert all(one.said("the last known view stays in force") for one in fleet.replicas)
    until(
        lambda: all(one.status()["sources"][0]["reason"] == "" for one in fleet.replicas), lambda: logs(fleet.replicas)
    )
    assert fleet.owners() == before
    assert {one.status()["epoch"] for one in fleet.replicas} == epochs


def test_a_rolling_restart_changes_no_flow_and_hands_over_at_once(fleet: Fleet) -> None:
    before = fleet.flows()
    for one in fleet.replicas:
        rest = fleet.others(one)
        assert one.end() == 0
        until_divided(rest, NODES, LEASE_SECONDS + 20)
        one.start()
        fleet.all_back()
    assert fleet.flows() == before


def realized(fleet: Fleet) -> tuple[str, str, int]:
    """Status, message and generation of the policy's condition."""
    found = fleet.api.get("clusternetworkpolicy", "deny").get("status", {}).get("conditions") or []
    one: dict[str, Any] = next((one for one in found if one["type"] == "Realized"), {})
    return one.get("status", ""), one.get("message", ""), one.get("observedGeneration", 0)


@pytest.mark.slow
def test_a_policy_is_realized_only_where_all_replicas_say_so(fleet: Fleet) -> None:
    """Whoever writes its condition: the switches of the others count, too."""
    fleet.api.kubectl("apply", "--server-side", "-f", str(CLUSTER_POLICY_CRD))
    fleet.api.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CLUSTER_POLICY_CRD))
    for number, node in enumerate(sorted(NODES), 5):
        fleet.pod(f"p{number}", node)
    fleet.api.apply([CLUSTER_POLICY])
    until(lambda: realized(fleet) == ("True", "", 1), lambda: logs(fleet.replicas))
    assert len(set(fleet.owners().values())) > 1
    for node, switch in fleet.nodes.items():
        switch.kill_switch()
        until(lambda node=node: realized(fleet) == ("False", f"not yet realized on {node}", 1))  # type: ignore[misc]
        switch.start_switch()
        until(lambda: realized(fleet)[0] == "True", lambda: logs(fleet.replicas))
    victim = fleet.owner("n0")
    victim.send(signal.SIGSTOP)  # it is unknown whether n0 has what it did not have before, until another one serves it
    fleet.api.apply([{**CLUSTER_POLICY, "spec": {**CLUSTER_POLICY["spec"], "priority": 7}}])
    until(lambda: realized(fleet)[::2] == ("True", 2), lambda: logs(fleet.replicas))
    assert "n0" in {node for one in fleet.others(victim) for node in one.primary()}
    victim.send(signal.SIGCONT)
    fleet.all_back()


def test_metrics_say_who_serves_what(fleet: Fleet) -> None:
    def value(one: Replica, name: str) -> float:
        with urllib.request.urlopen(f"{one.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def total(name: str) -> float:
        return sum(value(one, name) for one in fleet.replicas)

    def agree() -> bool:
        totals = [total(f"headgate_{name}") for name in ("switch_primary", "switch_in_sync", "switches_owned")]
        members = [total(f"headgate_{name}") for name in ("replica_members", "replicas_alive")]
        return totals == [3, 3, 3] and members == [9, 9]

    until(agree, lambda: logs(fleet.replicas))  # gauges are set once in a while
    assert len({value(one, "headgate_replica_epoch") for one in fleet.replicas}) == 1
    assert total("headgate_takeover_seconds_count") >= 3
