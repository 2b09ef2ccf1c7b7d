"""ICMP: errors about an allowed connection come through isolation, any others do not, and echo is subject to it."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace

import pytest

from flows import oxm
from tests.packets.frames import Ears, mac, number, put
from tests.packets.policies import pods, policies, port
from tests.pipeline.packet import ETHER, ICMP, Packet
from tests.switch.frames import encode
from topology.lab import Lab
from topology.netns import in_thread, inside
from topology.probe.matrix import Probe

pytestmark = pytest.mark.lab

# Everybody in x is isolated; x/a serves UDP 80 to 99 to x/b and x/c.
POLICY = policies(
    {
        "x/deny": {"policyTypes": ["Ingress"]},
        "x/serve": {
            "podSelector": pods("a"),
            "ingress": [{"from": [{"podSelector": pods("b", "c")}], "ports": [port(80, "UDP", 99)]}],
        },
    }
)
WAYS = [(source, family) for source in ("x/b", "x/c") for family in (4, 6)]
TOO_BIG = {4: (3, 4), 6: (2, 0)}
UNREACHABLE = {4: (3, 3), 6: (1, 4)}


def client(lab: Lab, source: str, family: int, to: int) -> socket.socket:
    """A UDP socket of an endpoint, connected to a port of x/a."""
    version = socket.AF_INET if family == 4 else socket.AF_INET6

    def make() -> socket.socket:
        with inside(lab.netns(source)):
            sock = socket.socket(version, socket.SOCK_DGRAM)
            sock.bind((lab.endpoints[source].addresses[family], 0))
            sock.connect((lab.endpoints["x/a"].addresses[family], to))
            return sock

    made = in_thread(make)
    made.settimeout(1)
    return made


def refused(sock: socket.socket, tries: int = 10) -> bool:
    """Whether the kernel was told that nobody serves the port."""
    for _ in range(tries):
        try:
            sock.send(b"?\n")
            sock.recv(64)
        except TimeoutError:
            continue
        except OSError as error:
            return error.errno == errno.ECONNREFUSED
    return False


@pytest.mark.parametrize(("source", "family"), WAYS)
def test_errors_about_what_is_allowed_pass(lab: Lab, source: str, family: int) -> None:
    try:
        lab.apply(POLICY)
        with client(lab, source, family, 99) as sock:
            assert refused(sock)
        with client(lab, source, family, 79) as sock:
            assert not refused(sock, tries=2)
    finally:
        lab.reset()


@pytest.mark.parametrize(("source", "family"), WAYS)
def test_forged_errors_do_not(lab: Lab, source: str, family: int) -> None:
    """x/a reports on datagrams: on ones that came, and on ones that never were."""
    ends = [number(lab.endpoints[name].addresses[family]) for name in (source, "x/a")]
    quoted = Packet(
        eth_type=ETHER[family], source=ends[0], target=ends[1], proto=oxm.IP_PROTO_UDP, dport=80
    )  # fmt: skip
    error = Packet(
        eth_src=mac(lab, "x/a"), eth_dst=mac(lab, source), eth_type=ETHER[family], source=ends[1], target=ends[0],
        proto=ICMP[family],
    )  # fmt: skip

    def report(kind: tuple[int, int], sport: int, marker: int, dport: int = 80) -> Packet:
        told = replace(quoted, sport=sport, dport=dport, marker=marker)
        return replace(error, sport=kind[0], dport=kind[1], quoted=told, train=marker & 0xFFFF)

    try:
        lab.apply(POLICY)
        with client(lab, source, family, 80) as sock, Ears(lab, [source, "node:one"]) as ears:
            sock.send(b"?\n")
            assert sock.recv(64).endswith(b"?\n")
            own = sock.getsockname()[1]
            true = [report(TOO_BIG[family], own, 0xE1), report(UNREACHABLE[family], own, 0xE2)]
            never = own - 1 if own > 20000 else own + 1
            false = [
                report(kind, sport, 0xE3 + place, dport)
                for kind in (TOO_BIG[family], UNREACHABLE[family])
                for place, (sport, dport) in enumerate(((never, 80), (own, 81)))
            ]
            put(lab, "x/a", [encode(one) for one in (*true, *false)])
            ears.fence("x/a")
            assert [ears.count(source, encode(one)) for one in true] == [1, 1]
            assert [ears.count(source, encode(one)) for one in false] == [0] * len(false)
    finally:
        lab.reset()


def test_echo_is_isolated(lab: Lab) -> None:
    rule = {"podSelector": pods("a"), "ingress": [{"from": [{"podSelector": pods("b", "c")}]}]}
    probes = [Probe(source, "x/a", "ICMP", 0, family) for source in ("x/b", "x/c", "y/a") for family in (4, 6)]
    try:
        lab.apply(POLICY)
        assert lab.run_probes(probes, (0.5,)).count()["denied"] == 6, "a rule with ports allows no echo"
        lab.apply(policies({"x/serve": rule}))
        seen = lab.run_probes(probes, (0.5,), lambda probe: probe.source != "y/a")
        assert {probe for probe, outcome in seen.results.items() if outcome.reachable} == set(probes[:4])
    finally:
        lab.reset()
