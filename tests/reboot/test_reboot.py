"""A node of Headgate's own network is there again after a reboot, and after its power was cut at any moment.

The test writes into the node's OVSDB what the controller writes there.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.cni_node import FACTS
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until
from tests.reboot.machine import Machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reboot,
    pytest.mark.timeout(3000),
    pytest.mark.skipif("HEADGATE_REBOOT" not in os.environ, reason="boots a machine: runs with `make reboot-test`"),
]

SEED = int(os.environ.get("HEADGATE_SEED") or random.randrange(10**6))
CUTS = int(os.environ.get("HEADGATE_CUTS") or 3)
SETUP = "sh /root/deploy/node.sh --controller 192.0.2.1 --name n1 --cni --wait 0"
OPTIONS = {"system": "--datapath system", "netdev": "--datapath netdev --underlay eth0"}
ANSWERS = "headgate-node-name headgate-node-ready headgate-node-missing"  # not `hostname`, which Open vSwitch writes

# What a node has, without what each boot makes anew.
EVERYTHING = rf"""
echo -- bridges; for b in $(ovs-vsctl list-br | sort); do
    echo $b $(ovs-vsctl get Bridge $b datapath_type fail_mode other_config) $(ovs-vsctl list-ports $b | sort)
done
echo -- targets; ovs-vsctl --columns target,connection_mode,inactivity_probe list Controller
ovs-vsctl --columns target,connection_mode,inactivity_probe list Manager
echo -- names; for k in {ANSWERS}; do echo $k $(ovs-vsctl --if-exists get Open_vSwitch . external_ids:$k); done
echo -- addresses; ip -br addr show scope global | awk '{{$2 = ""; print}}' | sort
echo -- routes; ip -4 route; ip -6 route show proto static
echo -- neighbours; ip neigh show nud permanent | sort
echo -- settings; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.ipfrag_high_thresh
echo -- nft; nft list ruleset
echo -- files; head -c 10000 /etc/cni/net.d/* /run/headgate/node-revision 2>/dev/null
ls /opt/cni/bin /usr/local/sbin /var/lib/headgate-node 2>/dev/null
echo -- units; systemctl list-unit-files 'headgate*' --no-legend
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    machine.start()
    try:
        for name in ("deploy", "node"):
            machine.give(ROOT / name, f"/root/{name}")
        settle(machine)
        yield machine
    finally:
        machine.cut_power()


def settle(machine: Machine) -> None:
    """Wait until the machine has started all that it starts."""
    machine.run("systemctl is-system-running --wait", code=None)


def everything(machine: Machine) -> str:
    return machine.run(EVERYTHING, code=None)


def set_up(machine: Machine, datapath: str) -> None:
    """Run node.sh, answer as the controller does, and wait until the node is ready."""
    machine.run(f"{SETUP} {OPTIONS[datapath]}")
    until_ready(machine)


def until_ready(machine: Machine) -> None:
    """Answer as the controller does, and wait for the node's unit, whose last step is the configuration list."""
    settle(machine)
    facts = " ".join(f"'external_ids:{key}=\"{value}\"'" for key, value in FACTS.items())
    machine.run(f"ovs-vsctl set Bridge br-int {facts}")
    ready = "test -e /run/headgate/node-revision && systemctl show -P SubState headgate-node | grep -qx exited; echo $?"
    until(
        lambda: machine.run(ready).strip() == "0",
        lambda: machine.run("journalctl -u headgate-node --no-pager | tail -n 20; ovs-vsctl list Open_vSwitch", None),
        120,
    )


@pytest.mark.parametrize("datapath", OPTIONS)
def test_all_is_there_again_after_a_reboot_and_gone_after_the_undo(machine: Machine, datapath: str) -> None:
    bare = everything(machine)
    set_up(machine, datapath)
    node = everything(machine)
    assert "headgate-node-ready r1" in node and "10.244.0.0/16 via 169.254.72.1" in node
    machine.reboot()
    until_ready(machine)
    assert everything(machine) == node
    machine.cut_power()
    machine.start()
    until_ready(machine)
    assert everything(machine) == node
    machine.run("sh /root/deploy/node-undo.sh")
    assert everything(machine) == bare
    machine.reboot()
    settle(machine)
    assert everything(machine) == bare


@pytest.mark.parametrize("datapath", OPTIONS)
def test_what_a_cut_interrupts_is_completed_by_the_next_run(
    machine: Machine, datapath: str, record_property: Callable[[str, object], None]
) -> None:
    """The moments are by HEADGATE_SEED. What node.sh and the undo find on the disk is what they had written by then."""
    record_property("counted", f"{2 * CUTS} cuts, SEED={SEED}")
    chance = random.Random(f"{SEED} {datapath}")
    bare = everything(machine)
    took = time.monotonic()
    set_up(machine, datapath)
    took = time.monotonic() - took
    node = everything(machine)
    for undo in [False, True] * CUTS:
        words = "sh /root/deploy/node-undo.sh" if undo else f"{SETUP} {OPTIONS[datapath]}"
        machine.run(f"({words}) >/root/interrupted 2>&1 &")
        time.sleep(chance.uniform(0, took))
        machine.cut_power()
        machine.start()
        settle(machine)
        if undo:
            machine.run("sh /root/deploy/node-undo.sh")
            assert everything(machine) == bare
        else:
            set_up(machine, datapath)
            assert everything(machine) == node
