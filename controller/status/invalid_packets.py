"""The messages on pods that send mostly invalid packets: likely cause, port, and the command that fixes it.

When a pod does: see `reconcile.invalid_packets`. What else to do: see docs/troubleshooting.md.
"""

from __future__ import annotations

from typing import NamedTuple

from controller.reconcile.invalid_packets import InvalidReason, InvalidTraffic
from controller.reconcile.reconciler import Reconciler
from flows.bridge.state import USERSPACE_DATAPATHS, BridgeState

MAX_SENDERS_NAMED = 5  # pods in a log line
BEGAN = "pods send mostly invalid packets, which are dropped; see headgate status"
ENDED = "pods no longer send mostly invalid packets"


class InvalidSendersChange(NamedTuple):
    """A log line: whether pods began or ended to send mostly invalid packets, and which, the first few by name."""

    began: bool
    pods: str


def invalid_senders_changes(reconciler: Reconciler, dpid: int) -> list[InvalidSendersChange]:
    """The changes at a switch since the last call: at most one for `began` and one for ended."""
    switch, name = reconciler.switches.get(dpid), reconciler.bridge_of(dpid)
    if switch is None or name is None:
        return []
    plan = reconciler.world.plan_of(name)
    pods = {one.ofport: str(one.pod) for one in plan.binding.pods} if plan else {}
    found = []
    for began, ofports in zip((True, False), switch.invalid.take_changes(), strict=True):
        if ofports:
            named = [pods.get(ofport, f"port {ofport}") for ofport in ofports]
            more = [f"and {len(named) - MAX_SENDERS_NAMED} more"] if len(named) > MAX_SENDERS_NAMED else []
            found.append(InvalidSendersChange(began, ", ".join(named[:MAX_SENDERS_NAMED] + more)))
    return found


def invalid_reason_text(invalid: InvalidTraffic, bridge: BridgeState, interface: str) -> str:
    """Why packets of the pod behind an interface are invalid, and what to do."""
    userspace = bridge.datapath_type in USERSPACE_DATAPATHS
    begin = f"{invalid.sent.invalid:,} of the last {invalid.sent.all:,} packets that it sent were dropped as invalid: "
    mend = (
        f"run `ethtool -K eth0 tx off` in its network namespace on {bridge.node or bridge.ovsdb} "
        f"(the pod's end of {interface})"
    )
    if invalid.reason is InvalidReason.BROKEN:
        if userspace:
            return f"{begin}their checksums are wrong: it leaves them to offload hardware that does not exist: {mend}"
        return f"{begin}the pod sends them with wrong checksums or lengths through {interface}"
    causes = "they do not fit conntrack's state: out of the TCP window, opened elsewhere, or routed asymmetrically"
    if userspace:
        offload = "it leaves checksums to offload hardware that does not exist"
        return f"{begin}{offload}: {mend}; if that does not help, {causes}"
    return f"{begin}{causes}, see docs/troubleshooting.md#invalid-packets; port {interface}"
