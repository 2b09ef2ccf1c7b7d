"""What one pod takes too much of, others still have: fragments that wait, the connection table, SCTP associations.

Limits are Headgate's own defaults where no test says otherwise. Each flood is also counted, by pod and kind.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import pytest

from flows.interpret.frame_encoder import encode
from flows.interpret.packet import ETHER, Packet, split
from flows.openflow import match_fields as oxm
from flows.pipeline.pod_limits import MAX_SCTP_OF_POD, Limit, Rates
from node.host_fragments import MEMORY, MEMORY_KEYS
from tests.helpers.lab.datapath_choice import KERNEL, kernel_only, userspace_only
from tests.helpers.lab.kinds_of_frames import Ends, ether, ipv4, ipv6
from tests.helpers.lab.policies import policies
from tests.helpers.lab.raw_frames import FrameListener, mac, number, put
from tests.helpers.lab.truth_lab import world_lab
from tests.helpers.waiting import until
from tests.packets.test_fragments import answered, asker
from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab

pytestmark = pytest.mark.lab

FLOODER, VICTIM, OTHER, FAR = "x/a", "x/c", "y/c", "x/b"  # all but the last stand on one node
ACCOMPLICE = "z/a"
TABLE = 4_000  # connections that the switch remembers, so that a flood of a second would fill it
DATAPATH = "system@ovs-system" if KERNEL else "netdev@ovs-netdev"
FRAGMENTS = Rates().band(Limit.FRAGMENTS)
WAIT_SECONDS = 15  # that Open vSwitch lets a fragment wait for the rest of its packet
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


def firsts(lab: Lab, source: str) -> Iterator[bytes]:
    """First fragments whose rest never comes, without end."""
    for train in cycle(range(1, 65_000)):
        yield encode(split(packet(lab, source, VICTIM), train, 3)[0])


def flood(lab: Lab, sources: Iterable[str], enough: Callable[[], bool]) -> None:
    """Let pods send such fragments, far more than their limits let pass, until it is enough."""
    sending = {source: firsts(lab, source) for source in sources}
    while not enough():
        for source, frames in sending.items():
            paced(lab, source, islice(frames, 1000), 20)


def waiting(lab: Lab) -> int:
    """How many fragments wait on the node one."""
    found = re.search(r"num frag: (\d+)", lab.nodes["one"].appctl("dpctl/ipf-get-status", DATAPATH))
    return int(found[1]) if found else -1


@contextmanager
def places(lab: Lab, most: int) -> Iterator[None]:
    """A node where so many fragments may wait; deploy/node.sh says 5,000, Open vSwitch's default is 1,000."""
    node = lab.nodes["one"]
    node.appctl("dpctl/ipf-set-max-nfrags", DATAPATH, str(most))
    try:
        yield
    finally:
        node.appctl("dpctl/ipf-set-max-nfrags", DATAPATH, "1000")


def test_fragments_of_one_pod_leave_room_for_others(lab: Lab) -> None:
    assert reached(lab, VICTIM, FAR)
    before = dropped(lab, FLOODER, "fragments")
    flood(lab, [FLOODER], lambda: dropped(lab, FLOODER, "fragments") - before > 1000)
    assert reached(lab, VICTIM, FAR)
    assert reached(lab, OTHER, FAR)
    assert dropped(lab, VICTIM, "fragments") == 0
    status = lab.product.call(["status", "--pods", "-o", "json"]).stdout
    limited = {pod["key"]: pod["limited"] for pod in json.loads(status)["pods"]}
    assert limited[FLOODER] > 1000
    assert "limits dropped" in lab.product.call(["status", "--pods"]).stdout


@userspace_only  # the kernel counts bytes of fragments: net.ipv4.ipfrag_high_thresh
def test_of_two_pods_where_more_fragments_may_wait(lab: Lab) -> None:
    """More wait than have places by Open vSwitch's default: what deploy/node.sh sets makes the difference."""
    with places(lab, 5000):
        flood(lab, [FLOODER, ACCOMPLICE], lambda: waiting(lab) > 1000)
        assert reached(lab, VICTIM, FAR)
        assert reached(lab, OTHER, FAR)
        most = 2 * (FRAGMENTS.burst + FRAGMENTS.rate * WAIT_SECONDS)
        assert 1000 < waiting(lab) <= most * 1.1 < 5000


@userspace_only
def test_what_full_places_cost_others(lab: Lab) -> None:
    """Large datagrams, and nothing else."""
    with places(lab, 100):
        flood(lab, [FLOODER, ACCOMPLICE], lambda: waiting(lab) >= 100)
        with asker(lab, VICTIM, 4) as sock:
            sock.settimeout(1)
            sock.sendto(b"\x5e" * 3000, (lab.endpoints[FAR].addresses[4], 80))
            with pytest.raises(TimeoutError):
                sock.recv(65536)
            assert answered(sock, (lab.endpoints[FAR].addresses[4], 80), b"\x5d" * 1000)


def large_firsts(lab: Lab, source: str, family: int) -> Iterator[bytes]:
    """As `firsts`, as long as the link carries them."""
    here, there = ([number(lab.endpoints[end].addresses[v]) for v in (4, 6)] for end in (source, VICTIM))
    ends = Ends(mac(lab, source), mac(lab, VICTIM), (here[0], there[0]), (here[1], there[1]))
    for train in cycle(range(1, 65_000)):
        if family == 4:
            yield ether(ends, ETHER[4], ipv4(ends, oxm.IP_PROTO_UDP, bytes(1480), place=0x2000, train=train))
        else:
            head = struct.pack("!BxHI", oxm.IP_PROTO_UDP, 1, train)
            yield ether(ends, ETHER[6], ipv6(ends, 44, head + bytes(1448)))


@contextmanager
def memory(lab: Lab, most: int) -> Iterator[None]:
    """A node whose kernel keeps so many bytes of fragments of each family."""

    def write(key: str, value: str) -> str:
        with inside(lab.nodes["one"].netns):
            path = Path("/proc/sys/net", key)
            before = path.read_text()
            path.write_text(value)
            return before

    before = {key: in_thread(partial(write, key, str(most))) for key in MEMORY_KEYS}
    try:
        yield
    finally:
        for key, value in before.items():
            in_thread(partial(write, key, value))


@kernel_only
@pytest.mark.slow
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("most", [4 << 20, MEMORY], ids=["by-default", "as-node.sh-sets-it"])
def test_of_two_pods_the_kernel_keeps_all_fragments(lab: Lab, most: int, family: int) -> None:
    """It keeps those of IPv4 for 30 s, those of IPv6 for 60."""
    sending = {source: large_firsts(lab, source, family) for source in (FLOODER, ACCOMPLICE)}
    lost = 0
    with memory(lab, most), asker(lab, VICTIM, family) as sock:
        sock.settimeout(1)
        for second in range(75):
            for source, frames in sending.items():
                put(lab, source, list(islice(frames, 50)))
            time.sleep(1)
            if second % 5 == 4:
                sock.sendto(b"\x5c" * 3000, (lab.endpoints[FAR].addresses[family], 80))
                try:
                    sock.recv(65536)
                except TimeoutError:
                    lost += 1
    assert (lost == 0) == (most == MEMORY), f"{lost} of 15 large datagrams of another pod were lost"


@contextmanager
def small_table(lab: Lab, node: str) -> Iterator[None]:
    """A node whose switch remembers few connections. The kernel's number is for the whole machine, so it stays."""
    if KERNEL:
        try:
            yield
        finally:
            lab.nodes[node].appctl("dpctl/flush-conntrack")
        return
    most = lab.nodes[node].appctl("dpctl/ct-get-maxconns").strip()
    lab.nodes[node].appctl("dpctl/ct-set-maxconns", str(TABLE))
    try:
        yield
    finally:
        lab.nodes[node].appctl("dpctl/ct-set-maxconns", most)
        lab.nodes[node].appctl("dpctl/flush-conntrack")


@pytest.fixture(scope="module")
def tight() -> Iterator[Lab]:
    """A lab with a tenth of the default limit: to send more than that is easy, however busy the machine is."""
    with world_lab((FLOODER, VICTIM, OTHER, FAR), environment={"HEADGATE_NEW_CONNECTIONS_PER_POD": "100"}) as made:
        yield made


def remembered(lab: Lab, node: str) -> int:
    """How many connections a node's switch remembers."""
    if not KERNEL:
        return int(lab.nodes[node].appctl("dpctl/ct-get-nconns"))
    with inside(lab.nodes[node].netns):
        return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


@pytest.mark.parametrize("family", [4, 6])
def test_connections_of_one_pod_leave_room_for_others(tight: Lab, family: int) -> None:
    lab = tight
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
            assert 0 < remembered(lab, "one") < TABLE
            # The answer to an isolated client passes only if its question was recorded.
            for client in (VICTIM, OTHER):
                with asker(lab, client, family) as sock:
                    assert answered(sock, (lab.endpoints[FAR].addresses[family], 80), b"\x5f" * 30)
            assert dropped(lab, FLOODER, "new_connections") - before > TABLE / 20
            assert dropped(lab, VICTIM, "new_connections") == 0
    finally:
        lab.reset()


def test_the_limit_of_a_zone_holds_all_pods_of_a_node_together(tight: Lab) -> None:
    """docs/security.md: by hand, for Headgate's zone. OVSDB has a column for it from Open vSwitch 3.3 on only."""
    node, client = tight.nodes["one"], (tight.endpoints[FAR].addresses[4], 80)
    schema = subprocess.run(["ovsdb-client", "get-schema", node.ovsdb], capture_output=True, text=True, check=True)
    columns = json.loads(schema.stdout)["tables"]["CT_Zone"]["columns"]
    version = node.appctl("version").split()[3].split(".")
    assert ("limit" in columns) == (tuple(map(int, version[:2])) >= (3, 3))

    counts: list[int] = []

    def full() -> bool:
        """Whether it is, after one pod has tried to open 200 more; of an earlier flood its meter may be empty."""
        for sport in range(10_000 + 200 * len(counts), 10_200 + 200 * len(counts)):
            put(tight, FLOODER, [encode(packet(tight, FLOODER, OTHER, sport=sport))])
        counts.append(node.appctl("dpctl/dump-conntrack", DATAPATH).count("zone=18503"))
        return counts[-1] >= 50

    node.appctl("dpctl/flush-conntrack")
    node.appctl("dpctl/ct-set-limits", DATAPATH, "zone=18503,limit=50")
    try:
        with asker(tight, VICTIM, 4) as sock:
            assert answered(sock, client, b"\x60" * 30)
        # The kernel's own count may be ahead of what is recorded (nf_conncount).
        until(full, lambda: f"{counts} connections of 50")
        full()
        assert max(counts) == 50
        assert "limit=50,count=" in node.appctl("dpctl/ct-get-limits", DATAPATH, "zone=18503")
    finally:
        node.appctl("dpctl/ct-del-limits", DATAPATH, "zone=18503")


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
    with FrameListener(lab, [OTHER]) as ears:
        frames = [encode(packet(lab, VICTIM, OTHER, sport=5001, dport=9, marker=77))] * Rates().connections
        # More than may be opened at once; a busy machine loses some.
        while ears.count(OTHER, (77).to_bytes(8, "big")) <= Rates().band(Limit.CONNECTIONS).burst * 1.5:
            paced(lab, VICTIM, frames)
    assert dropped(lab, VICTIM, "new_connections") == before


@userspace_only  # the kernel's conntrack knows SCTP: nothing is learned
def test_associations_of_one_pod_leave_room_for_others(lab: Lab) -> None:
    node = lab.nodes["one"]

    def learned() -> list[str]:
        return [line for line in node.ofctl("dump-flows", "table=25").splitlines() if "cookie=0x484706" in line]

    assert learned() == []
    opened = (
        encode(packet(lab, FLOODER, OTHER, proto=oxm.IP_PROTO_SCTP, sport=n, dport=7)) for n in range(1024, 60000)
    )
    while len(learned()) < MAX_SCTP_OF_POD:
        paced(lab, FLOODER, islice(opened, 500), 20)
    paced(lab, FLOODER, islice(opened, 500), 20)
    until(lambda: bool(learned()))
    assert len(learned()) == MAX_SCTP_OF_POD
    put(lab, VICTIM, [encode(packet(lab, VICTIM, OTHER, proto=oxm.IP_PROTO_SCTP, sport=9, dport=7))])
    until(lambda: len(learned()) == MAX_SCTP_OF_POD + 1)


def test_an_honest_pod_opens_as_many_as_it_likes(lab: Lab) -> None:
    """Connections with TCP one after the other, as fast as they come: none is lost."""
    there = lab.endpoints[OTHER].addresses[4]
    before = dropped(lab, VICTIM, "new_connections")

    def connect() -> None:
        with inside(lab.netns(VICTIM)):
            for _ in range(500):
                with socket.create_connection((there, 80), timeout=30):
                    pass

    in_thread(connect)
    assert dropped(lab, VICTIM, "new_connections") == before
