"""Nobody can speak as somebody else: forged frames of every kind end in the switch, honest ones of the same make
arrive."""

from __future__ import annotations

import pytest

from tests.helpers.lab.forged_frames import Forged, Forger, from_a_pod, from_the_uplink, honest
from tests.helpers.lab.raw_frames import FrameListener, neighbours_of, put, send_from
from topology.host import links, netns
from topology.lab.lab import Lab
from topology.lab.node import LAB_BRIDGE

pytestmark = pytest.mark.lab


def heard(ears: FrameListener, frames: list[Forged]) -> dict[str, list[str]]:
    """Where each frame arrived; those that arrived nowhere are left out."""
    found = {one.what: ears.heard(one.known_by) for one in frames}
    return {what: where for what, where in found.items() if where}


@pytest.mark.parametrize("receiver", ["x/c", "x/b"], ids=["on-the-same-node", "on-the-other-node"])
def test_a_pod_speaks_only_for_itself(lab: Lab, receiver: str) -> None:
    make = Forger(lab, "x/a", receiver)
    true, false = honest(make, lab), from_a_pod(make, lab, "y/a")
    with FrameListener(lab, neighbours_of("x/a")) as ears:
        put(lab, "x/a", [one.frame for one in (*true, *false, *true)])
        ears.fence("x/a")
        arrived = heard(ears, true)
        assert {what: where.count(receiver) for what, where in arrived.items()} == {one.what: 2 for one in true}
        assert heard(ears, false) == {}


def test_a_local_pod_or_the_node_does_not_speak_from_the_uplink(lab: Lab) -> None:
    outside = "external:outside"
    make = Forger(lab, outside, "x/c")
    true, false = honest(make, lab), from_the_uplink(make, lab, "x/a")
    with FrameListener(lab, ["x/c", "y/c", "node:one"]) as ears:
        put(lab, outside, [one.frame for one in (*true, *false)])
        ears.fence(outside)
        assert {what: where.count("x/c") for what, where in heard(ears, true).items()} == {one.what: 1 for one in true}
        assert heard(ears, false) == {}


def test_the_node_is_not_reached_from_its_own_pods_under_a_false_name(lab: Lab) -> None:
    make = Forger(lab, "x/a", "node:one")
    true, false = honest(make, lab), from_a_pod(make, lab, "y/a")
    with FrameListener(lab, neighbours_of("x/a")) as ears:
        put(lab, "x/a", [one.frame for one in (*true, *false)])
        ears.fence("x/a")
        assert {what: where.count("node:one") for what, where in heard(ears, true).items()} == {
            one.what: 1 for one in true
        }
        assert heard(ears, false) == {}


def test_a_port_of_nobody_passes_nothing_and_is_named(lab: Lab) -> None:
    """A port without external_ids: nothing gets in, as whoever it speaks, nothing gets out, and `status` says so."""
    node, make = lab.nodes["one"], Forger(lab, "x/a", "x/c")
    mine = honest(make, lab)
    netns.create(stranger := lab.netns_folder / "stranger")
    try:
        with netns.inside(node.netns):
            links.make_veth("stray0", "eth0", stranger, lab.topology.mtu)
        with netns.inside(stranger):
            links.configure_interface("eth0", {}, {}, lab.topology.mtu)
        node.vsctl(["add-port", LAB_BRIDGE, "stray0"])
        lab.wait()
        with FrameListener(lab, neighbours_of("x/a")) as ears:
            send_from(stranger, "eth0", [one.frame for one in mine])
            ears.fence("x/a")
            assert heard(ears, mine) == {}
        assert "stray0" in lab.product.call(["status"]).stdout
        (switch,) = (one for one in lab.product.get("/status")["switches"] if one["node"] == "one")
        assert [port["name"] for port in switch["unbound_ports"]] == ["stray0"]
        flows = "\n".join(node.ofctl("dump-ports", "stray0").splitlines()[1:])
        assert "tx pkts=0," in flows, flows
    finally:
        node.vsctl(["--if-exists", "del-port", "stray0"])
        with netns.inside(node.netns):
            links.remove_link("stray0")
        netns.remove(stranger)
        lab.wait()
