"""What policy no longer allows stops at once, in both directions and from either side; what it allows again goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.streams import BackgroundStreams, Replies
from tests.helpers.lab.traffic import keeps_flowing, sends
from tests.helpers.truth.layout import namespace_manifest
from tests.helpers.waiting import until
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe
from topology.probe.traffic import Capture, Traffic

pytestmark = pytest.mark.lab

Change = Callable[[Lab], object]
SERVER, CLIENTS = "x/a", ("y/b", "y/c")  # on the other node, and on the server's own
NUMBERS = {"TCP": 6, "UDP": 17}
FIRST = 6000  # ports on which the lab itself serves nobody
ISOLATION = {"x/deny": {"policyTypes": ["Ingress"]}, "y/deny": {"policyTypes": ["Ingress"]}}
BOTH = [
    LabProbe(client, SERVER, protocol, 80, family) for client in CLIENTS for protocol in NUMBERS for family in (4, 6)
]
ONE_SIDED = [
    LabProbe(client, SERVER, protocol, FIRST + number, family)
    for number, client in enumerate(CLIENTS)
    for protocol in NUMBERS
    for family in (4, 6)
]


def rule(number: int = 80, end: int = FIRST + 99) -> str:
    """The rule that lets the clients in, on a range of ports."""
    from_y = {"namespaceSelector": {"matchLabels": {"ns": "y"}}, "podSelector": pods("b", "c")}
    ports = [port(number, protocol, end) for protocol in NUMBERS]
    return policies({"x/serve": {"podSelector": pods("a"), "ingress": [{"from": [from_y], "ports": ports}]}})


def relabel(lab: Lab, label: str | None) -> None:
    """Give the clients another label than the rule asks for, or their own back."""
    for client in CLIENTS:
        namespace, name = client.split("/")
        labels = {"pod": label or name}
        metadata = {"namespace": namespace, "name": name, "labels": labels}
        lab.manifests.put([{"apiVersion": "v1", "kind": "Pod", "metadata": metadata}])
    lab.wait()


def rename_namespace(lab: Lab, label: str) -> None:
    lab.manifests.put([namespace_manifest("y", {"ns": label})])
    lab.wait()


def tier(direction: str) -> str:
    """A ClusterNetworkPolicy of tier Admin that denies x to talk with y, as responder or as initiator."""
    subject, peer, word = ("x", "y", "from") if direction == "ingress" else ("y", "x", "to")
    denial = {"action": "Deny", word: [{"namespaces": {"matchLabels": {"ns": peer}}}]}
    spec = {
        "tier": "Admin",
        "priority": 0,
        "subject": {"namespaces": {"matchLabels": {"ns": subject}}},
        direction: [denial],
    }
    api = "policy.networking.k8s.io/v1beta1"
    return json.dumps({"apiVersion": api, "kind": "ClusterNetworkPolicy", "metadata": {"name": "no"}, "spec": spec})


@dataclass
class Talk:
    """Connections under way in both directions or one, and what arrives of them at each end."""

    lab: Lab
    traffic: Traffic
    replies: list[Replies]
    captures: dict[str, Capture]

    def flows_on(self) -> None:
        """Return once everything has got through many more times."""
        keeps_flowing(self.traffic)
        before = [one.received for one in self.replies]
        until(lambda: all(one.received >= then + 10 for one, then in zip(self.replies, before, strict=True)))

    def arrived(self) -> int:
        """Packets of TCP and UDP that came in at any end, from any of the others."""
        ends = {self.lab.endpoints[name].addresses[family] for name in self.captures for family in (4, 6)}
        return sum(
            count
            for capture in self.captures.values()
            for arrival, count in capture.arrived.items()
            if arrival.source in ends and arrival.protocol in NUMBERS.values()
        )


@contextmanager
def talking(lab: Lab) -> Iterator[Talk]:
    with ExitStack() as stack:
        stack.callback(lab.reset)
        lab.apply(policies(ISOLATION) + "---\n" + rule())
        traffic = stack.enter_context(lab.traffic(BOTH))
        replies = [Replies(lab, probe) for probe in ONE_SIDED]
        stack.enter_context(BackgroundStreams(replies))
        captures = {name: stack.enter_context(lab.capture(name)) for name in (SERVER, *CLIENTS)}
        talk = Talk(lab, traffic, replies, captures)
        talk.flows_on()
        yield talk


WAYS: dict[str, tuple[Change, Change]] = {
    "the policy goes": (lambda lab: lab.delete(rule()), lambda lab: lab.apply(rule())),
    "the clients' labels change": (lambda lab: relabel(lab, "d"), lambda lab: relabel(lab, None)),
    "their namespace's label changes": (lambda lab: rename_namespace(lab, "w"), lambda lab: rename_namespace(lab, "y")),
    "a tier denies what comes in": (lambda lab: lab.apply(tier("ingress")), lambda lab: lab.delete(tier("ingress"))),
    "a tier denies what goes out": (lambda lab: lab.apply(tier("egress")), lambda lab: lab.delete(tier("egress"))),
    "the ports change": (lambda lab: lab.apply(rule(443, 443)), lambda lab: lab.apply(rule())),
}


@pytest.mark.parametrize("way", WAYS)
def test_connections_are_cut_and_go_on(lab: Lab, way: str) -> None:
    revoke, allow = WAYS[way]
    with talking(lab) as talk:
        revoke(lab)
        before = talk.arrived()
        sent = [one.sent for one in talk.replies if one.probe.protocol == "UDP"]
        sends(talk.traffic, 50)
        until(
            lambda: all(
                one.sent > then + 20
                for one, then in zip((one for one in talk.replies if one.probe.protocol == "UDP"), sent, strict=True)
            )
        )
        assert talk.arrived() == before
        allow(lab)
        talk.flows_on()
        talk.traffic.drain(0)
        until(lambda: all(flow.lost == 0 for flow in talk.traffic.flows if flow.probe.protocol == "TCP"))
