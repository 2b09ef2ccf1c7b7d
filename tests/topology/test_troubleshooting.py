"""What docs/troubleshooting.md says to run is what helps, tried on real switches."""

from __future__ import annotations

import array
import fcntl
import re
import shlex
import socket
import struct

import pytest
import yaml

from tests.helpers.paths import ROOT
from tests.topology.conftest import MakeLab
from topology.host import netns
from topology.lab.lab import Lab
from topology.lab.node import NodeSwitch
from topology.lab.pod import POD_INTERFACE
from topology.probe.matrix import LabProbe, Outcome
from topology.scenarios import model
from topology.spec.load import load_topology

PAGE = ROOT / "docs" / "troubleshooting.md"
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
pytestmark = pytest.mark.lab


def calls(program: str) -> list[list[str]]:
    """The page's commands that begin so, as words; a backslash at the end of a line goes on with the next one."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)\n *```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in re.sub(r"\\\n *", "", block).splitlines()]
    return [shlex.split(line.removeprefix("# ")) for line in lines if line.startswith(f"# {program}")]


def trace(node: NodeSwitch, words: list[str]) -> str:
    assert words[:3] == ["ovs-appctl", "ofproto/trace", "br-int"]
    return node.appctl(*words[1:])


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """The lab's default topology, with pol1 of the demonstration in force."""
    made = make_lab(load_topology().model_dump())
    made.up()
    for step in model.load_scenario("tenant").steps[:3]:
        made.apply(yaml.safe_dump_all(step.apply))
    return made


def end(text: str) -> str:
    """What becomes of the packet: the last actions of the datapath."""
    return str(re.findall(r"^Datapath actions: (.*)$", text, re.MULTILINE)[-1])


def test_traces_with_the_original_tuple_tell_the_truth(lab: Lab) -> None:
    node = lab.nodes["node-2"]
    opening, reply = calls("ovs-appctl ofproto/trace")
    backend = next(pod for pod in lab.topology.pods if pod.key == "tenant-a/backend")
    assert f"in_port={lab.link(backend).interface}," in reply[3]
    assert end(trace(node, opening)) not in ("", "drop")
    assert end(trace(node, reply)) not in ("", "drop")
    # The same packet of somebody whom policy denies, and to another port.
    assert end(trace(node, [word.replace("10.10.1.1", "10.10.1.2") for word in opening])) == "drop"
    assert end(trace(node, [re.sub(r"tp_dst=80\b", "tp_dst=81", word) for word in opening])) == "drop"
    # What the page warns of: without the tuple the trace denies what is allowed.
    plain = [re.sub(r",ct_state=.*", "", word) for word in opening]
    assert end(trace(node, plain)) == "drop"
    lab.delete(yaml.safe_dump_all(model.load_scenario("tenant").steps[2].apply))
    assert end(trace(node, opening)) == "drop"
    assert end(trace(node, reply)) == "drop"


def offload(lab: Lab, pod: str, on: bool) -> None:
    """What `ethtool -K eth0 tx on` does."""
    command = array.array("B", struct.pack("=II", ETHTOOL_STXCSUM, int(on)))
    request = struct.pack("16sP", POD_INTERFACE.encode(), command.buffer_info()[0]).ljust(40, b"\0")
    with netns.inside(lab.netns(pod)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, request)


def test_signs_of_checksums_left_to_hardware(make_lab: MakeLab) -> None:
    lab = make_lab(load_topology().model_dump())
    lab.up("userspace")
    way = LabProbe("tenant-a/frontend", "tenant-b/frontend", "TCP", 80, 4)
    ping = LabProbe("tenant-a/frontend", "tenant-b/frontend", "ICMP", 0, 4)
    offload(lab, "tenant-a/frontend", on=True)
    seen = lab.run_probes([way, ping]).results
    assert (seen[way], seen[ping]) == (Outcome.DENIED, Outcome.ALLOWED)
    node = lab.nodes["node-1"]
    for words in calls("ovs-appctl coverage/show") + calls("ovs-appctl dpctl/dump-flows"):
        command, found = words[1], words[words.index("grep") + 1]
        line = next(line for line in node.appctl(command).splitlines() if found in line)
        assert not line.endswith("total: 0")
    (invalid,) = calls("ovs-ofctl -O OpenFlow14 --names dump-flows br-int table=state")
    told = node.ofctl("dump-flows", "--names", invalid[-1])
    assert re.search(r"n_packets=[1-9].*ct_state=\+inv", told)
    offload(lab, "tenant-a/frontend", on=False)
    assert lab.run_probes([way]).results[way] is Outcome.ALLOWED


def test_tables_of_ovsdb_have_the_columns(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.up(controller=False)
    for words in calls("ovs-vsctl"):
        lab.nodes["one"].vsctl(words[1:])
