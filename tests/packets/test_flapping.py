"""A hundred policies come and go under traffic: what is always allowed always passes, what is always denied never
does."""

from __future__ import annotations

import random
from contextlib import ExitStack

import pytest

from tests.helpers.lab.policies import Spec, pods, policies, policy, port
from tests.helpers.lab.streams import BackgroundStreams, ForbiddenAttempts
from tests.helpers.lab.traffic import Record, every_kind, go_on, keeps_flowing, total
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe

pytestmark = [pytest.mark.lab, pytest.mark.slow]

POLICIES, ROUNDS, CHANGES = 100, 30, 12
FAMILIES = (4, 6)
NUMBERS = {"TCP": 6, "UDP": 17}
STANDING: dict[str, Spec] = {
    "x/deny": {"policyTypes": ["Ingress"]},
    "x/serve": {
        "podSelector": pods("a"),
        "ingress": [
            {"from": [{"podSelector": pods("b", "c")}], "ports": [port(80), port(80, "UDP"), port(6000, "TCP", 6099)]}
        ],
    },
}
ALLOWED = [LabProbe(source, "x/a", protocol, 80, family)
           for source in ("x/b", "x/c") for protocol in NUMBERS for family in FAMILIES]  # fmt: skip
DENIED = [LabProbe(source, "x/a", protocol, 81, family)
          for source in ("y/b", "x/c") for protocol in NUMBERS for family in FAMILIES]  # fmt: skip


def flapping(number: int) -> tuple[str, Spec]:
    """One of the hundred. None changes any verdict of ALLOWED and DENIED; most say something of their very pods."""
    name = f"flap-{number:03}"
    some = {"namespaceSelector": {"matchLabels": {"ns": "yz"[number % 2]}}, "podSelector": pods("abc"[number % 3])}
    kinds: tuple[tuple[str, Spec], ...] = (
        # allow what is allowed already, once more
        ("x", {"podSelector": pods("a"), "ingress": [{"from": [{"podSelector": {}}], "ports": [port(80, "TCP", 80)]}]}),
        # allow others on other ports
        ("x", {"podSelector": pods("a"), "ingress": [{"from": [some], "ports": [port(1000 + number, "TCP", 2000)]}]}),
        # isolate what is isolated already
        ("x", {"policyTypes": ["Ingress"], "podSelector": pods("a", "b")}),
        # allow the clients' way out, with isolation and all
        ("x", {"podSelector": pods("a"), "policyTypes": ["Egress"], "egress": [{}]}),
        # address blocks that hold neither end of what is denied
        ("x", {"podSelector": pods("a"), "ingress": [{"from": [{"ipBlock": {
            "cidr": "10.10.0.0/16", "except": ["10.10.1.0/24", "10.10.2.0/24"]}}]}]}),
        # about pods that have no part in this
        ("z", {"policyTypes": ["Ingress", "Egress"], "podSelector": pods("abc"[number % 3]),
               "ingress": [{"from": [some], "ports": [port(80 + number)]}]}),
    )  # fmt: skip
    namespace, spec = kinds[number % len(kinds)]
    return f"{namespace}/{name}", spec


def test_no_verdict_is_wrong_while_policies_flap(lab: Lab, record_property: Record) -> None:
    chance = random.Random(1)
    every = [policy(*flapping(number)) for number in range(POLICIES)]
    there: set[int] = set()
    with ExitStack() as stack:
        stack.callback(lab.reset)
        lab.apply(policies(STANDING))
        traffic = stack.enter_context(lab.traffic(ALLOWED))
        at_server = stack.enter_context(lab.capture("x/a"))
        knocking = [ForbiddenAttempts(lab, probe) for probe in DENIED]
        stack.enter_context(BackgroundStreams(knocking))
        lived = every_kind(lab, ("x/b", "x/c"), "x/a")
        stack.enter_context(BackgroundStreams(lived))
        keeps_flowing(traffic)
        before = total(lab, "headgate_flow_mods_total")
        changed = 0
        for round_number in range(ROUNDS):
            for number in chance.sample(range(POLICIES), POLICIES if round_number == 0 else CHANGES):
                if number in there:
                    lab.manifests.delete([every[number]])
                else:
                    lab.manifests.put([every[number]])
                there ^= {number}
                changed += 1
            if round_number % 5 == 0:
                lab.wait()
            keeps_flowing(traffic, 20)
            go_on(lived, whole=False)
        lab.wait()
        go_on(lived)
        mods = total(lab, "headgate_flow_mods_total") - before
        traffic.drain(20)
        sent, lost = sum(flow.sent for flow in traffic.flows), sum(flow.lost for flow in traffic.flows)
        tried, answered = sum(one.sent for one in knocking), sum(one.passed for one in knocking)
        ways = {(probe.source, NUMBERS[probe.protocol], probe.port) for probe in DENIED}
        arrived = sum(at_server.count(lab.endpoints[source], *way) for source, *way in ways)
        counted = f"{changed} changes of {POLICIES} policies, {mods:.0f} flow changes; allowed: {sent} sent, "
        counted += f"{lost} lost; denied: {tried} tried, {arrived + answered} leaked"
        record_property("counted", counted)
        assert (lost, arrived, answered) == (0, 0, 0), counted
        assert mods > changed, counted
