"""How the userspace datapath's conntrack treats TCP.

It drops segments whose sequence numbers do not fit the connection, as it knows it. But a client may connect from one
port to an endpoint directly and through a Service, one after the other, and to the endpoint both are the same
connection. While the endpoint still remembers the first one (state TIME_WAIT), it answers the second one's SYN with an
ACK of the first, and the client's reset of that opens the way. Dropped, the connection would time out. So sequence
numbers are not checked; ports bind addresses, so nobody else can send in a connection's name. The kernel's conntrack
lets such an ACK pass.

Open vSwitch does not save the setting: `apply` makes it again after each start of ovs-vswitchd.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from node.errors import NodeError
from node.host_programs import run
from node.host_settings import Settings

DATAPATH = "netdev@ovs-netdev"


def end_sequence_check(settings: Settings, keep: Callable[[], None]) -> None:
    """Have conntrack take all sequence numbers; `keep` saves that it did not before. An Open vSwitch that refuses goes
    on as it is; standard error says so."""
    try:
        if "enabled" not in _ask(settings, "dpctl/ct-get-tcp-seq-chk"):
            return
        settings.checked_sequences = True
        keep()
        _ask(settings, "dpctl/ct-disable-tcp-seq-chk")
    except NodeError as error:
        sys.stderr.write(f"headgate-node: some connections through Services may time out: {error}\n")


def restore_sequence_check(settings: Settings) -> None:
    """Have conntrack check again if it did before. An Open vSwitch that is gone is passed over."""
    if settings.checked_sequences:
        settings.checked_sequences = False
        try:
            _ask(settings, "dpctl/ct-enable-tcp-seq-chk")
        except NodeError:
            return


def _ask(settings: Settings, command: str) -> str:
    return run(["ovs-appctl", command, DATAPATH], env={"OVS_RUNDIR": os.path.dirname(settings.ovsdb)})
