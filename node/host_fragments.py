"""What the datapath takes of fragments, and how many may wait for the rest of their packets (docs/adr/0012).

Open vSwitch does not save its settings, and the kernel forgets its own at a boot: deploy/node.sh makes them first and
keeps the earlier ones, and `apply` makes them again.
"""

from __future__ import annotations

import os
import sys

from node import host_sysctl
from node.errors import NodeError
from node.host_programs import run
from node.host_settings import Settings

DATAPATH = "netdev@ovs-netdev"
LEAST, MOST = "400", "5000"  # bytes of a fragment, and fragments that wait: as in deploy/node.sh
_COMMANDS = (("dpctl/ipf-set-min-frag", DATAPATH, "v4", LEAST), ("dpctl/ipf-set-max-nfrags", DATAPATH, MOST))
# Of the kernel's datapath: bytes of memory, for IPv4 and for IPv6.
MEMORY = 67_108_864
MEMORY_KEYS = ("ipv4/ipfrag_high_thresh", "netfilter/nf_conntrack_frag6_high_thresh")


def keep_more() -> None:
    """Have the kernel keep more fragments. One that refuses goes on as it is; standard error says so."""
    try:
        host_sysctl.raise_to(MEMORY, MEMORY_KEYS)
    except NodeError as error:
        sys.stderr.write(f"headgate-node: pods may fill the memory for fragments: {error}\n")


def take(settings: Settings) -> None:
    """Have the userspace datapath take small fragments. An Open vSwitch that refuses goes on as it is; standard error
    says so."""
    for command in _COMMANDS:
        try:
            run(["ovs-appctl", *command], env={"OVS_RUNDIR": os.path.dirname(settings.ovsdb)})
        except NodeError as error:
            sys.stderr.write(f"headgate-node: small fragments may be dropped: {error}\n")
            return
