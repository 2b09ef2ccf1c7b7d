"""What is said of pods that send mostly invalid packets: the likely cause, where it is, and the command that mends it.

When that is so stands in `reconcile.invalid`; how to go on, in docs/troubleshooting.md.
"""

from __future__ import annotations

from typing import NamedTuple

from controller.reconcile.invalid_packets import InvalidFinding, InvalidReason
from controller.reconcile.reconciler import Reconciler
from flows.bridge.state import USERSPACE_DATAPATHS, BridgeState

MAX_SENDERS_NAMED = 5  # pods, in a line of the log
BEGAN = "pods send mostly invalid packets, which are dropped; see headgate status"
ENDED = "pods have ceased to send mostly invalid packets"


class InvalidSendersChange(NamedTuple):
    """A line of the log: whether something began, which pods it concerns, the first few by name, and how many."""

    began: bool
    pods: str


def invalid_senders_changes(core: Reconciler, dpid: int) -> list[InvalidSendersChange]:
    """What has begun or ended at a switch since it was asked last: two lines at most."""
    switch, name = core.switches.get(dpid), core.bridge_of(dpid)
    if switch is None or name is None:
        return []
    plan = core.world.plan_of(name)
    pods = {one.ofport: str(one.pod) for one in plan.binding.pods} if plan else {}
    found = []
    for began, ofports in zip((True, False), switch.invalid.take_changes(), strict=True):
        if ofports:
            named = [pods.get(ofport, f"port {ofport}") for ofport in ofports]
            more = [f"and {len(named) - MAX_SENDERS_NAMED} more"] if len(named) > MAX_SENDERS_NAMED else []
            found.append(InvalidSendersChange(began, ", ".join(named[:MAX_SENDERS_NAMED] + more)))
    return found


def invalid_reason_text(told: InvalidFinding, bridge: BridgeState, interface: str) -> str:
    """Why packets of the pod behind an interface are invalid, and what to do."""
    userspace = bridge.datapath_type in USERSPACE_DATAPATHS
    begin = f"{told.sent.invalid:,} of the last {told.sent.all:,} packets that it sent were dropped as invalid: "
    mend = (
        f"run `ethtool -K eth0 tx off` in its network namespace on {bridge.node or bridge.ovsdb} "
        f"(the pod's end of {interface})"
    )
    if told.reason is InvalidReason.BROKEN:
        if userspace:
            return f"{begin}their checksums are wrong, left to hardware that is not there: {mend}"
        return f"{begin}their checksums or lengths are wrong as the pod sends them through {interface}"
    words = "conntrack knows their connections otherwise: out of the window, never opened here, or answered another way"
    if userspace:
        return f"{begin}checksums are left to hardware that is not there: {mend}; if that does not help, {words}"
    return f"{begin}{words}, see docs/troubleshooting.md#invalid-packets; port {interface}"
