"""The controller and the switches end and come back under traffic: what is allowed loses nothing, what is denied
never passes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.streams import BackgroundStreams, ForbiddenAttempts, LongLived
from tests.helpers.lab.traffic import Record, every_kind, flows, go_on, keeps_flowing, sends, total
from tests.helpers.lab.truth_lab import NODES
from topology.lab.lab import Lab
from topology.probe.buffers import dropped_before_switch
from topology.probe.matrix import LabProbe
from topology.probe.traffic import Capture, Traffic

pytestmark = [pytest.mark.lab, pytest.mark.slow]

# x/a serves only x/b (on the other node) and x/c (on its own), and only on 80.
POLICY = policies(
    {
        "x/deny": {"policyTypes": ["Ingress"]},
        "x/serve": {
            "podSelector": pods("a"),
            "ingress": [
                {
                    "from": [{"podSelector": pods("b", "c")}],
                    "ports": [port(80), port(80, "UDP"), port(6000, "TCP", 6099)],
                }
            ],
        },
    }
)
ENDS = {"IPv4": 4, "IPv6": 6}
PROTOCOLS = {"TCP": 6, "UDP": 17}
ALLOWED = [LabProbe(source, "x/a", protocol, 80, family) for source in ("x/b", "x/c") for protocol in PROTOCOLS
           for family in ENDS.values()]  # fmt: skip
DENIED = [LabProbe(source, "x/a", protocol, number, family)
          for source, number in (("x/b", 81), ("x/c", 81), ("y/a", 80), ("y/b", 80))
          for protocol in PROTOCOLS for family in ENDS.values()]  # fmt: skip


@dataclass
class Watched:
    """Everything under way, and the sentence that says how it went."""

    lab: Lab
    traffic: Traffic
    knocking: list[ForbiddenAttempts]
    at_server: Capture
    lived: list[LongLived]
    dropped: int  # before the switches, when it began
    lost: int = 0

    def leaked(self) -> int:
        """Packets of denied traffic that arrived."""
        ways = {(probe.source, PROTOCOLS[probe.protocol], probe.port) for probe in DENIED}
        arrived = sum(self.at_server.count(self.lab.endpoints[source], *way) for source, *way in ways)
        return arrived + sum(one.passed for one in self.knocking)

    def account(self) -> str:
        """The counts."""
        sent = sum(flow.sent for flow in self.traffic.flows)
        before = f"{self.before_switches()} frames dropped before a switch"
        return f"allowed: {sent} sent, {self.lost} lost ({before}); {self.denied()}"

    def before_switches(self) -> int:
        """Frames that found no room in the kernel while a switch's process waited for a processor."""
        return dropped_before_switches(self.lab) - self.dropped

    def lost_by_switches(self) -> int:
        """Messages that were lost, but for as many as were dropped before a switch could see them."""
        return max(0, self.lost - self.before_switches())

    def denied(self) -> str:
        """The counts of what must not pass."""
        return f"denied: {sum(one.sent for one in self.knocking)} tried, {self.leaked()} leaked"

    def settle(self) -> None:
        """Stop sending and count what is lost."""
        self.traffic.drain(20)
        self.lost = sum(flow.lost for flow in self.traffic.flows)


def dropped_before_switches(lab: Lab) -> int:
    """Since the switches were started."""
    return sum(dropped_before_switch(node.netns) for node in lab.nodes.values())


@contextmanager
def under_traffic(lab: Lab) -> Iterator[Watched]:
    with ExitStack() as stack:
        stack.callback(lab.reset)
        lab.apply(POLICY)
        at_server = stack.enter_context(lab.capture("x/a"))
        traffic = stack.enter_context(lab.traffic(ALLOWED))
        knocking = [ForbiddenAttempts(lab, probe) for probe in DENIED]
        stack.enter_context(BackgroundStreams(knocking))
        lived = every_kind(lab, ("x/b", "x/c"), "x/a")
        stack.enter_context(BackgroundStreams(lived))
        keeps_flowing(traffic)
        yield Watched(lab, traffic, knocking, at_server, lived, dropped_before_switches(lab))


def test_the_controller_restarts(lab: Lab, record_property: Record) -> None:
    with under_traffic(lab) as watched:
        before = {node: flows(lab, node) for node in NODES}
        for how in (signal.SIGTERM, signal.SIGKILL) * 2:
            lab.product.stop(how)
            sends(watched.traffic, 40)
            lab.product.start()
            lab.wait()
            assert total(lab, "headgate_flow_mods_total") == 0, how
            sends(watched.traffic, 20)
        go_on(watched.lived)
        watched.settle()
        assert {node: flows(lab, node) for node in NODES} == before
        record_property("counted", f"4 restarts of the controller: {watched.account()}")
        assert (watched.lost_by_switches(), watched.leaked()) == (0, 0), watched.account()


def test_a_switch_restarts(lab: Lab, record_property: Record) -> None:
    """The switch's death loses packets, of course; what is denied must not slip through while it comes back."""
    with under_traffic(lab) as watched:
        before = {node: flows(lab, node) for node in NODES}
        for node, how in (("one", signal.SIGTERM), ("two", signal.SIGKILL), ("one", signal.SIGKILL)):
            lab.restart_switch(node, how)
            lab.wait()
            assert {name: flows(lab, name) for name in NODES} == before, (node, how)
            keeps_flowing(watched.traffic)
            go_on(watched.lived)
        record_property("counted", f"3 restarts of switches: {watched.denied()}")
        assert watched.leaked() == 0, watched.denied()
