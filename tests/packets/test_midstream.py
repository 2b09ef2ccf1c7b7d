"""Connections that conntrack first sees in the middle: allowed ones go on from either side, others stay cut."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.streams import SIDES, BackgroundStreams, LongLived
from tests.helpers.waiting import until
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe

pytestmark = pytest.mark.lab

SERVER = "x/a"
CLIENTS = ("x/b", "x/c", "external:outside")  # on the other node, on the server's own, and outside
PORT = 7000
# Longer than the pause after which a kernel sends again what was not answered, here after few tries.
QUIET = 2.0
DENY = policies({"x/deny": {"policyTypes": ["Ingress"]}})


def serve(lab: Lab, ends: Iterable[int] = (PORT,)) -> str:
    """The rule that lets all clients in."""
    blocks = [f"{lab.endpoints[CLIENTS[-1]].addresses[family]}/{length}" for family, length in ((4, 32), (6, 128))]
    peers = [{"podSelector": pods("b", "c")}, *({"ipBlock": {"cidr": block}} for block in blocks)]
    rule = {"from": peers, "ports": [port(number) for number in ends]}
    return policies({"x/serve": {"podSelector": pods("a"), "ingress": [rule]}})


def heard(streams: list[LongLived]) -> list[tuple[int, int]]:
    """Messages of client and server that arrived, by stream."""
    return [(one.heard["client"], one.heard["server"]) for one in streams]


def arrives(streams: list[LongLived], side: str) -> None:
    """Send one more message, and return once all that this side has sent has arrived."""
    for one in streams:
        one.say(side)
    until(lambda: all(one.heard[side] == one.said[side] for one in streams))


def stays_cut(streams: list[LongLived], sides: Iterable[str] = SIDES) -> None:
    """Nothing arrives from either side."""
    before = heard(streams)
    for side in sides:
        for one in streams:
            one.say(side)
        time.sleep(QUIET / 2)
    time.sleep(QUIET)
    assert heard(streams) == before


@contextmanager
def connected(lab: Lab, first: int = PORT, sport: int = 0) -> Iterator[list[LongLived]]:
    """A connection of every client to the server, both families, each to a port of its own from `first` on.

    Nobody speaks but when told to; what is said is taken in all the time.
    """
    ways = [(client, family) for client in CLIENTS for family in (4, 6)]
    with ExitStack() as stack:
        stack.callback(lab.reset)
        numbers = range(first, first + len(ways))
        lab.apply(DENY + "---\n" + serve(lab, numbers))
        streams = [
            LongLived(lab, LabProbe(client, SERVER, "TCP", number, family), (), sport and sport + number - first)
            for (client, family), number in zip(ways, numbers, strict=True)
        ]
        stack.enter_context(BackgroundStreams(streams))
        for side in SIDES:
            arrives(streams, side)
        yield streams


@pytest.mark.parametrize("restarted", [("one",), ("two",), ("one", "two")], ids="+".join)
def test_what_was_revoked_stays_cut_when_switches_restart(lab: Lab, restarted: tuple[str, ...]) -> None:
    with connected(lab) as streams:
        lab.delete(serve(lab))
        stays_cut(streams)
        for node in restarted:
            lab.restart_switch(node)
        lab.wait()
        stays_cut(streams, ("server", "client"))
        lab.apply(serve(lab, range(PORT, PORT + len(streams))))
        for side in SIDES:
            arrives(streams, side)


@pytest.mark.parametrize("speaker", SIDES)
@pytest.mark.parametrize("restarted", [("one",), ("two",), ("one", "two")], ids="+".join)
def test_what_is_allowed_goes_on_and_is_still_revoked(lab: Lab, restarted: tuple[str, ...], speaker: str) -> None:
    with connected(lab) as streams:
        for node in restarted:
            lab.restart_switch(node)
        lab.wait()
        for _ in range(3):
            arrives(streams, speaker)
        lab.delete(serve(lab))
        stays_cut(streams)


@pytest.mark.parametrize("speaker", SIDES)
def test_headgate_comes_to_connections_that_run(lab: Lab, speaker: str) -> None:
    with connected(lab) as streams:
        lab.product.stop()
        try:
            for node in lab.nodes.values():
                node.ofctl("del-flows")
                node.ofctl("add-flow", "priority=0,actions=NORMAL")
                node.appctl("dpctl/flush-conntrack")
            for side in SIDES:
                arrives(streams, side)
        finally:
            lab.product.start()
            lab.wait()
            for node in lab.nodes.values():
                node.ofctl("del-flows", "cookie=0/-1,table=0")
        arrives(streams, speaker)
        lab.delete(serve(lab))
        stays_cut(streams)


@pytest.mark.parametrize("speaker", SIDES)
def test_an_entry_that_is_gone_is_no_end(lab: Lab, speaker: str) -> None:
    with connected(lab) as streams:
        for node in lab.nodes.values():
            node.appctl("dpctl/flush-conntrack")
        arrives(streams, speaker)


@pytest.mark.parametrize(("first", "sport"), [(7100, 20000), (40000, 0)], ids=["both-low", "both-high"])
def test_what_cannot_be_told_must_be_allowed_both_ways(lab: Lab, first: int, sport: int) -> None:
    """The ports leave open which end is the client: it goes on only where either may open it, decided per packet."""
    with connected(lab, first, sport) as streams:
        inside = [one for one in streams if one.probe.source.startswith("x/")]
        outside = [one for one in streams if one not in inside]
        for node in ("one", "two"):
            lab.restart_switch(node)
            lab.nodes[node].appctl("dpctl/flush-conntrack")  # the kernel's outlives a switch
        lab.wait()
        # The clients of the namespace are isolated too, so the server may not open to them; to the outside it may.
        arrives(outside, "server")
        arrives(outside, "client")
        stays_cut(inside)
        lab.apply(policies({"x/open": {"podSelector": pods("b", "c"), "ingress": [{}]}}))
        arrives(inside, "server")
        arrives(inside, "client")
        lab.delete(policies({"x/open": {}}))
        stays_cut(inside)
        lab.delete(serve(lab))
        stays_cut(streams)


def test_a_new_connection_takes_the_place_of_one_that_both_ends_forgot(lab: Lab) -> None:
    """The same addresses and ports again, as after a crash: userspace conntrack has the old connection for a day."""
    with ExitStack() as stack:
        stack.callback(lab.reset)
        lab.apply(DENY + "---\n" + serve(lab))
        for client in CLIENTS:
            for family in (4, 6):
                probe = LabProbe(client, SERVER, "TCP", PORT, family)
                for _ in range(3):
                    stream = LongLived(lab, probe, (), 45001)
                    with BackgroundStreams([stream], closing=False):
                        arrives([stream], "client")
                        arrives([stream], "server")
                    stream.forget()
                    time.sleep(0.1)  # the kernel's next sequence number is then far from the last one


def test_it_is_asked_about_like_any_other(lab: Lab) -> None:
    probe = LabProbe(CLIENTS[0], SERVER, "TCP", PORT, 4)
    with ExitStack() as stack:
        stack.callback(lab.reset)
        lab.apply(DENY + "---\n" + serve(lab))
        LongLived(lab, probe, (), 45100).forget()
        lab.apply(DENY)
        lab.delete(serve(lab))
        with pytest.raises(TimeoutError):
            LongLived(lab, probe, (), 45100, patience=1.0)
