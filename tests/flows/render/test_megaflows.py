"""What a switch caches of rendered flows is no wider than they are: see docs/adr/0006-discovery-code.md."""

from __future__ import annotations

import re

import pytest

from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Key
from flows.cluster.net import parse_address
from flows.interpret import packet as packets
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import Packet
from flows.policy.rule import NodePolicy
from flows.render.reference import render
from tests.helpers.ovs.open_vswitch import open_vswitch

pytestmark = pytest.mark.switch


MACS = {1: 0x020000000001, 2: 0x020000000002}
ADDRESSES = {number: parse_address(f"fd00::{number}") for number in MACS}
PODS = [PodBinding(n, f"p{n}", Key("x", f"p{n}"), MACS[n], (ADDRESSES[n],)) for n in MACS]


@pytest.mark.parametrize("kind", [135, 136])
def test_cached_discovery_includes_the_code(kind: int) -> None:
    one, two = ADDRESSES[1].value, ADDRESSES[2].value
    frames: dict[int, Packet] = {
        135: packets.neighbor(135, MACS[1], 0x3333FF000002, one, 0xFF02 << 112 | 0x1FF000002, two, MACS[1]),
        136: packets.neighbor(136, MACS[1], MACS[2], one, two, one, MACS[1]),
    }
    with open_vswitch() as ovs:
        bridge = ovs.add_bridge("br-int")
        bridge.add_ports({pod.interface: pod.ofport for pod in PODS})
        bridge.install(render(Binding(pods=tuple(PODS), userspace=True), NodePolicy({}, ())))
        said = bridge.trace(1, encode(frames[kind]))
    cached = re.search(r"^Megaflow: (.*)$", said, re.MULTILINE)
    assert cached
    assert f"icmp_type={kind:#x}/0xff,icmp_code=0x0/0xff,nd_target=" in cached[1]
    # A frame longer than one with one option is dropped by its length alone.
    whole = "check_pkt_len(size=86,gt(drop),le(2))"
    assert f"Datapath actions: check_pkt_len(size=78,gt({whole}),le({whole}))" in said.splitlines(), said
