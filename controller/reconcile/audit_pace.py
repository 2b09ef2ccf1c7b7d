"""How often switches are audited: seldomer the more flows all of them have, so that it costs a bounded share of a core.

An audit reads all flows of a switch, though mostly nothing differs: what something else changes there is reported at
once. So what audits cost follows from the flows that are read in a second, and these are bounded here. The interval is
whole minutes, the same for all switches: a change of some flows must not move the times of all audits.

Example: 500 switches of 4,000 flows are 2,000,000 flows. At 10,000 a second they are read within 200 s, so each switch
is audited every 4 minutes; up to 600,000 flows it is once a minute.
"""

from __future__ import annotations

import math

AUDIT_SECONDS = 60.0  # between two audits of a switch, and the steps by which that grows
AUDITED_FLOWS = 10_000  # a second, of all switches together


class AuditPace:
    """What all switches have; each tells it."""

    def __init__(self) -> None:
        self._flows: dict[int, int] = {}  # by datapath id
        self._sum = 0

    def note(self, dpid: int, flows: int) -> None:
        """A switch has so many desired flows; 0 for one that is not served."""
        self._sum += flows - self._flows.pop(dpid, 0)
        if flows:
            self._flows[dpid] = flows

    @property
    def interval(self) -> float:
        """Seconds between two audits of a switch."""
        return AUDIT_SECONDS * max(1, math.ceil(self._sum / (AUDITED_FLOWS * AUDIT_SECONDS)))
