"""What the userspace datapath takes of IPv4 fragments.

Open vSwitch does not save these two settings: deploy/node.sh makes them first and keeps the earlier ones, and `apply`
makes them again after each start of ovs-vswitchd.
"""

from __future__ import annotations

import os
import sys

from node.errors import NodeError
from node.host_programs import run
from node.host_settings import Settings

DATAPATH = "netdev@ovs-netdev"
LEAST, MOST = "400", "5000"  # bytes of a fragment, and fragments that wait: as in deploy/node.sh
_COMMANDS = (("dpctl/ipf-set-min-frag", DATAPATH, "v4", LEAST), ("dpctl/ipf-set-max-nfrags", DATAPATH, MOST))


def take(settings: Settings) -> None:
    """Have the datapath take small fragments. An Open vSwitch that refuses goes on as it is; standard error says so."""
    for command in _COMMANDS:
        try:
            run(["ovs-appctl", *command], env={"OVS_RUNDIR": os.path.dirname(settings.ovsdb)})
        except NodeError as error:
            sys.stderr.write(f"headgate-node: small fragments may be dropped: {error}\n")
            return
