"""Fragments of incomplete packets: userspace conntrack lets them out when they expire, and no port may get them."""

from __future__ import annotations

import time
from dataclasses import replace

from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Direction, Key
from flows.cluster.net import parse_address
from flows.interpret import packet as packets
from flows.interpret.frame_encoder import encode
from flows.policy.rule import NodePolicy
from flows.render.reference import render
from tests.helpers.ovs.open_vswitch import OpenVSwitch, ovs

__all__ = ["ovs"]

SENDER, ISOLATED, OTHER = (parse_address(f"10.0.0.{n}") for n in (1, 2, 3))
PORTS = {"p2": 2, "p3": 3, "p4": 4}
# OVS keeps incomplete trains for 15 seconds (lib/ipf.c), then puts them in among the packets of whatever connection
# comes next, marked +inv but not +trk.
EXPIRY_SECONDS = 16


def test_expired_fragments_reach_no_port(ovs: OpenVSwitch) -> None:
    owners = zip(PORTS.values(), (SENDER, ISOLATED, OTHER), strict=True)
    pod_bindings = tuple(PodBinding(n, f"p{n}", Key("x", f"pod{n}"), n, (net,)) for n, net in owners)
    policy = NodePolicy({Key("x", "pod3"): frozenset({Direction.INGRESS})}, ())
    bridge = ovs.add_bridge()
    bridge.add_ports(PORTS)
    bridge.install(render(Binding(pods=pod_bindings, userspace=True), policy))
    whole = replace(packets.transport(SENDER, ISOLATED, 17, 1000, 80), eth_src=2, eth_dst=3)
    for train in range(70, 80):
        pieces = packets.split(whole, train, 3)
        for piece in pieces if train % 2 else pieces[1:2]:
            assert not bridge.inject("p2", encode(piece))
    time.sleep(EXPIRY_SECONDS)
    for sport in range(2000, 2012):
        allowed = replace(packets.transport(SENDER, OTHER, 17, sport, 80), eth_src=2, eth_dst=4)
        assert bridge.inject("p2", encode(allowed)) == {"p4": [encode(allowed)]}
