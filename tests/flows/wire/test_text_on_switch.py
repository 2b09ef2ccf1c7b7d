"""Flows as text equal what the switch prints."""

from __future__ import annotations

import re

import pytest

from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Cluster, Direction, IPBlock, Key, Peer, Pod, Policy, PortSpec, Protocol, Rule
from flows.cluster.net import parse_address, parse_network
from flows.openflow.actions import Conjunction
from flows.openflow.flow import Flow
from flows.openflow.match import exactly, match
from flows.openflow.match_fields import IN_PORT
from flows.pipeline.pod_limits import METERED, CopyReason, Limit, meter_number
from flows.policy.reference import compile_policy
from flows.render.reference import render
from flows.wire.text import format_flow
from tests.helpers.ovs.open_vswitch import OpenVSwitch, module_ovs

pytestmark = pytest.mark.switch


__all__ = ["module_ovs"]

LIMITS = tuple(Limit)
HERE = Key("x", "here")
ADDRESSES = (parse_address("10.0.0.2"), parse_address("fd00::2"))
BLOCK = IPBlock(parse_network("10.0.0.0/8"), (parse_network("10.1.0.0/16"),))
RULE = Rule((Peer(ip_block=BLOCK),), tuple(PortSpec(protocol, 1000, 1999) for protocol in Protocol))
POLICY = Policy(Key("x", "some"), isolates=frozenset(Direction), ingress=(RULE,), egress=(RULE,))


def some_flows(userspace: bool) -> list[Flow]:
    view = Binding(
        (parse_address("10.0.0.1"), parse_address("fd00::1")), 0x020000000001, 1,
        (PodBinding(2, "p2", HERE, 0x020000000002, ADDRESSES, LIMITS),), userspace,
        (parse_address("169.254.20.10"), parse_address("fd00::77")),
    )  # fmt: skip
    cluster = Cluster(pods={HERE: Pod(HERE, addresses=ADDRESSES)}, policies={POLICY.key: POLICY})
    rendered = render(view, compile_policy(cluster, [HERE]))
    return [*rendered, Flow(200, 7, match(exactly(IN_PORT, 2)), (Conjunction(1, 1, 2), Conjunction(9, 2, 3)))]


@pytest.mark.parametrize("userspace", [True, False])
def test_text_equals_that_of_the_switch(module_ovs: OpenVSwitch, userspace: bool) -> None:
    bridge = module_ovs.bridges.get("br0") or module_ovs.add_bridge("br0")
    module_ovs.ofctl("del-meters", bridge.target)
    bridge.add_meters(*[meter_number(limit, 2) for limit in METERED])
    bridge.add_meters(*[meter_number(Limit.COPIES, one) for one in CopyReason])
    flows = some_flows(userspace)
    bridge.clear()
    bridge.install(flows)
    dump = module_ovs.ofctl("dump-flows", bridge.target, "--no-names", "--no-stats").splitlines()
    printed = {_plain(line) for line in dump if "actions=" in line}
    assert printed == {_plain(format_flow(flow)) for flow in flows}


def _plain(line: str) -> str:
    """Without the spaces and the table 0 that ovs-ofctl leaves out."""
    line = re.sub(r"\btable=0, ", "", line.strip())
    return re.sub(r",\s+", ",", line)
