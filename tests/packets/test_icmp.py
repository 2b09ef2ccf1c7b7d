"""ICMP: errors about an allowed connection come through isolation, any others do not, and echo is subject to it."""

from __future__ import annotations

import errno
import itertools
import socket
from dataclasses import replace
from typing import Any

import pytest

from flows.interpret.frame_encoder import encode
from flows.interpret.packet import ETHER, ICMP, Packet
from flows.openflow import match_fields as oxm
from tests.helpers.lab.datapath_choice import KERNEL
from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.raw_frames import FrameListener, mac, number, put, wait_for_stragglers
from tests.helpers.waiting import until
from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe

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
    """Whether the kernel has learned that the port has no server."""
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
        with client(lab, source, family, 80) as sock, FrameListener(lab, [source, "node:one"]) as ears:
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
    probes = [LabProbe(source, "x/a", "ICMP", 0, family) for source in ("x/b", "x/c", "y/a") for family in (4, 6)]
    try:
        lab.apply(POLICY)
        assert lab.run_probes(probes, (0.5,)).count()["denied"] == 6, "a rule with ports allows no echo"
        lab.apply(policies({"x/serve": rule}))
        seen = lab.run_probes(probes, (0.5,), lambda probe: probe.source != "y/a")
        assert {probe for probe, outcome in seen.results.items() if outcome.reachable} == set(probes[:4])
    finally:
        lab.reset()


# z/a may open nothing; it is free to be reached. x/a and x/c, as those who talk, are not concerned.
SILENT = policies({"z/silent": {"podSelector": pods("a"), "policyTypes": ["Egress"]}})
# The kernel's conntrack takes no SCTP that does not open as an association does; these are made by hand.
_PROTOCOLS = (oxm.IP_PROTO_UDP,) if KERNEL else (oxm.IP_PROTO_UDP, oxm.IP_PROTO_SCTP)
TALKS = [(proto, family) for proto in _PROTOCOLS for family in (4, 6)]


def between(lab: Lab, source: str, target: str, family: int, proto: int, **what: Any) -> Packet:
    """A packet from one end to another."""
    addresses = [number(lab.endpoints[end].addresses[family]) for end in (source, target)]
    plain = Packet(eth_src=mac(lab, source), eth_dst=mac(lab, target), eth_type=ETHER[family], source=addresses[0],
                   target=addresses[1], proto=proto)  # fmt: skip
    return replace(plain, **what)


def bare(packet: Packet) -> bytes:
    """The frame without what fills it up, which not every link hands on; its last byte must not be zero."""
    return encode(packet).rstrip(b"\0")


@pytest.mark.parametrize("accomplice", ["x/c", "x/b", "external:outside"])
@pytest.mark.parametrize(("proto", "family"), TALKS)
def test_a_pod_reports_only_on_its_own_connections(lab: Lab, accomplice: str, proto: int, family: int) -> None:
    """An error carries what its sender likes. About others' connections none passes, nor to anybody but the peer."""
    try:
        lab.apply(SILENT)
        with FrameListener(lab, ["x/a", "x/b", "x/c", "z/a", "node:one", accomplice]) as ears:
            talk = between(lab, accomplice, "x/a", family, proto=proto, sport=40001, dport=9000, marker=0xF1)
            own = between(lab, accomplice, "z/a", family, proto=proto, sport=40002, dport=9000, marker=0xF2)
            put(lab, accomplice, [encode(talk), encode(own)])
            if accomplice.startswith("x/"):
                ears.fence(accomplice)
            else:
                until(lambda: "x/a" in ears.heard(bare(talk)) and "z/a" in ears.heard(bare(own)))
            markers = itertools.count(1)

            def arrives(to: str, quoted: Packet) -> bool:
                error = between(lab, "z/a", to, family, proto=ICMP[family], sport=UNREACHABLE[family][0],
                                dport=UNREACHABLE[family][1], quoted=quoted, train=next(markers))  # fmt: skip
                frame = encode(replace(error, quoted=replace(quoted, marker=next(markers) << 40)))
                put(lab, "z/a", [frame])
                ears.fence("z/a")
                return bool(ears.heard(frame))

            assert not arrives(accomplice, talk), "about somebody else's connection"
            assert not arrives(
                accomplice, replace(talk, source=talk.target, target=talk.source, sport=9000, dport=40001)
            )
            assert not arrives("x/a", own), "about its own, to somebody else"
            assert arrives(accomplice, own), "about its own, to the other end"
            lab.apply(policies({"z/silent": {"podSelector": pods("a"), "policyTypes": ["Egress", "Ingress"]}}))
            assert not arrives(accomplice, own), "policy lets the connection pass no longer"
    finally:
        lab.reset()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("opened", ["by the pod", "to the pod"])
def test_a_router_reports_to_the_ends_of_a_connection_and_nobody_else(lab: Lab, opened: str, family: int) -> None:
    """A packet was too big for some router on the way, whose address nobody here knows.

    The kernel's datapath does not tell which connection an error about a reply belongs to (docs/semantics.md).
    """
    router = 0xCB007163 if family == 4 else 0x20010DB8 << 96 | 0x99
    ends = ("x/b", "external:outside") if opened == "by the pod" else ("external:outside", "x/b")
    block = f"{lab.endpoints['external:outside'].addresses[family]}/{32 if family == 4 else 128}"
    peer = [{"ipBlock": {"cidr": block}}]
    rule = {"ports": [port(80, "UDP")]}
    both = {"podSelector": pods("b"), "policyTypes": ["Ingress", "Egress"]}
    try:
        lab.apply(
            policies({"x/strict": {**both, "ingress": [{**rule, "from": peer}], "egress": [{**rule, "to": peer}]}})
        )
        with FrameListener(lab, ["x/a", "x/b", "x/c", "external:outside"]) as ears:
            first = between(lab, *ends, family, proto=oxm.IP_PROTO_UDP, sport=40003, dport=80, marker=0xF3)
            put(lab, ends[0], [encode(first)])
            until(lambda: ends[1] in ears.heard(bare(first)))
            back = replace(first, source=first.target, target=first.source, sport=80, dport=40003)
            sent = first if opened == "by the pod" else back

            def arrives(to: str, quoted: Packet, marker: int) -> bool:
                error = between(lab, "external:outside", to, family, proto=ICMP[family], sport=TOO_BIG[family][0],
                                dport=TOO_BIG[family][1], quoted=replace(quoted, marker=marker))  # fmt: skip
                frame = encode(replace(error, source=router, train=marker))
                fence = between(lab, "external:outside", "x/c", family, proto=47, marker=marker)
                put(lab, "external:outside", [frame, encode(fence)])
                until(lambda: bool(ears.heard(bare(fence))))
                wait_for_stragglers()
                return ears.heard(frame) == [to]

            known = opened == "by the pod" or not KERNEL
            assert arrives("x/b", sent, 0xF4) == known
            assert not arrives("x/b", replace(sent, sport=sent.sport + 1), 0xF5), "about nothing"
            assert not arrives("x/a", sent, 0xF6), "to somebody else"
            lab.apply(policies({"x/strict": both}))
            assert not arrives("x/b", sent, 0xF7), "about what was revoked"
            others = [{"ipBlock": {"cidr": "0.0.0.0/0" if family == 4 else "::/0", "except": [block]}}]
            lab.apply(policies({"x/strict": {**both, "ingress": [{"from": others}], "egress": [{"to": others}]}}))
            assert not arrives("x/b", sent, 0xF8), "allowed is everybody else"
    finally:
        lab.reset()
