"""Forged packets count for the pod that sent them, and for the one whose address they had, audited or not."""

from __future__ import annotations

from prometheus_client import generate_latest

from flows.pipeline.cookies import CookieKind, cookie
from tests.controller.status.test_invalid_packets import Node, Sends


def test_flows_that_drop_forged_packets_count_and_no_others_of_the_port() -> None:
    node = Node("netdev")
    node.switch.counts[cookie(CookieKind.PORT, 1)] = 7  # each flow of the port of x/a0 has so many packets
    node.audit(a1=Sends(valid=1))
    text = generate_latest(node.event_counters.metrics.registry).decode()
    assert sorted(line for line in text.splitlines() if line.startswith("headgate_forged_packets_total{")) == [
        # IP and ARP
        'headgate_forged_packets_total{kind="address",namespace="x",pod="a0"} 14.0',
        'headgate_forged_packets_total{kind="sent",namespace="x",pod="a0"} 7.0',
    ]
    assert {(cause, labels["kind"]) for cause, labels, _ in node.event_counters.metrics.dropped()} == {
        ("forged", "sent"),
        ("forged", "address"),
    }
