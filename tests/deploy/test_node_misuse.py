"""deploy/node.sh --cni on machines and with options that cannot be: what is wrong is told, and what to do.

What can be seen beforehand is told before anything is changed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.deploy.cni_node import FACTS, CniNode, made_cni_node, with_controller
from tests.deploy.machine import NODE, UNDO, UPLINK
from tests.helpers.lab.datapath_choice import userspace_only

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture
def node() -> Iterator[CniNode]:
    with made_cni_node() as made:
        yield made


def test_absent_programs_are_named_before_anything_is_changed(node: CniNode) -> None:
    before = node.machine.everything()
    (node.bin / "host-local").unlink()
    assert "containernetworking-plugins" in node.setup(code=1)
    assert node.machine.everything() == before
    assert not node.sbin.exists()


def test_an_old_python_is_told_before_anything_is_changed(node: CniNode) -> None:
    before, shims = node.machine.everything(), node.machine.folder / "shims"
    shims.mkdir()
    (shims / "python3").write_text("#!/bin/sh\nexit 1\n")
    (shims / "python3").chmod(0o755)
    node.env["PATH"] = f"{shims}:{os.environ['PATH']}"
    assert "install Python 3.9 or newer" in node.setup(code=1)
    assert node.machine.everything() == before


def test_a_switch_that_does_not_run_is_told(node: CniNode) -> None:
    os.kill(int((node.machine.folder / "ovs-vswitchd.pid").read_text()), signal.SIGKILL)
    assert "start ovs-vswitchd, then run this again" in node.setup(code=142)
    node.machine.start_switch()
    assert "n1 waits for the controller" in node.setup("--wait", "0")
    node.undo()


def test_options_that_do_not_belong_together_are_refused(node: CniNode) -> None:
    assert "--uplink is for a flat network" in node.setup("--uplink", UPLINK, code=1)
    assert "no interface eth77" in node.setup("--underlay", "eth77", code=1)
    node.machine.run("ip", "link", "add", "link", UPLINK, "name", "over9", "type", "macvlan")
    assert "over9 on eth9 would get no packets" in node.setup("--underlay", UPLINK, code=1)
    node.machine.run("ip", "link", "add", "bond7", "type", "bridge")
    node.machine.run("ip", "link", "set", "wire", "master", "bond7")
    assert "wire is a part of bond7" in node.setup("--underlay", "wire", code=1)
    done = node.machine.script(NODE, "--controller", "198.51.100.1", "--no-masquerade", **node.env)
    assert "need --cni" in done.stderr
    assert "lo is no Ethernet interface" in node.setup("--underlay", "lo", code=1)
    with_controller(node)
    before = node.machine.everything()
    assert "br-int is a bridge of Open vSwitch" in node.setup("--underlay", "br-int", code=1)
    assert node.machine.everything() == before


def test_another_bridge_or_underlay_is_refused_before_anything_is_changed(node: CniNode) -> None:
    """What was moved from the one interface would come back to the other."""
    with_controller(node)
    node.setup("--underlay", UPLINK)
    before = node.machine.everything(), node.network(), node.files()
    assert "the underlay is eth9 already" in node.setup("--underlay", "wire", code=1)
    assert "the bridge is br-int already" in node.setup("--bridge", "br-other", code=1)
    assert (node.machine.everything(), node.network(), node.files()) == before


def test_a_node_of_one_network_becomes_one_of_the_other_only_after_the_undo(node: CniNode) -> None:
    with_controller(node)
    flat = ("--controller", "198.51.100.1", "--name", "n1", "--uplink", UPLINK)
    node.setup()
    before = node.machine.everything(), node.network(), node.files()
    done = node.machine.script(NODE, *flat, **node.env)
    assert (done.returncode, "say --cni, or run node-undo.sh" in done.stderr) == (1, True)
    assert (node.machine.everything(), node.network(), node.files()) == before
    node.undo()
    done = node.machine.script(NODE, *flat, **node.env)
    assert done.returncode == 0, done.stderr
    before = node.machine.everything(), node.network(), node.files()
    assert f"br-int has the uplink {UPLINK} of a flat network: run node-undo.sh" in node.setup(code=1)
    assert (node.machine.everything(), node.network(), node.files()) == before


def test_another_folder_for_plugins_of_containerd_is_told(node: CniNode) -> None:
    """As Debian's package has it."""
    with_controller(node)
    settings = node.machine.folder / "config.toml"
    node.env["CONTAINERD_CONFIG"] = str(settings)
    settings.write_text('[plugins]\n  [plugins."io.containerd.grpc.v1.cri".cni]\n    bin_dir = "/usr/lib/cni"\n')
    assert "run this again with CNI_BIN_DIR=/usr/lib/cni" in node.setup()
    settings.write_text(f'bin_dir = "{node.bin}"\n')
    assert "CNI_BIN_DIR" not in node.setup()


def test_a_list_that_the_runtime_takes_first_is_told(node: CniNode) -> None:
    with_controller(node)
    node.conf.mkdir()
    for name in ("10-containerd-net.conflist", "87-podman-bridge.conflist"):
        (node.conf / name).write_text("{}")
    assert "10-containerd-net.conflist, the first by name" in node.setup()
    assert "10-containerd-net.conflist" in node.answer("missing")
    (node.conf / "10-containerd-net.conflist").unlink()
    (node.conf / "00-multus.conf").write_text(f'{{"type": "multus", "clusterNetwork": "{node.list}"}}')
    node.headgate_node("apply")
    assert (node.answer("ready"), node.missing()) == ("r1", "")


@userspace_only
def test_an_address_that_no_bridge_has_is_told_where_tunnels_need_it(node: CniNode) -> None:
    with_controller(node)
    node.write_facts(network="routed")
    node.setup()
    assert node.answer("missing") == ""
    node.write_facts(cluster_cidrs=FACTS["headgate-pod-cidrs"])  # no other node has pods
    node.headgate_node("apply")
    assert node.answer("missing") == ""
    node.write_facts()
    node.headgate_node("apply")
    assert f"which {UPLINK} has: run node.sh again with --underlay {UPLINK}" in node.answer("missing")
    node.setup("--underlay", "wire")
    assert f"run node-undo.sh, then node.sh with --underlay {UPLINK}" in node.answer("missing")
    node.undo()
    node.write_facts()
    node.setup("--underlay", UPLINK)
    assert (node.answer("ready"), node.answer("missing")) == ("r1", "")


def test_a_full_disk_is_told_and_nothing_is_done_that_could_not_be_undone(node: CniNode) -> None:
    with_controller(node)
    before, network, files = node.machine.everything(), node.network(), node.files()
    with small_disk(node.machine.state) as fill:
        filler = fill()
        assert "undo cannot be written (is the disk full" in node.setup(code=1)
        assert node.machine.everything() == before
        filler.unlink()
        node.setup()
        notes, filler = (node.machine.state / "undo").read_text(), fill()
        done = node.machine.script(UNDO, **node.env)
        assert (done.returncode, "cannot be written (is the disk full" in done.stderr) == (1, True)
        assert (node.machine.state / "undo").read_text() == notes
        filler.unlink()
        node.machine.script(UNDO, **node.env)  # the folder itself stays: it is the disk's
    assert (node.machine.everything(), node.network(), node.files()) == (before, network, files)


@pytest.mark.parametrize("full", ["bin", "net.d", "sbin", "run"])
def test_a_folder_without_room_is_named(node: CniNode, full: str) -> None:
    with_controller(node)
    before, network = node.machine.everything(), node.network()
    folder = node.machine.folder / full
    links = {path.name: path.readlink() for path in folder.glob("*")} if folder.exists() else {}
    shutil.rmtree(folder, ignore_errors=True)
    with small_disk(folder) as fill:
        for name, to in links.items():
            (folder / name).symlink_to(to)
        fill()
        assert f"{folder}/" in node.setup(code=1)
        node.undo()
        assert (node.machine.everything(), node.network()) == (before, network)


@contextmanager
def small_disk(path: Path) -> Iterator[Callable[[], Path]]:
    """A file system of 64 KiB there; what the context gives fills it with a file."""
    path.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)]
    subprocess.run(mounted, check=True)

    def fill() -> Path:
        filler = path / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        return filler

    try:
        yield fill
    finally:
        subprocess.run(["umount", str(path)], check=True)
