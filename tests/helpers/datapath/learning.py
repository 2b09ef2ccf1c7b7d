"""Learn actions for tests."""

from __future__ import annotations

from flows.openflow.actions import Learn, Load
from flows.pipeline.pod_limits import sctp_reply
from flows.pipeline.registers import SCTP_ASSOCIATION


def learn_reply(
    version: int, association: int = 1, cookie: int = 0, limit: int = 100, table: int = 25, idle: int = 600
) -> Learn:
    """Learn the reverse of this SCTP packet, at priority 100; the learned flow loads `association`."""
    return Learn(table, 100, cookie, idle, limit, sctp_reply(version), (Load(SCTP_ASSOCIATION, association),))
