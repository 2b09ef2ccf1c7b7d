"""Cache marks: flows that no packet matches, and that make a switch delete what it cached before its flows changed.

Open vSwitch caches its decisions as megaflows. When OpenFlow flows change, it changes the actions of a megaflow in
place, unless the new flows look at a bit that the megaflow does not include: then it deletes the megaflow. On the
userspace datapath before 2.17.8, 3.0.5, 3.1.3 and 3.2.0 a change in place looks the megaflow up by a packet instead of
its identity. It may change another megaflow that overlaps, and the right one keeps its old actions as long as packets
arrive: allowed traffic stays denied, or the reverse (OVS commit "dpif-netdev: Fix dpif_netdev_flow_put").

So on these versions every bundle moves a mark: a flow above all others in each table where packets enter, which looks
at one bit of pkt_mark that is never set, and at another bit in the next bundle. See docs/adr/0015.

Every userspace datapath has a second error. It goes through its megaflows after a change of flows, and deletes some
meanwhile. When they become few, their hash table shrinks, and it misses others. A missed megaflow keeps its old verdict
until the next time, half a second later. So a mark is written again soon after each bundle: then the datapath goes
through its megaflows at once. That is what a mark that stays in its place is for.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache

from flows.bridge.state import USERSPACE_DATAPATHS
from flows.openflow import match_fields as oxm
from flows.openflow.flow import Flow
from flows.openflow.match import masked, match
from flows.pipeline import tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.priorities import CACHE_MARK

MARK_COUNT = oxm.PKT_MARK.width
# Where a packet enters the pipeline: from a port, and again whenever conntrack gives it back.
ENTRANCES = (tables.CLASSIFY, tables.DESTINATION, tables.DIRECTION, tables.OUTPUT)
# The first release of each series with the fix.
_FIXED_RELEASES = {(2, 17): 8, (3, 0): 5, (3, 1): 3}
_FIXED_SINCE = (3, 2)
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", re.ASCII)


class MarkUse(enum.Enum):
    """How a switch's mark is used: not at all; it stays, and is written again; or each bundle also moves it."""

    NONE = "none"
    STAYS = "stays"
    MOVES = "moves"


@lru_cache(maxsize=64)  # called at each change of each bridge; there are few versions
def mark_use(datapath_type: str, ovs_version: str) -> MarkUse:
    """What a switch needs so that no outdated megaflow stays. A version that cannot be parsed counts as old."""
    if datapath_type not in USERSPACE_DATAPATHS:
        return MarkUse.NONE
    found = _VERSION.match(ovs_version)
    if found is None:
        return MarkUse.MOVES
    major, minor, patch = map(int, found.groups())
    # Series that are neither in the table nor newer never got the fix.
    fixed = (major, minor) >= _FIXED_SINCE or patch >= _FIXED_RELEASES.get((major, minor), patch + 1)
    return MarkUse.STAYS if fixed else MarkUse.MOVES


def mark_flows(number: int) -> tuple[Flow, ...]:
    """The mark of this number, from 0 to `MARK_COUNT` - 1: one flow for each entrance."""
    bit = 1 << number
    return tuple(
        Flow(table.number, CACHE_MARK, match(masked(oxm.PKT_MARK, bit, bit)), (), None, cookie(CookieKind.PIPELINE))
        for table in ENTRANCES
    )
