"""The text of a verdict's reasons, and probes made from names."""

from __future__ import annotations

import pytest

from flows.cluster.model import Peer, PortSpec, Protocol
from flows.cluster.net import parse_address, parse_network
from flows.policy.explanation import Isolation, port_text
from flows.policy.probe import Endpoint, EndpointName, Probe, ProbeError, probe_between, protocol_name
from flows.policy.verdict import verdict
from tests.helpers.cluster.model_objects import cluster, key, labels, node, pod, policy, rule, tcp, udp, verdicts_of

PODS = [
    pod("x/a", 1, pod="a"),
    pod("x/b", 2, pod="b"),
    pod("y/a", 3, "two", pod="a"),
    pod("x/four", 4, families=(4,)),
    pod("x/six", 5, families=(6,)),
    pod("x/bare", 6, families=()),
    pod("x/host", 7, "two", host_network=True),
    pod("x/done", 8, finished=True),
    pod("y/p", 9, "two"),
    pod("y/q", 9, "two"),
]
CLUSTER = cluster(
    PODS,
    [node("one", "192.0.2.1"), node("two", "192.0.2.2", "2001:db8::2")],
    {"x": {}, "y": {}},
    policy("x/default-deny", ingress=[]),
    policy(
        "x/pol1",
        labels(pod="b"),
        ingress=[rule(Peer(pods=labels(pod="none")), Peer(pods=labels(pod="a")), tcp(80)), None, rule(udp("dns"))],
    ),
    policy("y/out", labels(pod="a"), egress=[rule(tcp(8000, 8080))]),
)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "x/a > x/b TCP 80",
            """
            allowed: TCP port 80 from x/a (10.0.0.1) to x/b (10.0.0.2)
            egress from x/a: no policy applies: no policy isolates it in this direction
            ingress to x/b: isolated by x/default-deny, x/pol1; allowed by x/pol1 ingress rule 0 (peer 1, port 80/TCP)
            """,
        ),
        (
            "y/a > x/b TCP 8001",
            """
            denied: TCP port 8001 from y/a (10.0.0.3) to x/b (10.0.0.2)
            egress from y/a: isolated by y/out; allowed by y/out egress rule 0 (any peer, ports 8000-8080/TCP)
            ingress to x/b: isolated by x/default-deny, x/pol1; no rule allows it
              x/pol1 ingress rule 0 has no matching peer
              x/pol1 ingress rule 1 is not valid, so it allows nothing
              x/pol1 ingress rule 2 matches the peer but not the port
            """,
        ),
        (
            "y/a > 8.8.8.8 ICMP",
            """
            denied: ICMP from y/a (10.0.0.3) to 8.8.8.8
            egress from y/a: isolated by y/out; no rule allows it
              y/out egress rule 0 matches the peer but not the port
            ingress to 8.8.8.8: no policy applies: it is not a pod
            """,
        ),
        (
            "node:one > x/b GRE",
            """
            allowed: protocol 47 from node one (192.0.2.1) to x/b (10.0.0.2)
            egress from node one (192.0.2.1): no policy applies: it is not a pod
            ingress to x/b: no policy applies: no NetworkPolicy applies between a pod and its own node
            """,
        ),
    ],
)
def test_explanations(line: str, text: str) -> None:
    expected = [one[12:] for one in text.strip("\n").splitlines() if one.strip()]
    assert verdicts_of(CLUSTER, line)[4].explain() == expected


def test_no_policy_selects_a_host_network_or_finished_pod() -> None:
    for name in ("x/host", "x/done"):
        probe = Probe(Endpoint(parse_address("10.0.0.1")), Endpoint(parse_address("10.0.0.7"), pod=key(name)), 6, 80)
        assert verdict(CLUSTER, probe).ingress.isolation is Isolation.NOT_A_SUBJECT


def test_names_give_endpoints() -> None:
    probe = probe_between(CLUSTER, key("x/a"), key("x/host"), 6, 80)
    assert probe.destination == Endpoint(parse_address("192.0.2.2"), node="two")
    assert probe_between(CLUSTER, key("x/a"), "two", 6, 80, 6).source.address == parse_address("fd00::1")
    assert probe_between(CLUSTER, parse_address("10.0.0.1"), parse_address("192.0.2.1"), 1) == Probe(
        Endpoint(parse_address("10.0.0.1"), pod=key("x/a")), Endpoint(parse_address("192.0.2.1"), node="one"), 1
    )
    assert probe_between(CLUSTER, key("x/six"), key("x/a"), 58).source.address.version == 6


@pytest.mark.parametrize(
    ("source", "destination", "version", "message"),
    [
        (key("x/none"), key("x/a"), None, "no pod x/none"),
        ("three", key("x/a"), None, "no node three"),
        (key("x/done"), key("x/a"), None, "has finished"),
        (key("x/four"), key("x/six"), None, "no address family in common"),
        (key("x/bare"), key("x/a"), None, "no address family in common"),
        (key("x/four"), key("x/a"), 6, "no IPv6 addresses in common"),
        (parse_address("10.0.0.9"), key("x/a"), None, "claimed by y/p, y/q"),
    ],
)
def test_impossible_probes_say_why(
    source: EndpointName, destination: EndpointName, version: int | None, message: str
) -> None:
    with pytest.raises(ProbeError, match=message):
        probe_between(CLUSTER, source, destination, 6, 80, version)


def test_invalid_probes_are_refused() -> None:
    four, six = Endpoint(parse_address("10.0.0.1")), Endpoint(parse_address("fd00::1"))
    with pytest.raises(ProbeError, match="different families"):
        Probe(four, six, 6, 80)
    with pytest.raises(ProbeError, match="TCP needs a port"):
        Probe(four, four, 6)
    with pytest.raises(ProbeError, match="ICMP has no port"):
        Probe(four, four, 1, 80)
    with pytest.raises(ProbeError, match="not both"):
        Endpoint(parse_address("10.0.0.1"), pod=key("x/a"), node="one")
    with pytest.raises(ProbeError, match="a prefix"):
        Endpoint(parse_network("10.0.0.0/8"))
    with pytest.raises(ProbeError, match="no pod x/none"):
        verdict(CLUSTER, Probe(four, Endpoint(four.address, pod=key("x/none")), 6, 80))


def test_ports_and_protocols_in_words() -> None:
    specs = [PortSpec(Protocol.UDP), PortSpec(Protocol.TCP, "web"), PortSpec(Protocol.SCTP, 1, 9)]
    assert [port_text(spec) for spec in specs] == ["any UDP port", "port web/TCP", "ports 1-9/SCTP"]
    assert [protocol_name(number) for number in (1, 58, 132, 47)] == ["ICMP", "ICMPv6", "SCTP", "protocol 47"]
