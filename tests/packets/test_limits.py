"""What one pod takes too much of, others still have: fragments that wait, the connection table, SCTP associations.

Limits are Headgate's own defaults. Each flood is also counted, by pod and kind.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from flows import oxm
from flows.limits import SCTP_MOST_OF_POD, Rates
from tests.packets.frames import Ears, mac, number, put
from tests.packets.policies import policies
from tests.packets.test_fragments import answered, asker
from tests.pipeline.packet import ETHER, Packet, split
from tests.switch.frames import encode
from topology.lab import Lab
from topology.netns import in_thread, inside

pytestmark = pytest.mark.lab

FLOODER, VICTIM, OTHER, FAR = "x/a", "x/c", "y/c", "x/b"  # all but the last stand on one node
TABLE = 20_000  # connections that the switch remembers, so that a flood of seconds would fill it
CLIENTS_ISOLATED = policies({"x/deny": {"podSelector": {"matchLabels": {"pod": "c"}}, "policyTypes": ["Ingress"]}})


def packet(lab: Lab, source: str, target: str, family: int = 4, **changes: object) -> Packet:
    """A UDP packet between two pods."""
    there, here = (number(lab.endpoints[end].addresses[family]) for end in (target, source))
    plain = Packet(
        eth_src=mac(lab, source), eth_dst=mac(lab, target), eth_type=ETHER[family], source=here, target=there,
        proto=oxm.IP_PROTO_UDP, sport=4000, dport=80,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]  # the names are Packet's


def paced(lab: Lab, source: str, frames: Iterable[bytes], at_once: int = 100) -> None:
    """Send frames no faster than the switch takes them."""
    some: list[bytes] = []
    for frame in frames:
        some.append(frame)
        if len(some) == at_once:
            put(lab, source, some)
            some = []
            time.sleep(0.015)
    put(lab, source, some)


def dropped(lab: Lab, pod: str, kind: str) -> int:
    """What the limit of a pod has dropped, by the metric."""
    lab.product.call(["flows"])  # has the counters read
    namespace, _, name = pod.partition("/")
    wanted = f'headgate_limited_packets_total{{kind="{kind}",namespace="{namespace}",pod="{name}"}}'
    found = re.search(rf"^{re.escape(wanted)} (\S+)$", lab.product.text("/metrics"), re.MULTILINE)
    return int(float(found[1])) if found else 0


def reached(lab: Lab, source: str, target: str) -> bool:
    """Whether a large datagram comes back."""
    with asker(lab, source, 4) as sock:
        return answered(sock, (lab.endpoints[target].addresses[4], 80), b"\x5e" * 3000)


def test_fragments_of_one_pod_leave_room_for_others(lab: Lab) -> None:
    assert reached(lab, VICTIM, FAR)
    before = dropped(lab, FLOODER, "fragments")
    firsts = (
        encode(split(packet(lab, FLOODER, target), train, 3)[0]) for train in range(1, 2001) for target in (VICTIM,)
    )
    paced(lab, FLOODER, firsts, 20)
    assert reached(lab, VICTIM, FAR)
    assert reached(lab, OTHER, FAR)
    assert dropped(lab, FLOODER, "fragments") - before > 1000
    assert dropped(lab, VICTIM, "fragments") == 0
    status = lab.product.call(["status", "--pods", "-o", "json"]).stdout
    limited = {pod["key"]: pod["limited"] for pod in json.loads(status)["pods"]}
    assert limited[FLOODER] > 1000
    assert "limits dropped" in lab.product.call(["status", "--pods"]).stdout


@contextmanager
def small_table(lab: Lab, node: str) -> Iterator[None]:
    """A node whose switch remembers few connections."""
    most = lab.nodes[node].appctl("dpctl/ct-get-maxconns").strip()
    lab.nodes[node].appctl("dpctl/ct-set-maxconns", str(TABLE))
    try:
        yield
    finally:
        lab.nodes[node].appctl("dpctl/ct-set-maxconns", most)
        lab.nodes[node].appctl("dpctl/flush-conntrack")


@pytest.mark.parametrize("family", [4, 6])
def test_connections_of_one_pod_leave_room_for_others(lab: Lab, family: int) -> None:
    before = dropped(lab, FLOODER, "new_connections")
    try:
        lab.apply(CLIENTS_ISOLATED)
        with small_table(lab, "one"):
            made = encode(packet(lab, FLOODER, OTHER, family))
            at = 34 if family == 4 else 54
            # A UDP checksum of zero, and other ports each time (of IPv6 the checksum goes with the ports).
            opened = (
                _with_ports(made, at, 1024 + n % 30_000, 3000 + n // 30_000, family) for n in range(int(1.6 * TABLE))
            )
            paced(lab, FLOODER, opened)
            assert int(lab.nodes["one"].appctl("dpctl/ct-get-nconns")) < TABLE
            # The answer to an isolated client passes only if its question was recorded.
            for client in (VICTIM, OTHER):
                with asker(lab, client, family) as sock:
                    assert answered(sock, (lab.endpoints[FAR].addresses[family], 80), b"\x5f" * 30)
            assert dropped(lab, FLOODER, "new_connections") - before > 1000
            assert dropped(lab, VICTIM, "new_connections") == 0
    finally:
        lab.reset()


def _with_ports(frame: bytes, at: int, sport: int, dport: int, family: int) -> bytes:
    old = struct.unpack_from("!HH", frame, at)
    check = 0
    if family == 6:
        total = (~int.from_bytes(frame[at + 6 : at + 8], "big") & 0xFFFF) + sum((sport, dport))
        total += sum(~one & 0xFFFF for one in old)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        check = ~total & 0xFFFF or 0xFFFF
    length = frame[at + 4 : at + 6]
    return frame[:at] + struct.pack("!HH", sport, dport) + length + check.to_bytes(2, "big") + frame[at + 8 :]


def test_a_stream_that_nobody_answers_is_one_connection(lab: Lab) -> None:
    """Conntrack calls every packet of it new; that it is recorded already takes it past the meter."""
    before = dropped(lab, VICTIM, "new_connections")
    rates = Rates()
    with Ears(lab, [OTHER]) as ears:
        frames = [encode(packet(lab, VICTIM, OTHER, sport=5001, dport=9, marker=77))] * (rates.connections * 14)
        paced(lab, VICTIM, frames)
        time.sleep(0.3)
        # Whatever a busy machine lost, more came through than a limited pod could have sent.
        assert ears.count(OTHER, (77).to_bytes(8, "big")) > rates.connections * 10
    assert dropped(lab, VICTIM, "new_connections") == before


def test_associations_of_one_pod_leave_room_for_others(lab: Lab) -> None:
    node = lab.nodes["one"]

    def learned() -> list[str]:
        return [line for line in node.ofctl("dump-flows", "table=25").splitlines() if "cookie=0x484706" in line]

    assert learned() == []
    opened = (
        encode(packet(lab, FLOODER, OTHER, proto=oxm.IP_PROTO_SCTP, sport=1024 + n, dport=7))
        for n in range(SCTP_MOST_OF_POD + 500)
    )
    paced(lab, FLOODER, opened, 20)
    mine = len(learned())
    assert SCTP_MOST_OF_POD * 0.9 <= mine <= SCTP_MOST_OF_POD
    put(lab, VICTIM, [encode(packet(lab, VICTIM, OTHER, proto=oxm.IP_PROTO_SCTP, sport=9, dport=7))])
    time.sleep(0.3)
    assert len(learned()) == mine + 1


def test_an_honest_pod_opens_as_many_as_it_likes(lab: Lab) -> None:
    """Connections a second with TCP, far more than most pods ever open: none is lost."""
    there = lab.endpoints[OTHER].addresses[4]
    before = dropped(lab, VICTIM, "new_connections")

    def connect() -> int:
        with inside(lab.netns(VICTIM)):
            done = 0
            end = time.monotonic() + 3
            while time.monotonic() < end:
                with socket.create_connection((there, 80), timeout=2):
                    done += 1
            return done

    assert in_thread(connect) > 100
    assert dropped(lab, VICTIM, "new_connections") == before
