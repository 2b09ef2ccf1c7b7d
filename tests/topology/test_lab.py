"""Labs on this machine: they come up, carry packets, stand side by side, and go without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from tests.topology.conftest import SMALL, MakeLab, close_switches, open_switches
from topology.errors import LabError, MissingError
from topology.host import process
from topology.host.links import NUD_NOARP
from topology.lab.lab import Lab
from topology.lab.report import describe_lab
from topology.probe.matrix import LabProbe, Outcome
from topology.spec.load import check_topology
from topology.spec.model import LabPod, LabPort

pytestmark = pytest.mark.lab


def machine_links() -> set[str]:
    with IPRoute() as ip:
        return {str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()}


def traces(base: Path) -> list[str]:
    """Whatever a lab under `base` still has on the machine."""
    mounts = [line for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines() if str(base) in line]
    marked = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{process.FOLDER_VARIABLE}={base}".encode() in (entry / "environ").read_bytes():
                    marked.append(entry.name)
            except OSError:
                continue
    return [*mounts, *marked, *(str(path) for path in base.rglob("*"))]


def test_up_probe_down_leaves_nothing(base: Path, make_lab: MakeLab) -> None:
    links = machine_links()
    lab = make_lab()
    assert lab.up(controller=False)
    assert machine_links() == links
    closed = lab.probe(nodes=True)
    for probe, outcome in closed.results.items():
        assert outcome.reachable == (probe.source == probe.destination), probe
    open_switches(lab)
    opened = lab.probe(nodes=True, icmp=True, expected=lambda probe: True)
    assert set(opened.results.values()) <= {Outcome.ALLOWED, Outcome.CLOSED}
    ways = {(probe.protocol, probe.port, probe.family) for probe in opened.results}
    assert {(protocol, 80, family) for protocol in ("TCP", "UDP", "SCTP") for family in (4, 6)} <= ways
    for probe, outcome in opened.results.items():
        served = probe.port != 81 or probe.destination == "x/b"
        assert outcome is (Outcome.ALLOWED if served else Outcome.CLOSED), probe
    close_switches(lab)
    assert lab.probe().results == {probe: closed.results[probe] for probe in lab.probes()}
    assert lab.down()
    assert not lab.down()
    assert base.exists() is False or traces(base) == []
    assert machine_links() == links


def test_pods_are_attached_as_a_cni_plugin_does(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.up(controller=False)
    node = lab.nodes["two"]
    pod = lab.endpoints["x/b"]
    name = lab.link(lab.topology.pods[1]).interface
    data = json.loads(node.vsctl(["--format=json", "--columns=external_ids", "list", "Interface", name]))
    ids = dict(data["data"][0][0][1])
    manifest = next(item for item in lab.manifests.objects() if item["metadata"]["name"] == "b")
    assert ids == {"iface-id": "x/b", "iface-id-ver": manifest["metadata"]["uid"], "attached-mac": pod.mac}
    assert manifest["status"]["podIPs"] == [{"ip": address} for address in pod.addresses.values()]
    assert manifest["spec"]["nodeName"] == "two"
    assert node.vsctl(["get", "Interface", "uplink", "external_ids:headgate-role"]).strip() == "uplink"
    assert node.vsctl(["get", "Open_vSwitch", ".", "external_ids:hostname"]).strip() == "two"
    assert node.vsctl(["get", "Bridge", "br-int", "fail_mode"]).strip() == "secure"


def test_two_labs_of_one_topology_side_by_side(make_lab: MakeLab) -> None:
    one, two = make_lab(name="one"), make_lab(name="two")
    one.up(controller=False)
    two.up(controller=False)
    open_switches(one)
    assert one.probe(expected=lambda probe: True).count()["denied"] == 0
    assert two.run_probes([LabProbe("x/a", "x/b", "TCP", 80, 4)]).count()["denied"] == 1
    two.down()
    assert one.probe(expected=lambda probe: True).count()["denied"] == 0


def test_up_twice_is_up_once(base: Path, make_lab: MakeLab) -> None:
    lab = make_lab()
    assert lab.up(controller=False)
    before = process.find(lab.folder)
    assert not Lab(lab.topology, base).up(controller=False)
    assert process.find(lab.folder) == before
    other = check_topology({**SMALL, "mtu": 1400}, "t", "t")
    with pytest.raises(LabError, match="with another topology"):
        Lab(other, base).up(controller=False)


def test_after_a_crash_up_starts_anew(base: Path, make_lab: MakeLab) -> None:
    """The making process is killed in the middle, at different moments; what it left does not hinder the next one."""
    script = (
        "import json, sys; from pathlib import Path\n"
        "from topology.lab.lab import Lab; from topology.spec.load import check_topology\n"
        "Lab(check_topology(json.loads(sys.argv[1]), 't', 't'), Path(sys.argv[2])).up(controller=False)"
    )
    lab = make_lab()
    for wanted in ("one/ovsdb-server", "two/ovs-vswitchd", "servers"):
        crashing = subprocess.Popen(
            [sys.executable, "-c", script, json.dumps(SMALL), str(base)], env={**os.environ, **process.python_path()}
        )
        while crashing.poll() is None and not process.find(lab.folder, wanted):
            time.sleep(0.002)
        crashing.kill()
        crashing.wait()
        assert process.find(lab.folder)
    lab.up(controller=False)
    open_switches(lab)
    assert lab.probe(expected=lambda probe: True).count()["denied"] == 0
    lab.down()
    assert base.exists() is False or traces(base) == []


def test_a_dead_switch_makes_up_start_anew(base: Path, make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.up(controller=False)
    lab.nodes["one"].stop_switch(signal.SIGKILL)
    assert Lab(lab.topology, base).up(controller=False)


def test_down_ends_only_its_own(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.up(controller=False)
    stranger = subprocess.Popen([sys.executable, "-c", "input()", str(lab.folder)], stdin=subprocess.PIPE)
    inside = lab.popen("x/a", [sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lab.down()
    assert stranger.poll() is None
    assert inside.poll() is None
    for process_ in (stranger, inside):
        process_.communicate()


def test_only_one_command_at_a_time(base: Path, make_lab: MakeLab) -> None:
    from topology.lab.state import lab_locked

    lab = make_lab()
    with lab_locked(base, "t"), pytest.raises(LabError, match="another command is working on the lab t"):
        lab.up(controller=False)


def test_failing_up_takes_everything_down(base: Path, make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LabError("no servers today")

    monkeypatch.setattr(Lab, "_start_job", fail)
    with pytest.raises(LabError, match="no servers today"):
        make_lab().up(controller=False)
    assert base.exists() is False or traces(base) == []


def test_pods_come_and_go(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.up(controller=False)
    open_switches(lab)
    lab.add_pods([LabPod(namespace="x", name="c", node="one", ports=(LabPort(port=90),))])
    kept = lab.endpoints["x/b"]
    ninety = [LabPort(port=90)]
    everyone = ["x/a", "x/b", "x/c"]
    found = lab.probe(everyone, ninety, expected=lambda probe: True)
    for probe, outcome in found.results.items():
        assert outcome is (Outcome.ALLOWED if probe.destination == "x/c" else Outcome.CLOSED)
    lab.remove_pod("x/a")
    assert lab.endpoints["x/b"] == kept
    assert lab.probe(everyone[1:], ninety, expected=lambda probe: True).count()["denied"] == 0
    assert Lab.load("t", lab.base).endpoints == lab.endpoints
    with pytest.raises(LabError, match="has no pod x/a"):
        lab.remove_pod("x/a")


def test_a_switch_restarts_and_its_node_keeps_its_addresses(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.up(controller=False)
    for how in (signal.SIGTERM, signal.SIGKILL):
        lab.restart_switch("one", how)
        open_switches(lab)
        assert lab.probe(nodes=True, expected=lambda probe: True).count()["denied"] == 0


def test_the_kernel_does_not_answer_for_the_switch(make_lab: MakeLab) -> None:
    """With no flows, ARP and neighbour requests of a pod get no answer, although the kernel sees them, too."""
    lab = make_lab()
    lab.up(controller=False)
    lab.probe(["x/a", "node:one"])
    from topology.host.netns import inside

    with inside(lab.netns("x/a")), IPRoute() as ip:
        reachable = [
            entry
            for entry in ip.get_neighbours()
            if not entry["state"] & NUD_NOARP and entry.get_attr("NDA_LLADDR") not in (None, "00:00:00:00:00:00")
        ]
    assert reachable == []


def test_one_family_only(make_lab: MakeLab) -> None:
    lab = make_lab({**SMALL, "families": [6]})
    lab.up(controller=False)
    open_switches(lab)
    found = lab.probe(expected=lambda probe: True)
    assert found.families() == [6]
    assert found.count()["denied"] == 0


def test_large_packets_and_their_fragments_arrive_whole(make_lab: MakeLab) -> None:
    lab = make_lab({**SMALL, "mtu": 1400})
    lab.up(controller=False)
    open_switches(lab)
    from topology.host.netns import inside

    for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        with inside(lab.netns("x/a")):
            sock = socket.socket(kind, socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(5)
            sock.sendto(b"x" * 4000, (lab.endpoints["x/b"].addresses[family], 80))
            assert sock.recv(65536) == b"x/b\n" + b"x" * 4000


def test_many_pairs_do_not_fill_the_machines_neighbour_table(make_lab: MakeLab) -> None:
    pods = [{"namespace": "x", "name": f"p{number}", "node": "one"} for number in range(25)]
    lab = make_lab({**SMALL, "pods": pods, "ports": [80], "externals": []})
    lab.up(controller=False)
    open_switches(lab)
    assert lab.probe(expected=lambda probe: True).count() == {"allowed": 1250, "closed": 0, "denied": 0, "wrong": 0}


def test_an_impostor_is_found_out(make_lab: MakeLab) -> None:
    """Packets that end up at the wrong pod count as wrong, not as allowed."""
    from topology.host import links
    from topology.host.netns import inside

    lab = make_lab()
    lab.up(controller=False)
    open_switches(lab)
    with inside(lab.netns("x/a")):
        links.configure_interface("lo", {4: lab.endpoints["x/b"].addresses[4]}, {4: 32}, 65536)
    assert lab.run_probes([LabProbe("x/a", "x/b", "TCP", 80, 4)]).count()["wrong"] == 1


def test_describe_says_where_to_look(make_lab: MakeLab) -> None:
    lab = make_lab()
    with pytest.raises(LabError, match="is not up"):
        describe_lab(lab)
    lab.up(controller=False)
    found = describe_lab(Lab.load("t", lab.base))
    assert all(node.running for node in found.nodes)
    assert {pod.name for pod in found.pods} == {"x/a", "x/b"}
    kept = [*(one.netns for one in found.nodes), *(one.netns for one in found.pods)]
    assert all(Path(one).exists() for one in [*kept, *(one.netns for one in found.externals)])
    assert found.server is None


def test_what_is_missing_is_said(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    from topology.host import machine

    lab = make_lab()
    monkeypatch.setattr(machine, "PROGRAM_FOLDERS", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingError) as caught:
        lab.up(controller=False)
    assert "ovs-vswitchd: install Open vSwitch (Debian, Ubuntu: apt-get install openvswitch-switch" in str(caught.value)


def test_a_path_too_long_for_sockets_is_refused(base: Path, make_lab: MakeLab) -> None:
    make_lab()
    deep = base / ("d" * 80)
    with pytest.raises(LabError, match="too long for a socket"):
        Lab(check_topology(SMALL, "t", "t"), deep).up(controller=False)
    assert not deep.exists()
