"""Replicas die, stop and end under traffic: what is allowed loses nothing, what is denied never passes, and a changed
policy takes effect while one of them is away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.replicas import Replica, logs, until_divided
from tests.helpers.lab.policies import policies
from tests.helpers.lab.traffic import Record, flows, go_on, sends
from tests.helpers.lab.truth_lab import NODES, world_lab
from tests.helpers.ovs.daemons import END_WITH_PARENT
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until
from tests.packets.test_restart import under_traffic
from topology.lab.lab import Lab
from topology.lab.manifests import cluster_objects

pytestmark = [pytest.mark.lab, pytest.mark.slow]
SETTINGS = {"HEADGATE_REPLICA": "r0", "HEADGATE_LEASE_DURATION": "4s", "HEADGATE_RENEW_INTERVAL": "500ms"}


@pytest.fixture(scope="module")
def lab(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab whose own controller, on an API server, is the replica r0."""
    with world_lab(cluster=api.cluster(tmp_path_factory.mktemp("replicas")), environment=SETTINGS) as one:
        yield one
        objects = cluster_objects(one.topology, one.endpoints)
        one.objects.delete(item for item in objects if item["kind"] != "Namespace")
    api.kubectl("delete", "--all", "--ignore-not-found", "leases", "-n", "headgate")


@pytest.fixture
def others(lab: Lab, tmp_path: Path) -> Iterator[list[Replica]]:
    """Two more replicas at the lab's switches."""
    assert lab.cluster is not None
    remotes = lab.product.ovsdbs
    found = [Replica(name, tmp_path, lab.cluster.kubeconfig, remotes) for name in ("r1", "r2")]
    relay = start_relay(lab, tmp_path, [one.openflow_port for one in found])
    try:
        for one in found:
            one.start()
        until(lambda: all(one.ready() for one in found), lambda: logs(found))
        yield found
    finally:
        for one in found:
            one.end(signal.SIGKILL)
        relay.kill()
        relay.wait()


def start_relay(lab: Lab, folder: Path, ports: list[int]) -> subprocess.Popen[bytes]:
    """A relay from the nodes' namespaces to these ports, as the lab has one for its own controller."""
    job = [
        {"netns": str(node.netns), "listen": ["127.0.0.1", port], "to": ["127.0.0.1", port]}
        for node in lab.nodes.values()
        for port in ports
    ]
    path = folder / "relay.json"
    path.write_text(json.dumps(job))
    reading, writing = os.pipe()
    command = [*END_WITH_PARENT, sys.executable, "-m", "topology.lab.relay", str(path), str(writing)]
    started = subprocess.Popen(command, pass_fds=(writing,), cwd=ROOT)
    os.close(writing)
    with os.fdopen(reading) as ready:
        assert ready.readline() == "\n"
    return started


def test_replicas_come_and_go(lab: Lab, others: list[Replica], record_property: Record) -> None:
    with under_traffic(lab) as watched:
        before = {node: flows(lab, node) for node in NODES}
        lab.product.stop(signal.SIGKILL)  # the two that are left serve both switches
        until_divided(others, set(NODES))
        sends(watched.traffic, 40)
        for how in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
            victim = next(one for one in others if one.primary())
            (rest,) = (one for one in others if one is not victim)
            if how is signal.SIGSTOP:
                victim.send(how)
            else:
                victim.end(how)
            assert rest.get("/wait?timeout=60")["realized"], "it waits for the takeover"
            sends(watched.traffic, 40)
            if how is signal.SIGSTOP:
                victim.send(signal.SIGCONT)
            else:
                victim.start()
            until(lambda victim=victim: victim.ready(), lambda: logs(others))  # type: ignore[misc]
            until_divided(others, set(NODES))
            sends(watched.traffic, 20)
        go_on(watched.lived)
        watched.settle()
        assert {node: flows(lab, node) for node in NODES} == before
        record_property("counted", f"4 losses of a replica: {watched.account()}")
        assert (watched.lost_by_switches(), watched.leaked()) == (0, 0), watched.account()
        lab.product.start()


def test_a_policy_changes_while_its_switchs_owner_is_stopped(lab: Lab, others: list[Replica]) -> None:
    until_divided_with_lab(lab, others)
    stopped = next((one for one in others if one.primary()), None)
    if stopped is None:
        pytest.skip("the lab's own controller owns both switches")
    stopped.send(signal.SIGSTOP)
    try:
        lab.apply(policies({"x/closed": {"policyTypes": ["Ingress"]}}))  # waits until it is realized everywhere
        rest = [one for one in others if one is not stopped]
        assert all(one.get("/wait?timeout=30")["realized"] for one in rest)
    finally:
        stopped.send(signal.SIGCONT)
        lab.reset()


def until_divided_with_lab(lab: Lab, others: list[Replica]) -> None:
    def divided() -> bool:
        switches = lab.product.get("/status")["switches"]
        return len(switches) == len(NODES) and all(one["primary"] and one["in_sync"] for one in switches)

    until(divided, lambda: logs(others))
