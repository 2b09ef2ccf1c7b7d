"""The commands of the CNI as a runtime calls them, on a node with a real Open vSwitch."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.lab.datapath_choice import KERNEL
from tests.helpers.node.cni_node import NOTHING, CniNode, cni_node, finish, run_ip

pytestmark = [pytest.mark.lab, pytest.mark.switch, pytest.mark.process]
GATEWAY_MAC = "0a:48:47:00:00:01"


@pytest.fixture(scope="module")
def shared() -> Iterator[CniNode]:
    with cni_node() as node:
        yield node


@pytest.fixture
def node(shared: CniNode) -> Iterator[CniNode]:
    """The node, on which nothing is left by the test before."""
    yield shared
    shared.controller.marking.set()
    for name in list(shared.containers):
        answer = shared.call("DEL", name)
        assert answer.status == 0, answer
        shared.end_container(name)
    assert shared.left() == NOTHING


def ids(node: CniNode, port: str) -> dict[str, str]:
    text = node.ovs.get("Interface", port, "external_ids").strip("{}")
    return dict(pair.partition("=")[::2] for pair in text.split(", "))


def test_add_gives_a_pod_all_it_needs(node: CniNode) -> None:
    answer = node.call("ADD")
    assert answer.status == 0, answer
    port, pod = answer.result["interfaces"]
    assert node.ports() == [port["name"]] and pod["sandbox"] == str(node.container("c1"))
    four, six = (entry["address"].partition("/")[0] for entry in answer.result["ips"])
    assert [entry["address"] for entry in answer.result["ips"]] == [f"{four}/32", f"{six}/128"]
    assert four.startswith("10.244.1.") and six.startswith("fd00:10:244:1::")
    there = node.container("c1")
    link = run_ip(there, "-d", "link", "show", "eth0")[0]
    assert (link["address"], link["mtu"], link["operstate"]) == (pod["mac"], 1450, "UP")
    assert [r["gateway"] for r in run_ip(there, "route", "show", "default")] == ["10.244.1.1"]
    assert [r["gateway"] for r in run_ip(there, "-6", "route", "show", "default")] == ["fd00:10:244:1::1"]
    neighbours = run_ip(there, "neigh")
    assert {(n["dst"], n["lladdr"], *n["state"]) for n in neighbours} == {
        ("10.244.1.1", GATEWAY_MAC, "PERMANENT"),
        ("fd00:10:244:1::1", GATEWAY_MAC, "PERMANENT"),
    }
    assert ids(node, port["name"]) == {
        "attached-mac": pod["mac"], "headgate-ifname": "eth0", "headgate-installed": "true", "headgate-sandbox": "c1",
        "iface-id": "x/c1", "iface-id-ver": "uid-c1", "ip_addresses": f"{four} {six}", "pod-name": "c1",
        "pod-namespace": "x",
    }  # fmt: skip
    tool = subprocess.run(
        ["nsenter", f"--net={there}", "ethtool", "-k", "eth0"], capture_output=True, text=True, check=False
    )
    assert tool.returncode != 0 or ("tx-checksumming: off" in tool.stdout) != KERNEL
    assert node.call("CHECK", prevResult=answer.result).status == 0


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_results_of_each_version(node: CniNode, version: str) -> None:
    result = node.call("ADD", version=version).result
    assert result["cniVersion"] == version
    assert [entry.get("version") for entry in result["ips"]] == (["4", "6"] if version < "1" else [None, None])
    assert [one.get("mtu") for one in result["interfaces"]] == ([1450, 1450] if version == "1.1.0" else [None, None])
    assert node.call("DEL", version=version, prevResult=result).status == 0


def test_delete_may_be_repeated_and_need_neither_namespace_nor_bridge(node: CniNode) -> None:
    assert node.call("ADD").status == 0
    assert node.call("DEL").status == 0 and node.left() == NOTHING
    assert node.call("DEL").status == 0 and node.call("DEL", "never").status == 0
    assert node.call("ADD", "c2").status == 0
    node.end_container("c2")
    assert node.call("DEL", "c2", netns_path="").status == 0 and node.left() == NOTHING
    assert node.call("ADD").status == 0
    node.ovs.vsctl("del-br", "br-int")
    assert node.call("DEL").status == 0
    refused = node.call("ADD")
    assert refused.result["code"] == 11 and "no bridge br-int" in refused.result["msg"]
    node.add_bridge()
    assert node.left() == NOTHING


def test_a_second_add_is_refused_and_harms_nothing(node: CniNode) -> None:
    first = node.call("ADD")
    second = node.call("ADD")
    assert second.result["code"] == 4 and "eth0" in second.result["msg"]
    assert node.call("CHECK", prevResult=first.result).status == 0


def test_two_adds_at_once_for_one_container(node: CniNode) -> None:
    both = [finish(process) for process in [node.start("ADD", "c1"), node.start("ADD", "c1")]]
    assert sorted(answer.status for answer in both) == [0, 1]
    done = next(answer for answer in both if answer.status == 0)
    assert node.call("CHECK", prevResult=done.result).status == 0


def test_an_interface_of_somebody_else_stays(node: CniNode) -> None:
    there = node.container("c1")
    subprocess.run(["nsenter", f"--net={there}", "ip", "link", "add", "eth0", "type", "bridge"], check=True)
    assert node.call("ADD").result["code"] == 4
    assert node.call("DEL").status == 0
    names = [one["ifname"] for one in run_ip(there, "link")]
    assert [name for name in names if name != "sit0"] == [
        "lo",
        "eth0",
    ] and node.left() == NOTHING  # some kernels make sit0


def test_a_full_range(node: CniNode) -> None:
    node.ovs.vsctl("set", "Bridge", "br-int", "external_ids:headgate-pod-cidrs=10.9.9.0/30")
    assert node.call("ADD").status == 0
    before = node.left()
    full = node.call("ADD", "c2")
    assert full.result["code"] == 11 and "no IP addresses available" in full.result["msg"]
    assert node.left() == before
    # A node that gets another range still releases the addresses of the old one.
    node.ovs.vsctl("set", "Bridge", "br-int", 'external_ids:headgate-pod-cidrs="10.244.1.0/24 fd00:10:244:1::/64"')
    assert node.call("DEL").status == 0 and node.left() == NOTHING


def test_without_its_policy_a_pod_is_not_attached(node: CniNode) -> None:
    node.controller.marking.clear()
    late = node.call("ADD", timeout=1)
    assert late.result["code"] == 11 and "not in force after 1 s" in late.result["msg"], late
    assert "no connection to the controller" in late.result["msg"] and node.left() == NOTHING
    waiting = node.start("ADD", "c1")
    threading.Timer(1.0, node.controller.marking.set).start()
    assert finish(waiting).status == 0


def test_a_port_that_goes_while_it_is_waited_for(node: CniNode) -> None:
    node.controller.marking.clear()
    waiting = node.start("ADD", "c1")
    while not (ports := node.ports()):
        pass
    node.ovs.vsctl("del-port", ports[0])
    answer = finish(waiting)
    assert answer.result["code"] == 11 and "was removed" in answer.result["msg"] and node.left() == NOTHING


def test_the_port_of_an_earlier_sandbox_of_the_pod_goes(node: CniNode) -> None:
    assert node.call("ADD").status == 0
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=c1;K8S_POD_UID=uid-c1"
    again = node.call("ADD", "c2", env={"CNI_ARGS": arguments})
    assert again.status == 0, again
    assert node.ports() == [again.result["interfaces"][0]["name"]]


def test_without_an_ovsdb_delete_is_to_be_tried_again(node: CniNode) -> None:
    assert node.call("ADD").status == 0
    before = node.left()
    refused = node.call("DEL", ovsdb="/nowhere/db.sock")
    assert refused.result["code"] == 11 and "does not answer" in refused.result["msg"]
    left = node.left()
    assert left["addresses"] == before["addresses"] and left["ports"] == before["ports"] and left["links"] == []
    assert node.call("ADD", "c2", ovsdb="/nowhere/db.sock").result["code"] == 11


def test_check_names_what_differs(node: CniNode) -> None:
    result = node.call("ADD").result
    port, there = result["interfaces"][0]["name"], node.container("c1")
    node.ovs.vsctl("set", "Interface", port, "external_ids:ip_addresses=10.244.1.99")
    assert "ip_addresses" in node.call("CHECK", prevResult=result).result["msg"]
    text = " ".join(entry["address"].partition("/")[0] for entry in result["ips"])
    node.ovs.vsctl("set", "Interface", port, f'external_ids:ip_addresses="{text}"')
    for words, again in (
        (("route", "del", "default"), ("route", "add", "default", "via", "10.244.1.1", "dev", "eth0")),
        (("neigh", "del", "10.244.1.1", "dev", "eth0"),
         ("neigh", "add", "10.244.1.1", "lladdr", GATEWAY_MAC, "dev", "eth0")),
        (("link", "set", "eth0", "down"), ()),
    ):  # fmt: skip
        subprocess.run(["nsenter", f"--net={there}", "ip", *words], check=True)
        refused = node.call("CHECK", prevResult=result)
        assert refused.result["code"] == 101 and "eth0" in refused.result["msg"], words
        if again:
            subprocess.run(["nsenter", f"--net={there}", "ip", *again], check=True)
            assert node.call("CHECK", prevResult=result).status == 0
    assert node.call("CHECK").result["code"] == 7
    assert node.call("CHECK", "c2", prevResult=result).result["code"] == 101


def test_garbage_is_what_no_valid_attachment_owns(node: CniNode) -> None:
    for name in ("c1", "c2", "c3"):
        assert node.call("ADD", name).status == 0
    subprocess.run(["ip", "link", "add", "hgp0123456789ab", "type", "bridge"], check=True)
    valid: dict[str, Any] = {"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}
    assert node.call("GC", env={"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": ""}, **valid).status == 0
    left = node.left()
    assert [len(left[kind]) for kind in ("ports", "links", "addresses", "records")] == [1, 1, 2, 1]
    assert ids(node, left["ports"][0])["headgate-sandbox"] == "c2"
    assert node.call("GC").result["code"] == 7 and node.left() == left


def test_garbage_is_not_what_is_at_work(node: CniNode) -> None:
    node.controller.marking.clear()
    waiting = node.start("ADD", "c1")
    while not node.ports():
        pass
    valid: dict[str, Any] = {"cni.dev/valid-attachments": []}
    assert node.call("GC", **valid).status == 0
    node.controller.marking.set()
    assert finish(waiting).status == 0


def test_status_and_version(node: CniNode) -> None:
    assert node.call("STATUS").status == 0
    node.ovs.vsctl("set", "Bridge", "br-int", "external_ids:headgate-network=flat")
    flat = node.call("STATUS").result
    node.ovs.vsctl("set", "Bridge", "br-int", "external_ids:headgate-network=overlay")
    assert flat["code"] == 50 and "--network flat" in flat["msg"]
    assert node.call("STATUS", ovsdb="/nowhere").result["code"] == 50
    assert node.call("STATUS", env={"CNI_PATH": "/nowhere"}).result["code"] == 50
    assert node.call("VERSION").result["supportedVersions"][-1] == "1.1.0"
    assert node.call("STATUS", version="1.0.0").result["code"] == 4


def test_a_node_that_is_not_prepared_takes_no_pod(node: CniNode) -> None:
    state = str(node.folder / "state")
    refused = node.call("ADD", stateDir=state)
    assert refused.result["code"] == 11 and refused.result["msg"], refused
    assert node.call("STATUS", stateDir=state).result["code"] == 50
    (node.run_dir / "node-revision").write_text("1")
    assert node.call("ADD", stateDir=state).status == 0 and node.call("STATUS", stateDir=state).status == 0
    (node.run_dir / "node-revision").write_text("0")
    assert node.call("ADD", "c2", stateDir=state).result["code"] == 11
    assert node.call("DEL", stateDir=state).status == 0 and node.left() == NOTHING


def test_what_the_runtime_may_get_wrong(node: CniNode) -> None:
    assert node.call("ADD", version="9.0.0").result["code"] == 1
    assert node.call("ADD", netns_path="/nowhere").result["code"] == 3
    assert node.call("ADD", env={"CNI_ARGS": ""}).result["code"] == 4
    assert node.call("ADD", env={"CNI_CONTAINERID": "../x"}).result["code"] == 4
    assert node.call("ADD", env={"CNI_IFNAME": "a/b"}).result["code"] == 4
    assert node.call("ADD", prevResult={}).result["code"] == 7
    assert node.call("NOTHING").result["code"] == 4
    assert node.call("ADD", ipam={"type": "nothing"}).result["code"] == 5 and node.left() == NOTHING
