"""deploy/node.sh makes a machine a node and changes nothing when run again; deploy/node-undo.sh takes all of it back.

On a real Open vSwitch in a network namespace.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.ovsdb.bridge_settings import INACTIVITY_PROBE
from tests.deploy.machine import NODE, UNDO, UPLINK, Machine
from tests.helpers.controller.headgate_process import HOST, Pki, headgate
from tests.helpers.lab.datapath_choice import DATAPATH_TYPE, datapath, kernel_only, userspace_only
from tests.helpers.waiting import until
from topology.host import netns

pytestmark = pytest.mark.lab

CONTROLLER = ("--controller", "198.51.100.1")
DATAPATH = ("--datapath", DATAPATH_TYPE)
OTHER_DATAPATH = ({"netdev", "system"} - {DATAPATH_TYPE}).pop()


@pytest.fixture
def machine() -> Iterator[Machine]:
    datapath()
    made = Machine(Path(tempfile.mkdtemp(prefix="hgn-", dir="/tmp")))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def same(one: dict[str, str], other: dict[str, str]) -> None:
    assert {key: text for key, text in one.items() if other[key] != text} == {}


def node(machine: Machine, *arguments: str) -> dict[str, str]:
    """Run node.sh twice: the second run must change nothing, not even replace a row. Returns what stands then."""
    states = []
    for _ in range(2):
        controller = () if "--controller" in arguments else CONTROLLER
        done = machine.script(NODE, *DATAPATH, *controller, *arguments)
        assert done.returncode == 0, done.stderr
        states.append(machine.everything())
    same(*states)
    return states[1]


def undo(machine: Machine, *arguments: str) -> None:
    done = machine.script(UNDO, *arguments)
    assert done.returncode == 0, done.stderr
    assert not machine.state.exists()


def test_a_node_is_made_once_and_undone(machine: Machine) -> None:
    before = machine.everything()
    node(machine, "--name", "node-1", "--uplink", UPLINK, "--address", "10.10.0.1/16", "--address", "fd10:10::1/64")
    assert machine.vsctl("get", "Open_vSwitch", ".", "external_ids:hostname").strip() == "node-1"
    assert machine.vsctl("get", "Interface", UPLINK, "external_ids:headgate-role").strip() == "uplink"
    assert machine.vsctl("get-controller", "br-int").split() == ["tcp:198.51.100.1:6653"]
    assert machine.vsctl("get-manager").split() == ["tcp:198.51.100.1:6640"]
    probes = (machine.vsctl("get", kind, ".", "inactivity_probe").strip() for kind in ("Controller", "Manager"))
    assert set(probes) == {str(INACTIVITY_PROBE)}
    assert machine.vsctl("get-fail-mode", "br-int").strip() == "secure"
    assert "in-band" not in machine.everything()["Controller"].replace("out-of-band", "")
    assert "10.10.0.1/16" in machine.run("ip", "addr", "show", "dev", "br-int")
    assert "192.0.2.7/24" in machine.run("ip", "addr", "show", "dev", UPLINK)
    undo(machine)
    same(before, machine.everything())
    assert machine.script(UNDO).returncode == 0


def test_addresses_and_routes_move_to_the_bridge_and_back(machine: Machine) -> None:
    before = machine.everything()
    node(machine, "--uplink", UPLINK, "--move-addresses")
    assert machine.run("ip", "-o", "addr", "show", "dev", UPLINK, "scope", "global") == ""
    own = machine.run("ip", "-o", "addr", "show", "dev", "br-int", "scope", "global")
    assert "192.0.2.7/24" in own
    assert "2001:db8:2::7/64" in own
    assert "default via 192.0.2.1 dev br-int" in machine.run("ip", "route")
    link = machine.run("ip", "-br", "link", "show", "dev", "br-int")
    assert "0a:58:c0:00:02:07" in link  # what answers for the addresses has not changed
    assert machine.vsctl("get", "Controller", ".", "connection_mode").strip() == "in-band"
    undo(machine)
    same(before, machine.everything())


def test_only_what_is_the_uplinks_moves_and_all_of_it(machine: Machine) -> None:
    """An address that stands on the bridge itself stays there, and its settings come back."""
    machine.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", f"datapath_type={DATAPATH_TYPE}")
    machine.run("ip", "link", "set", "br-int", "up")
    machine.run("ip", "addr", "add", "10.11.0.1/16", "dev", "br-int")
    machine.run("sysctl", "-q", "-w", f"net.ipv4.conf.{UPLINK}.arp_ignore=2")
    for line in (
        f"neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev {UPLINK} nud permanent",
        "route add 203.0.113.0/24 via 192.0.2.1 table 100",
        f"rule add iif {UPLINK} lookup 100 pref 100",
        f"-6 route add 2001:db8:9::/48 via 2001:db8:2::1 dev {UPLINK} metric 5",
    ):
        machine.run("ip", *line.split())
    before, kernel = machine.everything(), of_kernel(machine)
    node(machine, "--uplink", UPLINK, "--move-addresses", "--address", "10.10.0.1/16")
    standing = of_kernel(machine)
    for words in ("10.11.0.0/16 dev br-int", "203.0.113.0/24 via 192.0.2.1 dev br-int table 100",
                  "iif br-int", "192.0.2.99 lladdr 02:00:00:00:00:99 PERMANENT",
                  "2001:db8:9::/48 via 2001:db8:2::1 dev br-int metric 5"):  # fmt: skip
        assert words in standing, words
    assert machine.run("sysctl", "-n", "net.ipv4.conf.br-int.arp_ignore").strip() == "2"
    undo(machine)
    same(before, machine.everything())
    assert of_kernel(machine) == kernel
    assert machine.run("sysctl", "-n", "net.ipv4.conf.br-int.arp_ignore").strip() == "0"


def of_kernel(machine: Machine) -> str:
    run = machine.run
    routes = (run("ip", family, "route", "show", "table", "all").splitlines() for family in ("-4", "-6"))
    neighbours = "".join(run("ip", "neigh", "show", "dev", name, "nud", "permanent") for name in ("br-int", UPLINK))
    kept = (line for lines in routes for line in sorted(lines) if "fe80::" not in line and "ff00::" not in line)
    return "\n".join((*kept, neighbours, run("ip", "rule")))


@userspace_only  # the other has no cable
def test_an_uplink_that_an_earlier_version_moved_gets_its_cable_and_comes_back(machine: Machine) -> None:
    """It made the interface itself a port, and noted each address and route."""
    before = machine.everything()
    node(machine, "--uplink", UPLINK)
    notes = machine.state / "undo"
    for address in ("192.0.2.7/24", "2001:db8:2::7/64"):
        machine.run("ip", "addr", "add", address, "dev", "br-int", *(["nodad"] if ":" in address else []))
        machine.run("ip", "addr", "del", address, "dev", UPLINK)
        notes.write_text(f"{notes.read_text()}moved\t{address}\t{UPLINK}\n")
    machine.run("ip", "route", "add", "default", "via", "192.0.2.1", "dev", "br-int")
    notes.write_text(f"{notes.read_text()}route\t4 default via 192.0.2.1 \t{UPLINK}\n")
    node(machine, "--uplink", UPLINK, "--move-addresses")
    assert machine.vsctl("list-ports", "br-int").split() == ["headgate-ul-sw"]
    node(machine, "--uplink", UPLINK)  # the cable stays
    assert machine.vsctl("list-ports", "br-int").split() == ["headgate-ul-sw"]
    assert "192.0.2.7/24" in machine.run("ip", "addr", "show", "dev", "br-int")
    undo(machine)
    same(before, machine.everything())


def test_another_uplink_than_the_one_that_was_moved_is_refused(machine: Machine) -> None:
    node(machine, "--uplink", UPLINK, "--move-addresses")
    machine.run("ip", "link", "add", "eth8", "type", "veth", "peer", "name", "wire8")
    before = machine.everything()
    done = machine.script(NODE, *DATAPATH, *CONTROLLER, "--uplink", "eth8", "--move-addresses")
    assert done.returncode != 0
    assert f"the uplink is {UPLINK} already" in done.stderr
    same(before, machine.everything())
    machine.run("ip", "link", "del", "eth8")
    undo(machine)


def fragments(machine: Machine) -> tuple[str, ...]:
    """The least IPv4 fragment that the datapath takes, and how many of all wait at most."""
    said = machine.run("ovs-appctl", "dpctl/ipf-get-status", "netdev@ovs-netdev")
    return tuple(re.findall(r"(?:min v4 frag size|max num frags \(v4/v6\)): (\d+)", said))


@userspace_only
def test_the_userspace_datapath_takes_small_fragments_until_that_is_undone(machine: Machine) -> None:
    machine.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", f"datapath_type={DATAPATH_TYPE}")
    assert fragments(machine) == ("1000", "1200")
    node(machine)
    assert fragments(machine) == ("5000", "400")
    machine.run("ovs-appctl", "dpctl/ipf-set-max-nfrags", "netdev@ovs-netdev", "900")
    node(machine)
    assert fragments(machine) == ("5000", "400")
    undo(machine)
    assert fragments(machine) == ("1000", "1200")


FRAGMENT_MEMORY = ("net.ipv4.ipfrag_high_thresh", "net.netfilter.nf_conntrack_frag6_high_thresh")


@kernel_only
def test_the_kernel_keeps_more_fragments_until_that_is_undone(machine: Machine) -> None:
    def memory() -> list[str]:
        return machine.run("sysctl", "-n", *FRAGMENT_MEMORY).split()

    assert memory() == ["4194304", "4194304"]
    node(machine)
    assert memory() == ["67108864", "67108864"]
    undo(machine)
    assert memory() == ["4194304", "4194304"]
    machine.run("sysctl", "-q", "-w", f"{FRAGMENT_MEMORY[0]}=99999999")
    node(machine)
    assert memory() == ["99999999", "67108864"]
    undo(machine)
    assert memory() == ["99999999", "4194304"]


def test_what_was_there_before_stays(machine: Machine) -> None:
    machine.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", f"datapath_type={DATAPATH_TYPE}")
    machine.vsctl("set-controller", "br-int", "tcp:203.0.113.1:6653", "--", "set-manager", "ptcp:6640:127.0.0.1")
    machine.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=old-name")
    before = machine.everything()
    node(machine, "--uplink", UPLINK)
    assert set(machine.vsctl("get-controller", "br-int").split()) == {"tcp:203.0.113.1:6653", "tcp:198.51.100.1:6653"}
    assert machine.vsctl("get", "Open_vSwitch", ".", "external_ids:hostname").strip() == "old-name"
    undo(machine)
    same(before, machine.everything())


@pytest.mark.parametrize("made_by", ["node.sh", "the administrator"])
def test_another_datapath_than_the_bridges_is_refused_before_anything_is_changed(
    machine: Machine, made_by: str
) -> None:
    if made_by == "node.sh":
        node(machine)
    else:
        machine.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", f"datapath_type={DATAPATH_TYPE}")
    before = machine.everything()
    refused = machine.script(NODE, *CONTROLLER, "--name", "another", "--datapath", OTHER_DATAPATH)
    assert refused.returncode != 0
    assert f"br-int has the datapath type {DATAPATH_TYPE}" in refused.stderr
    same(before, machine.everything())
    done = machine.script(NODE, *CONTROLLER)  # what is not named stays
    assert done.returncode == 0, done.stderr
    assert machine.vsctl("get", "Bridge", "br-int", "datapath_type").strip() == DATAPATH_TYPE
    undo(machine)


def test_another_controller_replaces_only_ours(machine: Machine) -> None:
    before = machine.everything()
    node(machine)
    done = machine.script(NODE, *DATAPATH, "--controller", "2001:db8::1", "--name", "n")
    assert done.returncode == 0, done.stderr
    assert machine.vsctl("get-controller", "br-int").split() == ["tcp:[2001:db8::1]:6653"]
    assert machine.vsctl("get-manager").split() == ["tcp:[2001:db8::1]:6640"]
    undo(machine)
    same(before, machine.everything())


def test_every_replica_of_the_controller_gets_a_row(machine: Machine) -> None:
    before = machine.everything()
    node(machine, *CONTROLLER, "--controller", "2001:db8::1", "--controller", "198.51.100.2")
    hosts = ("198.51.100.1", "[2001:db8::1]", "198.51.100.2")
    assert set(machine.vsctl("get-controller", "br-int").split()) == {f"tcp:{host}:6653" for host in hosts}
    assert set(machine.vsctl("get-manager").split()) == {f"tcp:{host}:6640" for host in hosts}
    node(machine, *CONTROLLER, "--controller", "198.51.100.2")
    left = {f"tcp:{host}:6653" for host in (hosts[0], hosts[2])}
    assert set(machine.vsctl("get-controller", "br-int").split()) == left
    undo(machine)
    same(before, machine.everything())


def test_tls_files_are_given_to_the_switch(machine: Machine, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "certificate", "key")}
    for path in files.values():
        path.write_text("not looked at here")
    before = machine.everything()
    node(machine, *(word for name, path in files.items() for word in (f"--{name}", str(path))))
    assert machine.vsctl("get-controller", "br-int").split() == ["ssl:198.51.100.1:6653"]
    assert machine.vsctl("get-manager").split() == ["ssl:198.51.100.1:6640"]
    assert str(files["key"]) in machine.vsctl("get-ssl")
    undo(machine)
    same(before, machine.everything())


def test_a_node_with_certificates_of_headgate_pki_comes_under_control(machine: Machine) -> None:
    """`headgate pki init`, `headgate pki switch`, deploy/node.sh, and nothing else: both channels are up, in TLS."""
    before = machine.everything()
    pki = Pki(machine.folder / "pki")
    files = pki.switch("node-1")
    given = ("--ca", files.ca, "--certificate", files.certificate, "--key", files.key)
    with netns.inside(machine.netns), headgate("native", pki, "--allowed-switch", "node-1") as run:
        ports = ("--openflow-port", str(run.openflow), "--ovsdb-port", str(run.ovsdb))
        node(machine, "--name", "node-1", "--controller", HOST, *ports, *map(str, given))
        until(lambda: run.in_sync("node-1"), "the node in sync")
        for table in ("Controller", "Manager"):  # Open vSwitch writes that down every few seconds
            until(lambda table=table: machine.vsctl("get", table, ".", "is_connected").strip() == "true", table)  # type: ignore[misc]
        assert machine.vsctl("get-controller", "br-int").split() == [f"ssl:{HOST}:{run.openflow}"]
        assert machine.run("ovs-ofctl", "dump-flows", f"unix:{machine.folder}/br-int.mgmt").count("cookie=") > 10
        assert run.status()["tls"]["refused"] == 0
        assert node(machine, "--name", "node-1", "--controller", HOST, *ports, *map(str, given))
        assert run.in_sync("node-1")
    undo(machine)
    same(before, machine.everything())


def test_pods_ports_keep_the_bridge(machine: Machine) -> None:
    before = machine.everything()
    node(machine)
    machine.vsctl("add-port", "br-int", "pod0", "--", "set", "Interface", "pod0", "type=internal")
    refused = machine.script(UNDO)
    assert refused.returncode != 0
    assert "pod0" in refused.stderr
    assert machine.vsctl("get-controller", "br-int").split() == ["tcp:198.51.100.1:6653"]
    undo(machine, "--force")
    same(before, machine.everything())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give the controller with"),
        ((*CONTROLLER, "--uplink", "eth77"), "no interface eth77"),
        ((*CONTROLLER, "--move-addresses"), "--uplink"),
        ((*CONTROLLER, "--ca", "/etc/hostname"), "all three"),
        ((*CONTROLLER, "--colour", "red"), "--colour"),
        ((*CONTROLLER, "--datapath", "netde"), "system or netdev"),
        ((*CONTROLLER, "--name"), "--name"),
        ((*CONTROLLER, "--name", ""), "--name needs a value"),
        ((*CONTROLLER, "--name", "--in-band"), "--name needs a value before --in-band"),
        ((*CONTROLLER, "--name", "Node_1"), "the Node's name"),
        ((*CONTROLLER, "--bridge", "br-with-a-long-name"), "15 letters"),
        ((*CONTROLLER, "--ovsdb-port", "66400"), "up to 65535"),
        (("--controller", "198.51.100.1:6640"), "--ovsdb-port"),
        (("--controller", "[2001:db8::1]:6640"), "--ovsdb-port"),
        (("--controller", "https://198.51.100.1"), "one name or address"),
    ],
)
def test_what_cannot_be_is_said(machine: Machine, arguments: tuple[str, ...], words: str) -> None:
    done = machine.script(NODE, *DATAPATH, *arguments)
    assert done.returncode != 0
    assert words in done.stderr


def test_a_datapath_that_the_kernel_lacks_is_told_and_another_can_be_named(machine: Machine) -> None:
    before = machine.everything()
    refused = machine.script(NODE, "--datapath", "system", *CONTROLLER)
    if refused.returncode == 0:
        pytest.skip("the kernel has Open vSwitch's datapath")
    assert "modprobe openvswitch" in refused.stderr
    node(machine)
    undo(machine)
    same(before, machine.everything())


def hostname_on(machine: Machine, key: str = "hostname") -> str:
    return machine.vsctl("--if-exists", "get", "Open_vSwitch", ".", f"external_ids:{key}").strip().strip('"')


def test_the_nodes_name_outlives_what_open_vswitch_writes_at_a_boot(machine: Machine) -> None:
    """Its 3.1 writes the host name over any other each time it starts."""
    before = machine.everything()
    node(machine, "--name", "worker-7")
    machine.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=localhost")
    assert hostname_on(machine, "headgate-node-name") == "worker-7"
    node(machine)
    assert hostname_on(machine) == hostname_on(machine, "headgate-node-name") == "worker-7"
    undo(machine)
    same(before, machine.everything())


@pytest.mark.parametrize("written", ["{0}.corp.example", "{1}", "{1}.Corp.Example"])
def test_the_host_name_as_other_scripts_write_it_becomes_the_nodes_name(machine: Machine, written: str) -> None:
    """Open vSwitch's own scripts write the full name as it is spelled; a kubelet makes small letters of it."""
    name = machine.run("hostname").strip()
    machine.vsctl("set", "Open_vSwitch", ".", f'external_ids:hostname="{written.format(name, name.upper())}"')
    before = machine.everything()
    node(machine)
    assert hostname_on(machine) == name.lower()
    undo(machine)
    same(before, machine.everything())


def test_the_kubelets_certificate_knows_the_nodes_name(machine: Machine, tmp_path: Path) -> None:
    pem = tmp_path / "kubelet.pem"
    subject = "/O=system:nodes/CN=system:node:worker-01.corp.example"
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    machine.run(*openssl, "-keyout", str(tmp_path / "key.pem"), "-out", str(pem), "-subj", subject)
    machine.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=something-else")
    done = machine.script(NODE, *DATAPATH, *CONTROLLER, KUBELET_CERTIFICATE=str(pem))
    assert done.returncode == 0, done.stderr
    assert hostname_on(machine) == "worker-01.corp.example"
    undo(machine)
    assert hostname_on(machine) == "something-else"
