"""Status, log and metrics of pods that send invalid packets: the likely cause, by datapath."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

import pytest
from prometheus_client import generate_latest

from controller.metrics.event_counters import EventCounters
from controller.metrics.registry import Metrics
from controller.reconcile.audit_pace import AUDIT_SECONDS
from controller.reconcile.commands import Command, DumpFlows
from controller.reconcile.events import ClusterChanged, Event, FlowsDumped, Tick
from controller.status.invalid_packets import MAX_SENDERS_NAMED, invalid_senders_changes
from controller.status.model import PodView
from controller.status.reference import pod_views
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import Net
from flows.pipeline.cookies import CookieKind, cookie
from flows.wire.values import FlowCounters
from tests.helpers.controller.reconcile_driver import Driver, ValueSwitch, port

PODS = 12


@dataclass
class Sends:
    """What a port sends before the next dump."""

    valid: int = 0
    connection: int = 0
    broken: int = 0


class CountingSwitch(ValueSwitch):
    """Also counts, a flow of each kind and port."""

    def __init__(self, dpid: int) -> None:
        super().__init__(dpid)
        self.counts: dict[int, int] = {}  # by cookie
        self.seconds = 0

    def send(self, ofport: int, what: Sends) -> None:
        for kind, more in (
            (CookieKind.SENT, what.valid + what.connection + what.broken),
            (CookieKind.INVALID, what.connection),
            (CookieKind.BROKEN, what.broken),
        ):
            number = cookie(kind, ofport)
            self.counts[number] = self.counts.get(number, 0) + more

    def answer(self, command: DumpFlows) -> FlowsDumped:
        there = {key: body for key, body in self.flows.items() if body.cookie in self.counts}
        counters = {key: FlowCounters(self.counts[body.cookie], 0, self.seconds) for key, body in there.items()}
        return replace(super().answer(command), counters=counters)


class Node(Driver):
    """A node with pods a0, a1, ... at ports 1, 2, ..."""

    def __init__(self, datapath_type: str) -> None:
        super().__init__()
        self.dumped: list[FlowsDumped] = []  # the newest
        self.switch = self.switches[1] = CountingSwitch(1)
        self.event_counters = EventCounters(Metrics("test", "eventlet"))
        keys = [Key("x", f"a{number}") for number in range(PODS)]
        pods = {key: Pod(key, {}, "n1", f"uid-{n}", (Net(4, 0x0A000001 + n, 32),)) for n, key in enumerate(keys)}
        ports = [port(f"veth-{key.name}", n, str(key)) for n, key in enumerate(keys, 1)]
        self.bridge(BridgeState("db", "br-int", 1, "n1", datapath_type=datapath_type, interfaces=tuple(ports)))
        self.connect(1)
        self.sync()
        self.send(ClusterChanged(Cluster(pods=MappingProxyType(pods))))

    def _answer(self, command: Command) -> list[Event]:
        answers = super()._answer(command)
        self.dumped = [one for one in answers if isinstance(one, FlowsDumped)] or self.dumped
        return answers

    def audit(self, **sends: Sends) -> dict[str, PodView]:
        """The pods send, a minute passes, and the switch is asked as it always is."""
        for name, what in sends.items():
            self.switch.send(int(name[1:]) + 1, what)
        self.now += AUDIT_SECONDS
        self.switch.seconds += int(AUDIT_SECONDS)
        self.send(Tick())
        self.event_counters.handled(self.core, self.dumped, [], 0.0)
        return {view.key.removeprefix("x/"): view for view in pod_views(self.core)}


@pytest.mark.parametrize(
    ("datapath", "sends", "words"),
    [
        (
            "netdev",
            Sends(broken=20),
            "checksums are wrong: it leaves them to offload hardware that does not exist: run `ethtool -K eth0",
        ),
        ("netdev", Sends(connection=20), "`ethtool -K eth0 tx off` in its network namespace on n1"),
        ("system", Sends(broken=20), "with wrong checksums or lengths through veth-a0"),
        (
            "system",
            Sends(connection=20),
            "out of the TCP window, opened elsewhere, or routed asymmetrically, see docs/",
        ),
    ],
)
def test_the_cause_is_told_by_datapath_with_node_and_interface(datapath: str, sends: Sends, words: str) -> None:
    node = Node(datapath)
    assert {view.reason for view in node.audit(a0=Sends(), a1=Sends()).values()} == {""}
    seen = node.audit(a0=sends, a1=Sends(valid=100, connection=12))
    assert seen["a0"].reason.startswith("20 of the last 20 packets that it sent were dropped as invalid: ")
    assert words in seen["a0"].reason
    assert "veth-a0" in seen["a0"].reason
    assert ("ethtool" in seen["a0"].reason) == (datapath == "netdev")
    assert (seen["a0"].invalid, seen["a1"].invalid, seen["a1"].reason) == (20, 12, "")
    text = generate_latest(node.event_counters.metrics.registry).decode()
    reason = "broken" if sends.broken else "connection"
    assert f'headgate_invalid_packets_total{{namespace="x",pod="a0",reason="{reason}"}} 20.0' in text
    assert 'headgate_invalid_packets_total{namespace="x",pod="a1",reason="connection"} 12.0' in text
    seen = node.audit(a0=Sends(valid=100))
    assert (seen["a0"].reason, seen["a0"].invalid) == ("", 20)


def test_a_dump_comes_to_two_lines_of_the_log_however_many_pods_send_what() -> None:
    node = Node("netdev")
    names = [f"a{number}" for number in range(PODS)]
    node.audit(**{name: Sends() for name in names})
    assert invalid_senders_changes(node.core, 1) == []
    node.audit(**{name: Sends(broken=50) for name in names[1:]})
    (began,) = invalid_senders_changes(node.core, 1)
    assert began.began
    assert began.pods.count("x/a") == MAX_SENDERS_NAMED
    assert began.pods.endswith(f"and {PODS - 1 - MAX_SENDERS_NAMED} more")
    node.audit(**{name: Sends(broken=50) for name in names[1:]})
    assert invalid_senders_changes(node.core, 1) == []
    node.audit(a0=Sends(broken=50), a1=Sends(valid=50))
    assert invalid_senders_changes(node.core, 1) == [(True, "x/a0"), (False, "x/a1")]
    assert invalid_senders_changes(node.core, 2) == []
