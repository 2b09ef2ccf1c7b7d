"""Policies that meet others on a real switch: a rule that several share, one of more flows than a switch takes."""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.cli import main
from flows.interpret.frame_encoder import encode
from tests.helpers.controller.one_switch import NAMES, Run, syn
from tests.helpers.ovs.open_vswitch import Bridge, open_vswitch
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch

BIG = 10_000  # exceptions, in less than the 1.5 MiB of an object
WEB, DB = 1, 2


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    folder = Path(tempfile.mkdtemp(prefix="hgc-"))
    with open_vswitch(hostname="one") as ovs:
        bridge = ovs.add_bridge("br-int", "dummy")
        bridge.add_ports(
            {f"p-{name}": number for number, name in enumerate(NAMES, 1)},
            {
                f"p-{name}": {"iface-id": f"shop/{name}", "attached-mac": f"02:00:00:00:00:0{number}"}
                for number, name in enumerate(NAMES, 1)
            },
        )
        started = Run(ovs, folder)
        try:
            started.wait()
            realized(started)
            yield started
        finally:
            started.process.kill()
            started.process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def realized(run: Run) -> None:
    assert main(["--server", run.url, "status", "--wait", "--timeout", "60"]) == 0


def put(run: Run, name: str, spec: dict[str, Any]) -> None:
    metadata = {"name": name, "namespace": "shop"}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    (run.folder / f"{name}.json").write_text(json.dumps(policy))


def allows(port: int) -> dict[str, Any]:
    """The rule of whoever shares it."""
    web = {"podSelector": {"matchLabels": {"app": "web"}}}
    subjects = {"matchLabels": {"app": "db"}}
    return {"podSelector": subjects, "ingress": [{"from": [web], "ports": [{"port": port}]}]}


def allowed(run: Run) -> dict[str, float]:
    """Packets allowed by the policies of these tests, after all counters were read."""
    run.get("/flows")
    line = re.compile(r'headgate_allowed_packets_total\{.*policy="(shared-\w)".*\} (\S+)')
    return {found[1]: float(found[2]) for one in run.metrics().splitlines() if (found := line.match(one))}


class Knocks:
    """First segments of new connections from web to db."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._sport = 20_000

    def send(self, count: int) -> None:
        frames = []
        for _ in range(count):
            self._sport += 1
            frames.append(encode(replace(syn(WEB, self._sport), dport=8080)))
        self._bridge.inject("p-web", *frames)
        self._bridge.settle()


def test_a_rule_of_several_policies_counts_for_each_and_never_back(run: Run) -> None:
    """Whoever comes and goes, and whichever of them is first by name: nobody's count jumps or falls."""
    knocks = Knocks(run.ovs.bridges["br-int"])
    there: set[str] = set()
    expected: dict[str, float] = {}
    steps = [("b", True), ("a", True), ("c", True), ("a", False), ("b", False), ("a", True), ("c", False)]
    for name, comes in steps:
        policy = f"shared-{name}"
        if comes:
            put(run, policy, allows(8080))
            there.add(policy)
        else:
            (run.folder / f"{policy}.json").unlink()
            there.discard(policy)
        realized(run)
        before = allowed(run)
        if comes:
            # One that comes back goes on where it was, or begins anew where its series had been dropped meanwhile.
            assert before.get(policy, 0) in {0, expected.get(policy, 0)}
            expected[policy] = before.get(policy, 0)
        assert {one: before.get(one, 0) for one in there} == {one: expected[one] for one in there}, (name, comes)
        knocks.send(3)
        for one in there:
            expected[one] += 3
        after = allowed(run)
        assert {one: after[one] for one in there} == {one: expected[one] for one in there}, (name, comes)
    for path in run.folder.glob("shared-*"):
        path.unlink()
    realized(run)


def test_a_policy_with_too_many_flows_closes_what_it_selects_and_costs_nobody_else(run: Run) -> None:
    before = len(run.ovs.bridges["br-int"].dump())
    random.seed(1)
    scattered = {":".join(f"{random.randrange(0x1000, 0xFFFF):x}" for _ in range(8)) + "/128" for _ in range(BIG)}
    block = {"cidr": "::/0", "except": sorted(scattered)}
    put(run, "big", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": block}]}]})

    def told() -> dict[str, Any]:
        found: dict[str, Any] = next((one for one in run.get("/status")["policies"] if one["key"] == "shop/big"), {})
        return found

    until(lambda: told() and not told()["realized"], "the policy refused")
    assert "flows" in told()["reason"]
    # Others' changes are in force meanwhile, and its pods are shut as it says.
    put(run, "other", allows(9090))
    until(lambda: any("tp_dst=9090" in line for line in run.ovs.bridges["br-int"].dump()), "another's policy")
    pods = {one["key"]: one for one in run.get("/status")["pods"]}
    assert all("egress" in pods[f"shop/{name}"]["isolated"] for name in NAMES)
    assert all(one["in_sync"] for one in run.get("/status")["switches"])
    assert len(run.ovs.bridges["br-int"].dump()) < before + 100
    until(lambda: "headgate_policies_unrealized 1.0" in run.metrics(), "the metric")
    assert main(["--server", run.url, "status", "--wait", "--timeout", "1"]) == 1
    for name in ("big", "other"):
        (run.folder / f"{name}.json").unlink()
    realized(run)
    assert len(run.ovs.bridges["br-int"].dump()) == before
