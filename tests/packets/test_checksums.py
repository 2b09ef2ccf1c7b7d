"""A pod whose veth leaves checksums to hardware: status says so with the command that mends it, until it is mended."""

from __future__ import annotations

import array
import fcntl
import json
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.reconcile.audit_pace import AUDIT_SECONDS
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import split
from tests.helpers.lab.datapath_choice import userspace_only
from tests.helpers.lab.raw_frames import put
from tests.helpers.lab.truth_lab import world_lab
from tests.packets.test_limits import packet
from topology.host.links import ETHTOOL_STXCSUM, SIOCETHTOOL, checksums_in_software
from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab
from topology.lab.pod import POD_INTERFACE
from topology.probe.matrix import LabProbe, Outcome

# The kernel fills in what was left to hardware, and does not check what comes over a veth.
pytestmark = [pytest.mark.lab, userspace_only]

POD, PEER, SERVER = "x/a", "x/c", "x/b"
FRAGMENTS_WAIT = 15.0  # seconds, on the userspace datapath
COMMAND = "ethtool -K eth0 tx off"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with world_lab((POD, PEER, SERVER)) as made:
        yield made


def offload(lab: Lab, pod: str) -> None:
    """What the kernel does when it makes a veth: `ethtool -K eth0 tx on`."""

    def switch_on() -> None:
        command = array.array("B", struct.pack("=II", ETHTOOL_STXCSUM, 1))
        request = struct.pack("16sP", POD_INTERFACE.encode(), command.buffer_info()[0]).ljust(40, b"\0")
        with inside(lab.netns(pod)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCETHTOOL, request)

    in_thread(switch_on)


def mend(lab: Lab, pod: str) -> None:
    """What the status says to do."""

    def switch_off() -> None:
        with inside(lab.netns(pod)):
            checksums_in_software(POD_INTERFACE)

    in_thread(switch_off)


def connects(lab: Lab, source: str, target: str, times: int = 1) -> bool:
    way = LabProbe(source, target, "TCP", 80, 4)
    return all(lab.run_probes([way]).results[way] is Outcome.ALLOWED for _ in range(times))


def ask_by_name(lab: Lab, name: str, times: int) -> None:
    """Datagrams that nobody answers, as a resolver's."""

    def send() -> None:
        with inside(lab.netns(name)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(times):
                sock.sendto(b"\0" * 30, (lab.endpoints[SERVER].addresses[4], 9053))
                time.sleep(0.02)

    in_thread(send)


def pods(lab: Lab) -> dict[str, dict[str, Any]]:
    return {one["key"]: one for one in json.loads(lab.product.call(["status", "--pods", "-o", "json"]).stdout)["pods"]}


def until(lab: Lab, wanted: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not wanted():
        if time.monotonic() > end:
            return False
        time.sleep(1)
    return True


def counted(lab: Lab, pod: str, reason: str) -> int:
    namespace, _, name = pod.partition("/")
    wanted = f'headgate_invalid_packets_total{{namespace="{namespace}",pod="{name}",reason="{reason}"}}'
    found = re.search(rf"^{re.escape(wanted)} (\S+)$", lab.product.text("/metrics"), re.MULTILINE)
    return int(float(found[1])) if found else 0


def log_lines(lab: Lab, text: str) -> list[str]:
    return [line for line in lab.product.log.read_text(encoding="utf-8").splitlines() if text in line]


def test_checksums_left_to_hardware_are_told_within_a_minute_and_until_they_are_mended(lab: Lab) -> None:
    assert connects(lab, POD, SERVER)
    interface = pods(lab)[POD]["port"]
    offload(lab, POD)
    try:
        assert not connects(lab, POD, SERVER)
        ask_by_name(lab, POD, 20)
        # Nobody asks for counters: the audits that are there anyway have to do.
        assert until(lab, lambda: COMMAND in pods(lab)[POD]["reason"], AUDIT_SECONDS + 10)
        told = pods(lab)
        assert re.search(r"their checksums are wrong.* on one \(the pod's end of ", told[POD]["reason"])
        assert interface in told[POD]["reason"]
        assert told[POD]["invalid"] >= 20
        assert [one["reason"] for key, one in told.items() if key != POD] == ["", ""]
        assert COMMAND in " ".join(lab.product.call(["status"]).stdout.split())
        assert COMMAND in lab.product.call(["pod", POD]).stdout
        assert counted(lab, POD, "broken") >= 20
        assert counted(lab, PEER, "broken") == counted(lab, PEER, "connection") == 0
    finally:
        mend(lab, POD)
    assert connects(lab, POD, SERVER, times=4)
    assert until(lab, lambda: COMMAND not in lab.product.call(["pod", POD]).stdout, 10)
    assert pods(lab)[POD]["reason"] == ""
    assert len(log_lines(lab, "mostly invalid packets")) == 2


def test_a_server_whose_answers_are_broken_is_told(lab: Lab) -> None:
    offload(lab, SERVER)
    try:
        for _ in range(10):
            assert not connects(lab, POD, SERVER)
        assert until(lab, lambda: COMMAND in lab.product.call(["pod", SERVER]).stdout, 10)
        assert pods(lab)[POD]["reason"] == ""
    finally:
        mend(lab, SERVER)
    assert connects(lab, POD, SERVER, times=4)
    assert until(lab, lambda: COMMAND not in lab.product.call(["pod", SERVER]).stdout, 10)


def test_a_few_odd_packets_are_no_sign_and_forged_ones_mark_their_sender_alone(lab: Lab) -> None:
    """The checksum in a frame is made wrong; the source is the sender's own, for others do not pass."""
    frame = bytearray(encode(packet(lab, POD, PEER)))
    frame[40:42] = b"\x12\x34"
    put(lab, POD, [bytes(frame)] * 4)
    lab.product.call(["pod", POD])
    assert pods(lab)[POD]["reason"] == ""
    assert connects(lab, POD, SERVER, times=3)
    stranger = bytearray(encode(packet(lab, PEER, SERVER)))
    stranger[40:42] = b"\x12\x34"
    put(lab, POD, [bytes(frame)] * 100 + [bytes(stranger)] * 100)
    assert until(lab, lambda: "checksums are wrong" in lab.product.call(["pod", POD]).stdout, 10)
    assert pods(lab)[PEER]["reason"] == ""
    assert pods(lab)[PEER]["invalid"] == 0


def test_fragments_that_one_pod_leaves_waiting_do_not_mark_another(lab: Lab) -> None:
    """When they have waited in vain they leave conntrack among the packets of whoever sends next."""
    before = {key: one["invalid"] for key, one in pods(lab).items()}
    for train in range(1, 31):
        put(lab, POD, [encode(split(packet(lab, POD, SERVER), train, 3)[0])])
    end = time.monotonic() + FRAGMENTS_WAIT + 5
    while time.monotonic() < end:
        ask_by_name(lab, PEER, 10)
    lab.product.call(["pod", PEER])
    after = {key: one["invalid"] for key, one in pods(lab).items()}
    assert after[PEER] == before[PEER]
