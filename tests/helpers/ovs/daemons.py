"""What private Open vSwitch daemons of tests share: the schema, the environment, and an end with their test."""

from __future__ import annotations

import os
from pathlib import Path

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
# setpriv(1): a daemon ends with the process that started it, so that a test run that is killed leaves none behind.
END_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


def environment(folder: Path) -> dict[str, str]:
    """The environment of daemons and tools whose sockets, logs and database are in `folder` (ovs-vswitchd(8))."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    return {**os.environ, "OVS_RUNDIR": str(folder), "OVS_LOGDIR": str(folder), "OVS_DBDIR": str(folder), "PATH": path}
