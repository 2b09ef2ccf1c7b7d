"""A real switch passes no ARP, neighbor discovery or MLD frame but those that it can check in full.

Frames are generated: what stands in an honest one, with options, headers, lengths and addresses put otherwise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Key
from flows.cluster.net import parse_address
from flows.interpret.frame_encoder import checksum
from flows.policy.rule import NodePolicy
from flows.render.neighbors import LONGEST_REPORT, link_local
from flows.render.reference import render
from tests.helpers.ovs.open_vswitch import Bridge, open_vswitch

pytestmark = pytest.mark.switch


MACS = {2: 0x020000000002, 3: 0x020000000003, 4: None}
SIX = {n: parse_address(f"fd00::{n}") for n in MACS}
FOUR = {n: parse_address(f"10.0.0.{n}") for n in MACS}
PODS = tuple(PodBinding(n, f"p{n}", Key("x", f"p{n}"), mac, (FOUR[n], SIX[n])) for n, mac in MACS.items())
PORTS = {"up": 1, **{pod.interface: pod.ofport for pod in PODS}}
OWN, OTHER, STRANGER = 0x020000000002, 0x020000000003, 0x029999999999
LINK_LOCAL = link_local(OWN).value
SOLICIT, ADVERTISE, ROUTERS, REPORT = 135, 136, 133, 143
_HEADERS = {0: b"\x05\x02\0\0\1\0", 60: b"\1\4\0\0\0\0", 43: b"\4\0\0\0\0\0"}
FRAGMENT = 44


@dataclass(frozen=True)
class Message:
    """An ICMPv6 message as a pod of port 2 sends it; the defaults are an honest solicitation of the pod p3."""

    kind: int = SOLICIT
    eth_src: int = OWN
    eth_dst: int = 0x3333FF000003
    source: int = SIX[2].value
    to: int = 0xFF02 << 112 | 0x1FF000003
    target: int | None = SIX[3].value
    options: bytes = b""
    hops: int = 255
    code: int = 0
    headers: tuple[int, ...] = ()
    offset: int = 0  # of the fragment header, with its flag for more
    trailer: bytes = b""
    body: bytes = field(default=bytes(4))

    def frame(self) -> bytes:
        """The bytes on the wire."""
        rest = self.body + (b"" if self.target is None else self.target.to_bytes(16, "big")) + self.options
        addresses = self.source.to_bytes(16, "big") + self.to.to_bytes(16, "big")
        plain = struct.pack("!BBH", self.kind, self.code, 0) + rest
        check = checksum(addresses + struct.pack("!IxxxB", len(plain), 58) + plain)
        payload = plain[:2] + struct.pack("!H", check) + plain[4:]
        following = 58
        for header in reversed(self.headers):
            more = struct.pack("!BxHI", following, self.offset, 7) if header == FRAGMENT else b""
            payload = (more or bytes((following, 0)) + _HEADERS[header]) + payload
            following = header
        ip = struct.pack("!IHBB", 6 << 28, len(payload), following, self.hops) + addresses
        ether = self.eth_dst.to_bytes(6, "big") + self.eth_src.to_bytes(6, "big") + b"\x86\xdd"
        return (ether + ip + payload + self.trailer).ljust(60, b"\0")


def option(kind: int, mac: int, length: int = 1) -> bytes:
    """A link-layer address option, perhaps with another length."""
    return bytes((kind, length)) + mac.to_bytes(6, "big")


ADVERT = Message(ADVERTISE, eth_dst=OTHER, to=SIX[3].value, target=SIX[2].value)
DUPLICATE = Message(source=0, target=SIX[2].value)
ASKS_ROUTERS = Message(ROUTERS, eth_dst=0x333300000002, source=LINK_LOCAL, to=0xFF02 << 112 | 2, target=None)
LISTENS = Message(
    REPORT, eth_dst=0x333300000016, source=LINK_LOCAL, to=0xFF02 << 112 | 0x16, target=None, hops=1, headers=(0,),
    options=b"\4\0\0\0" + SIX[2].value.to_bytes(16, "big"),
)  # fmt: skip
HONEST = (
    Message(), Message(options=option(1, OWN)), replace(ADVERT, options=option(2, OWN)), ADVERT, DUPLICATE,
    ASKS_ROUTERS, replace(ASKS_ROUTERS, source=0), LISTENS, replace(LISTENS, source=0),
    Message(source=LINK_LOCAL, options=option(1, OWN)),
)  # fmt: skip
SHOULD_REACH = {SOLICIT: {"p3"}, ADVERTISE: {"p3"}, ROUTERS: {"br-int", "up"}, REPORT: {"br-int", "up"}}


def may_pass(message: Message) -> bool:
    """The rule: exactly one message of one type, about the pod itself, with the pod's own option or none."""
    # Receivers cut off bytes behind the IP packet in its frame, and the userspace datapath does not count them.
    plain = not message.code and message.eth_src == OWN
    if message.kind in (SOLICIT, ADVERTISE):
        if message.target is None and len(message.options) >= 16:  # the bytes on the wire are the same
            first, rest = message.options[:16], message.options[16:]
            message = replace(message, target=int.from_bytes(first, "big"), options=rest)
        own = {option(1 if message.kind == SOLICIT else 2, OWN), b""}
        if not plain or message.headers or message.hops != 255 or message.target is None or message.options not in own:
            return False
        if message.kind == ADVERTISE:
            return message.source in (SIX[2].value, LINK_LOCAL) and message.target == message.source
        if message.source == 0:
            return not message.options and message.target in (SIX[2].value, LINK_LOCAL)
        return message.source in (SIX[2].value, LINK_LOCAL) and message.target != 0
    if message.kind == ROUTERS:
        bare = message.target is None and not message.options and not message.headers
        return plain and bare and message.hops == 255 and message.source in (LINK_LOCAL, 0)
    to_routers = message.eth_dst == LISTENS.eth_dst and message.to == LISTENS.to and message.hops == 1
    short = len(message.frame()) - len(message.trailer) <= LONGEST_REPORT
    whole = FRAGMENT not in message.headers or not message.offset
    return plain and to_routers and short and whole and message.kind == REPORT and message.source in (LINK_LOCAL, 0)


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with open_vswitch() as ovs:
        made = ovs.add_bridge("br-int")
        made.add_ports(PORTS)
        view = Binding((parse_address("10.0.0.1"), parse_address("fd00::1")), 0x020000000001, 1, PODS, True)
        made.install(render(view, NodePolicy({}, ())))
        yield made


def names(bridge: Bridge, frame: bytes, port: str = "p2") -> set[str]:
    """The ports where the frame comes out."""
    return set(bridge.inject(port, frame))


@pytest.mark.parametrize("message", HONEST, ids=range(len(HONEST)))
def test_honest_messages_arrive_where_they_should(bridge: Bridge, message: Message) -> None:
    wanted = (
        {"p3", "p4", "br-int", "up"} if message.source == 0 and message.kind == SOLICIT else SHOULD_REACH[message.kind]
    )
    assert may_pass(message)
    assert names(bridge, message.frame()) == wanted


OPTIONS = st.sampled_from([
    option(1, OWN), option(1, STRANGER), option(1, OTHER), option(2, OWN), option(2, STRANGER), option(1, OWN, 0),
    option(1, STRANGER, 0), option(2, STRANGER, 0), option(1, OWN, 2) + bytes(8), option(1, STRANGER, 2) + bytes(8),
    option(14, STRANGER), option(0, 0), option(1, OWN)[:7], option(5, 1500), b"\1",
])  # fmt: skip
SAID = st.builds(
    lambda base, changes: replace(base, **changes),
    st.sampled_from([Message(), ADVERT, DUPLICATE, ASKS_ROUTERS, LISTENS]),
    st.fixed_dictionaries({}, optional={
        "options": st.lists(OPTIONS, max_size=3).map(b"".join) | st.binary(max_size=40) | st.just(bytes(1200)),
        "eth_src": st.sampled_from([OWN, OTHER, STRANGER]),
        "eth_dst": st.sampled_from([OTHER, 0x333300000016, 0x333300000001, 0xFFFFFFFFFFFF]),
        "source": st.sampled_from([SIX[2].value, LINK_LOCAL, 0, SIX[3].value, 0xFE80 << 112 | 9]),
        "to": st.sampled_from([SIX[3].value, 0xFF02 << 112 | 1, 0xFF02 << 112 | 0x16]),
        "target": st.sampled_from([SIX[2].value, SIX[3].value, LINK_LOCAL, 0, None]),
        "hops": st.sampled_from([255, 254, 1, 64]),
        "code": st.sampled_from([0, 1, 255]),
        "kind": st.sampled_from([130, 131, 132, 133, 134, 135, 136, 137, 143, 151, 152, 153]),
        "headers": st.lists(st.sampled_from([0, 60, 43, FRAGMENT]), max_size=2).map(tuple),
        "offset": st.sampled_from([0, 1, 8, 9]),
        "trailer": st.sampled_from([b"", b"\0", bytes(8), option(1, STRANGER), b"x" * 900]),
    }),
)  # fmt: skip


@given(SAID)
@example(replace(Message(), target=None, options=option(1, OWN) * 2))
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
def test_only_messages_that_can_be_checked_pass(bridge: Bridge, message: Message) -> None:
    assert (names(bridge, message.frame()) != set()) <= may_pass(message)


@given(st.lists(OPTIONS, max_size=3).map(b"".join))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_pod_without_a_known_mac_may_send_one_option_too(bridge: Bridge, options: bytes) -> None:
    message = Message(eth_src=STRANGER, source=SIX[4].value, options=options)
    one = len(options) == 8 and options[:2] == b"\1\1"
    assert (names(bridge, message.frame(), "p4") != set()) == (one or not options)


def arp(op: int, trailer: bytes) -> bytes:
    """ARP of the pod p2 about its own address."""
    own, sender = OWN.to_bytes(6, "big"), FOUR[2].value.to_bytes(4, "big")
    head = b"\xff" * 6 + own + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, op)
    return head + own + sender + bytes(6) + FOUR[3].value.to_bytes(4, "big") + trailer


@pytest.mark.parametrize(
    ("op", "trailer", "arrives"),
    [(1, b"", True), (2, bytes(18), True), (1, bytes(19), False), (1, b"x" * 1400, False), (3, b"", False),
     (8, b"", False), (0, b"", False)],
)  # fmt: skip
def test_arp_is_a_request_or_a_reply_with_nothing_behind_it(
    bridge: Bridge, op: int, trailer: bytes, arrives: bool
) -> None:
    assert bool(names(bridge, arp(op, trailer))) == arrives
