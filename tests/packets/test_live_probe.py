"""`headgate explain --live` before real pods: nobody gets the packet, nothing is recorded, and both nodes are asked."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.raw_frames import FrameListener, number
from topology.lab.lab import Lab

pytestmark = pytest.mark.lab

ENDS = ("x/b", "x/c", "node:one", "node:two", "external:outside")
# x/b, on node two, takes TCP 80 and UDP of x/a, on node one, and nothing else.
POLICY = policies(
    {"x/some": {"podSelector": pods("b"), "ingress": [{"from": [{"podSelector": pods("a")}],
                                                       "ports": [port(80), port(80, "UDP")]}]}}
)  # fmt: skip


def ask(lab: Lab, target: str, asked: str, *more: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code, and the connections of the answer, by family."""
    done = lab.product.call(["explain", "x/a", target, "-p", asked, "--live", "-o", "json", *more])
    assert done.returncode in (0, 1, 4), done.stderr
    return done.returncode, json.loads(done.stdout)["connections"]


def counted(lab: Lab) -> dict[str, int]:
    """The packets that flows of isolation have counted on both nodes."""
    found = {}
    for name, node in lab.nodes.items():
        for line in node.ofctl("dump-flows").splitlines():
            if (cookie := re.search(r"cookie=(0x48470[45]\w+)", line)) and (
                count := re.search(r"n_packets=(\d+)", line)
            ):
                found[f"{name} {cookie[1]} {line.partition('priority=')[2]}"] = int(count[1])
    return found


def connections(lab: Lab) -> str:
    return "".join(node.appctl("dpctl/dump-conntrack") for node in lab.nodes.values())


def frames_of(lab: Lab, source_port: int, to: int) -> bytes:
    """The ports of a packet, as they are in its frame."""
    return source_port.to_bytes(2, "big") + to.to_bytes(2, "big")


def test_a_packet_passes_both_switches_and_nobody_gets_it(lab: Lab) -> None:
    try:
        lab.apply(POLICY)
        before = counted(lab)
        with FrameListener(lab, ENDS) as ears:
            for asked, expected in (("80", 0), ("80/UDP", 0), ("81", 1), ("icmp", 1)):
                code, found = ask(lab, "x/b", asked)
                assert code == expected and len(found) == 2, (asked, found)
                for live in [one["live"] for one in found]:
                    assert (
                        live["sent"] and live["agrees"] and live["delivered"] is (expected == 0) and not live["shown"]
                    )
                    assert [leg["node"] for leg in live["legs"]] == ["one", "two"]
                    first, last = live["legs"]
                    assert first["entered"] == "port of pod x/a" and first["table"] == "output"
                    assert last["entered"] == "the uplink"
                    assert last["table"] == ("output" if expected == 0 else "ingress_default")
                    assert str(live["source_port"]) not in connections(lab)
                    assert not ears.heard(frames_of(lab, live["source_port"], 81 if asked == "81" else 80))
            ears.fence("x/a")
        assert counted(lab) == before
    finally:
        lab.reset()


def test_a_delivered_packet_is_seen_once(lab: Lab) -> None:
    with FrameListener(lab, ENDS) as ears:
        code, found = ask(lab, "x/c", "80/UDP", "--deliver", "--ip-version", "4")
        (live,) = [one["live"] for one in found]
        assert code == 0 and live["shown"] and [leg["node"] for leg in live["legs"]] == ["one"]
        ears.fence("x/a")
        assert ears.heard(frames_of(lab, live["source_port"], 80)) == ["x/c"]


def test_other_ends(lab: Lab) -> None:
    outside = lab.endpoints["external:outside"].addresses[4]
    with FrameListener(lab, ENDS) as ears:
        for target, to in ((outside, f"{outside}, outside"), ("node:one", "node one"), ("node:two", "node two")):
            code, found = ask(lab, target, "80/UDP", "--ip-version", "4")
            (live,) = [one["live"] for one in found]
            assert code == 0 and live["delivered"], live
            (leg,) = live["legs"]
            assert leg["to"] == to
        ears.fence("x/a")
        own = number(lab.endpoints["x/a"].addresses[4]).to_bytes(4, "big")
        assert not ears.heard(own + number(outside).to_bytes(4, "big"))


def test_a_foreign_flow_in_the_way_is_no_way_out(lab: Lab) -> None:
    node = lab.nodes["one"]
    node.ofctl("add-flow", "table=20,priority=60000,udp,actions=NORMAL")
    try:
        _, found = ask(lab, "x/c", "80/UDP", "--ip-version", "4")
    finally:
        node.ofctl("del-flows", "--strict", "table=20,priority=60000,udp")
    (live,) = [one["live"] for one in found]
    assert not live["sent"] and "a foreign flow is in its way" in live["reason"]
