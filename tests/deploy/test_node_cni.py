"""deploy/node.sh --cni makes a machine a node of Headgate's own network, and everything comes back with the undo.

On a real Open vSwitch (userspace datapath), real nftables and routes in a network namespace. The test writes into the
OVSDB what the controller writes there.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.cni_node import CniNode, made_cni_node, with_controller
from tests.deploy.machine import UPLINK
from tests.helpers.lab.datapath_choice import DATAPATH_TYPE, kernel_only, userspace_only
from tests.helpers.waiting import until
from topology.host import netns

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture
def node() -> Iterator[CniNode]:
    with made_cni_node() as made:
        yield made


def test_a_node_is_set_up_once_and_undone(node: CniNode) -> None:
    with_controller(node)
    before, network, files = node.machine.everything(), node.network(), node.files()
    node.setup()
    first = node.network()
    routes = first["routes"]
    for cidr in ("10.244.0.0/16", "10.244.1.0/24", "10.96.0.0/16", "169.254.72.0/24"):
        assert f"{cidr} via 169.254.72.1 dev br-int proto static src 192.0.2.7 onlink" in routes
    assert "fd00:10:244::/56 via fe80::4847:1 dev br-int src 2001:db8:2::7" in routes
    assert "169.254.72.1 lladdr 0a:48:47:00:00:01 PERMANENT" in first["neighbours"]
    assert "fe80::4847:1 lladdr 0a:48:47:00:00:01 PERMANENT" in first["neighbours"]
    assert first["sysctls"] == "1 1"
    assert "fd00:4847::5/128" in first["addresses"]
    assert "169.254.72.5/32" in node.machine.run("ip", "addr", "show", "dev", "br-int")
    health = int((node.run_dir / "health.pid").read_text())
    assert answers_checks(node) == 200
    assert "mtu 1442" in node.machine.run("ip", "link", "show", "dev", "br-int")
    assert "table inet headgate" in first["nft"]
    assert (node.answer("ready"), node.missing()) == ("r1", "")
    assert (node.run_dir / "node-revision").read_text() == "r1"
    plugins = json.loads(node.list.read_text())["plugins"]
    assert [plugin["type"] for plugin in plugins] == ["headgate", "portmap"]
    stamp = node.list.stat().st_mtime_ns
    node.setup()
    assert int((node.run_dir / "health.pid").read_text()) == health
    assert node.network() == first
    assert node.list.stat().st_mtime_ns == stamp
    node.undo()
    assert node.machine.everything() == before
    assert node.network() == network
    assert node.files() == files
    assert not is_running(health)


def test_without_systemd_health_checks_are_answered_again_with_the_next_pod(node: CniNode) -> None:
    with_controller(node)
    node.setup()
    first = int((node.run_dir / "health.pid").read_text())
    os.kill(first, signal.SIGKILL)
    until(lambda: not is_running(first), "its end")
    plugin = json.loads(node.list.read_text())["plugins"][0]
    given = json.dumps({**plugin, "cniVersion": "1.1.0", "name": "headgate"})
    called = node.machine.script(node.bin / "headgate", given=given, CNI_COMMAND="STATUS", CNI_PATH=str(node.bin))
    assert called.returncode == 0, called.stdout
    assert int((node.run_dir / "health.pid").read_text()) != first
    assert answers_checks(node) == 200
    node.undo()


def test_where_nobody_can_answer_health_checks_the_node_says_so(node: CniNode) -> None:
    with_controller(node)
    with netns.inside(node.machine.netns), socket.create_server(("0.0.0.0", 18471)):
        said = node.setup()
        assert (node.answer("ready"), "healthCheckNodePort" in node.answer("missing")) == ("r1", True)
        assert "run `headgate-node health`" in said
    node.headgate_node("apply")
    assert (node.answer("ready"), node.missing()) == ("r1", "")
    assert answers_checks(node) == 200
    node.undo()


def is_running(pid: int) -> bool:
    path = Path(f"/proc/{pid}/cmdline")
    return path.exists() and bool(path.read_text())


def answers_checks(node: CniNode) -> int:
    """The status for a check that was not translated: it came to the port itself, which counts as so many endpoints."""
    code = "import http.client as h; c = h.HTTPConnection('169.254.72.5', 18471); c.request('GET', '/'); "
    return int(node.machine.run("python3", "-c", f"{code}print(c.getresponse().status)"))


def test_before_the_controller_the_rest_is_left_to_a_process_that_ends(node: CniNode) -> None:
    network = node.network()
    said = node.setup("--wait", "1")
    assert "leaving the rest" in said
    assert not node.list.exists()
    assert "the controller has not yet written" in node.answer("missing")
    pid = int((node.run_dir / "node.pid").read_text())
    node.write_facts(pod_cidrs="")  # the kubelet has not registered the Node
    until(lambda: "no pod CIDR" in node.answer("missing"), "the answer that the pod CIDR is missing")
    assert not node.list.exists()
    node.write_facts()
    until(node.list.exists, "the configuration list")
    until(lambda: node.answer("ready") == "r1", "the answer")
    until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_text(), "its end")
    node.undo()
    assert node.network() == network


def test_undo_ends_the_process_that_waits(node: CniNode) -> None:
    node.setup("--wait", "0")
    pid = int((node.run_dir / "node.pid").read_text())
    node.undo()
    until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_text(), "its end")
    assert node.files() == [str(node.bin / "host-local"), str(node.bin / "portmap")]


def test_after_a_boot_the_units_command_sets_everything_again(node: CniNode) -> None:
    with_controller(node)
    node.setup()
    first, run = node.network(), node.machine.run
    run("nft", "flush", "ruleset")
    run("ip", "link", "set", "dev", "br-int", "down")
    run("ip", "neigh", "flush", "dev", "br-int", "nud", "permanent")
    run("ip", "route", "flush", "dev", "br-int")
    run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    (node.run_dir / "node-revision").unlink()
    node.headgate_node("apply")
    assert node.network() == first


def test_a_new_revision_replaces_ranges_and_flat_takes_all_back(node: CniNode) -> None:
    with_controller(node)
    network = node.network()
    node.setup()
    node.write_facts(cluster_cidrs="10.250.0.0/16", service_cidrs="10.97.0.0/16", mtu="1400", revision="r2")
    node.headgate_node("apply")
    second = node.network()
    assert "10.250.0.0/16 via" in second["routes"]
    assert "10.97.0.0/16 via" in second["routes"]
    assert "10.96.0.0/16" not in second["routes"] + second["nft"]
    assert "10.244.0.0/16" not in second["routes"]
    assert node.answer("ready") == "r2"
    node.write_facts(network="routed", revision="r3")
    node.headgate_node("apply")
    assert "10.244.0.0/16" not in node.network()["routes"]
    assert "10.244.1.0/24 via" in node.network()["routes"]
    node.write_facts(network="flat", revision="r4")
    node.headgate_node("apply")
    assert not node.list.exists()
    assert node.network() == network
    assert node.answer("ready") == "r4"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"node_ips": "192.0.2.8"}, "no interface has the address 192.0.2.8"),
        ({"cluster_cidrs": "0.0.0.0/0"}, "cannot be a cluster's"),
        ({"cluster_cidrs": "192.0.2.0/24"}, "contains this node's address 192.0.2.7"),
        ({"service_cidrs": "169.254.0.0/16"}, "cannot be a cluster's"),
        ({"service_cidrs": "ten"}, "headgate-service-cidrs"),
        ({"mtu": "9"}, "headgate-mtu"),
    ],
)
def test_what_cannot_be_is_answered_and_no_list_is_written(node: CniNode, facts: dict[str, str], words: str) -> None:
    with_controller(node)
    node.write_facts(**facts)
    assert words in node.setup("--wait", "0", code=1)
    assert words in node.answer("missing")
    assert node.answer("ready") == ""
    assert not node.list.exists()
    node.write_facts()
    node.setup()
    assert (node.missing(), node.list.exists()) == ("", True)


def test_addresses_come_back_where_their_bridge_is_gone(node: CniNode) -> None:
    """The set-up ended before it made the bridge, or somebody removed it."""
    with_controller(node)
    before, network = node.machine.everything(), node.network()
    node.setup("--underlay", UPLINK)
    node.machine.vsctl("del-br", "br-ul")
    node.undo()
    assert (node.machine.everything(), node.network()) == (before, network)


def test_the_underlay_moves_comes_again_after_a_boot_and_goes_back(node: CniNode) -> None:
    with_controller(node)
    before, network, run = node.machine.everything(), node.network(), node.machine.run
    node.setup("--underlay", UPLINK)
    assert run("ip", "-o", "addr", "show", "dev", UPLINK, "scope", "global") == ""
    own = run("ip", "-o", "addr", "show", "dev", "br-ul", "scope", "global")
    assert "192.0.2.7/24" in own
    assert "2001:db8:2::7/64" in own
    assert "0a:58:c0:00:02:07" in run("ip", "-br", "link", "show", "dev", "br-ul")
    assert "default via 192.0.2.1 dev br-ul" in run("ip", "route")
    assert "table netdev headgate" in run("nft", "list", "ruleset")
    assert node.machine.vsctl("list-ports", "br-ul").split() == ["headgate-ul-sw"]
    assert "tx-checksumming: off" in run("ethtool", "-k", "headgate-ul")
    assert node.machine.vsctl("get", "Bridge", "br-ul", "datapath_type").strip() == DATAPATH_TYPE
    first = node.network()
    node.setup("--underlay", UPLINK)
    assert node.network() == first
    # A boot: all is lost, and the network configuration gives the interface its addresses or it does not.
    run("nft", "flush", "ruleset")
    run("ip", "link", "del", "headgate-ul")
    run("ip", "addr", "flush", "dev", "br-ul", "scope", "global")
    node.headgate_node("apply")
    assert node.network() == first
    run("nft", "flush", "ruleset")
    run("ip", "addr", "flush", "dev", "br-ul", "scope", "global")
    run("ip", "addr", "add", "192.0.2.7/24", "dev", UPLINK)
    run("ip", "addr", "add", "2001:db8:2::7/64", "dev", UPLINK, "nodad")
    run("ip", "route", "add", "default", "via", "192.0.2.1", "dev", UPLINK)
    node.headgate_node("apply")
    assert node.network() == first
    node.undo()
    assert node.machine.everything() == before
    assert node.network() == network


def test_managers_are_read_by_a_server_that_was_started_without(node: CniNode) -> None:
    with_controller(node)
    remotes = ("ovs-appctl", "-t", "ovsdb-server", "ovsdb-server/list-remotes")
    from_database = "db:Open_vSwitch,Open_vSwitch,manager_options"
    node.machine.run("ovs-appctl", "-t", "ovsdb-server", "ovsdb-server/remove-remote", from_database)
    node.setup()
    assert from_database in node.machine.run(*remotes).split()
    node.undo()
    assert from_database not in node.machine.run(*remotes).split()


def test_a_move_that_was_interrupted_is_ended_by_the_next_run(node: CniNode) -> None:
    with_controller(node)
    node.setup("--underlay", UPLINK)
    first, run = node.network(), node.machine.run
    run("ip", "addr", "del", "2001:db8:2::7/64", "dev", "br-ul")
    run("ip", "addr", "add", "2001:db8:2::7/64", "dev", UPLINK, "nodad")
    run("ip", "route", "del", "default")
    node.headgate_node("underlay")
    node.headgate_node("apply")
    assert node.network() == first


def fragments(node: CniNode) -> tuple[str, ...]:
    said = node.machine.run("ovs-appctl", "dpctl/ipf-get-status", "netdev@ovs-netdev")
    return tuple(re.findall(r"(?:min v4 frag size|max num frags \(v4/v6\)): (\d+)", said))


def checks_sequences(node: CniNode) -> bool:
    return "enabled" in node.machine.run("ovs-appctl", "dpctl/ct-get-tcp-seq-chk", "netdev@ovs-netdev")


@userspace_only
def test_conntrack_takes_all_sequence_numbers_until_that_is_undone(node: CniNode) -> None:
    with_controller(node)
    assert checks_sequences(node)
    node.setup()
    assert not checks_sequences(node)
    node.headgate_node("apply")
    node.headgate_node("clear")
    assert checks_sequences(node)


@userspace_only
def test_a_restart_of_the_switch_costs_nothing_after_the_next_apply(node: CniNode) -> None:
    with_controller(node)
    node.setup()
    before = node.network()
    pid = int((node.machine.folder / "ovs-vswitchd.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the end of ovs-vswitchd")
    node.machine.start_switch()
    assert node.network() == before
    assert fragments(node) == ("1000", "1200")
    assert checks_sequences(node)
    node.headgate_node("apply")
    assert not checks_sequences(node)
    assert fragments(node) == ("5000", "400")
    assert node.network() == before


@kernel_only
def test_the_kernel_keeps_more_fragments_after_a_boot_too(node: CniNode) -> None:
    key = "net.netfilter.nf_conntrack_frag6_high_thresh"
    with_controller(node)
    node.setup()
    node.machine.run("sysctl", "-q", "-w", f"{key}=4194304")
    node.headgate_node("apply")
    assert node.machine.run("sysctl", "-n", key).strip() == "67108864"
    node.undo()
    assert node.machine.run("sysctl", "-n", key).strip() == "4194304"


def test_an_interface_is_taken_only_when_the_program_is_there(node: CniNode) -> None:
    """Else its addresses would wait for a program that could not be installed."""
    with_controller(node)
    before = node.machine.everything()
    node.sbin.write_text("a file where the folder should be")
    node.setup("--underlay", UPLINK, code=1)
    now = node.machine.everything()
    assert [now[key] for key in ("Port", "addresses", "routes")] == [
        before[key] for key in ("Port", "addresses", "routes")
    ]
    node.sbin.unlink()
    node.setup("--underlay", UPLINK)
    node.undo()
    assert node.machine.everything() == before


def test_what_is_written_is_for_root_alone_to_change(node: CniNode) -> None:
    with_controller(node)
    before = os.umask(0)
    try:
        node.setup()
    finally:
        os.umask(before)
    written = [node.machine.state, *node.machine.state.rglob("*"), node.list, node.run_dir, *map(Path, node.files())]
    assert not [path for path in written if path.stat().st_mode & 0o022 and not path.is_symlink()]


def test_the_undo_removes_what_the_controller_wrote_and_pods_left(node: CniNode) -> None:
    with_controller(node)
    node.setup()
    node.machine.vsctl("add-port", "br-int", "headgate-tun", "--", "set", "Interface", "headgate-tun", "type=geneve",
                       "options:remote_ip=flow")  # fmt: skip
    node.machine.vsctl("set", "Bridge", "br-int", "external_ids:kept=yes")
    for folder in ("ipam/headgate", "attachments"):
        (node.run_dir / folder).mkdir(parents=True)
        (node.run_dir / folder / "left").write_text("")
    node.undo()
    assert node.machine.vsctl("get", "Bridge", "br-int", "external_ids").strip() == "{kept=yes}"
    assert node.machine.vsctl("list-ports", "br-int").strip() == ""
    assert not node.run_dir.exists()


def test_from_the_bundle_alone(node: CniNode) -> None:
    """The one file that `headgate node bundle` writes sets up the node, and undoes it."""
    from node.bundle import pack, read_sources, write_file

    bundle = node.machine.folder / "headgate-node"
    write_file(bundle, pack(read_sources()))
    with_controller(node)
    before, network, files = node.machine.everything(), node.network(), node.files()
    arguments = ("setup", "--datapath", DATAPATH_TYPE, "--controller", "198.51.100.1", "--name", "n1", "--cni")
    done = node.machine.script(bundle, *arguments, **node.env)
    assert done.returncode == 0, done.stderr
    assert node.answer("ready") == "r1"
    done = node.machine.script(bundle, "undo", **node.env)
    assert done.returncode == 0, done.stderr
    assert (node.machine.everything(), node.network(), node.files()) == (before, network, files)


def test_the_plugin_applies_a_revision_that_has_changed(node: CniNode) -> None:
    """STATUS and ADD of the plugin, as the container runtime calls them."""
    with_controller(node)
    node.setup()
    listed = json.loads(node.list.read_text())
    text = json.dumps({"cniVersion": "1.1.0", "name": listed["name"], **listed["plugins"][0]})

    def status() -> str:
        plugin = node.bin / "headgate"
        return node.machine.script(plugin, given=text, CNI_COMMAND="STATUS", CNI_PATH=str(node.bin)).stdout

    assert status() == ""
    node.write_facts(service_cidrs="10.99.0.0/16", revision="r2")
    assert status() == ""
    assert "10.99.0.0/16 via 169.254.72.1" in node.network()["routes"]
    assert node.answer("ready") == "r2"
    node.write_facts(node_ips="192.0.2.99", revision="r3")
    assert "no interface has the address 192.0.2.99" in json.loads(status())["msg"]
    assert "192.0.2.99" in node.answer("missing")
